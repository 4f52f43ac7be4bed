//! Measures the libraries beside this one, and this one with them, in one run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- all | hit | stampede | redis [--quick]` prints sections of
//! `RESULTS.md`, and `cargo run --release -p cache-benches -- all` runs the same parts to write it.

mod hits;
mod remote;
mod stampedes;
mod values;

use std::env;
use std::process::ExitCode;

use cache_benches::apart;
use cache_benches::hit;
use cache_benches::machine::Lock;
use cache_benches::measure::Effort;
use cache_benches::redis::{self, Server};
use cache_benches::results::folder;
use cache_benches::run::{PEERS, PEERS_COMMAND, Part, Run};
use cache_benches::stampede;

const USAGE: &str = "usage: cache-peers all | hit | stampede | redis [--quick]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let quick = arguments.contains(&"--quick");
    let done = match arguments.as_slice() {
        // What callgrind runs, and what a run of all parts does.
        ["hits", name, hits] => hit::counted(&hits::all(), name, hits.parse().unwrap_or(0)),
        ["part", part, ..] => {
            apart::end_with_parent();
            measure(part, quick)
        }
        [name] | [name, "--quick"] => {
            let wanted = |part: &&Part| *name == "all" || *name == part.name;
            run(&PEERS.iter().filter(wanted).collect::<Vec<_>>(), quick)
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs each part by a process of its own.
fn run(parts: &[&Part], quick: bool) -> Result<(), String> {
    if parts.is_empty() {
        return Err(USAGE.to_owned());
    }
    let own = env::current_exe().map_err(|e| format!("the path of this program: {e}"))?;
    let lock = Lock::read(&folder().join("peers/Cargo.lock"));
    let run = Run::new(quick.then(|| "--quick".to_owned()).into_iter().collect(), quick);
    let errors = parts.iter().filter_map(|part| run.part(&own, part, PEERS_COMMAND, &lock).error);
    let errors: Vec<String> = errors.collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
}

/// Measures a part in this process.
fn measure(part: &str, quick: bool) -> Result<(), String> {
    let effort = match quick {
        true => Effort { counted: 10_000, ..Effort::quick() },
        false => Effort { rounds: 15, counted: 20_000, ..Effort::full() },
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    match part {
        "hit" => {
            let title = "A hit in memory, and the libraries beside";
            let (mut section, counted) = hit::measure(&hits::all(), effort, title)?;
            section.bars = hit::bars_of_peers(&counted);
            section.notes.push(hits::NOTE.to_owned());
            apart::tell(&section);
        }
        "stampede" => {
            let entrants: Vec<_> = stampede::OWN.iter().chain(stampedes::PEERS).copied().collect();
            let title = "A stampede, and the libraries beside";
            apart::tell(&runtime.block_on(stampede::measure(&entrants, title)));
        }
        "redis" => {
            let server = Server::start()?;
            let measured = runtime.block_on(async {
                let mut entrants = redis::own(&server.url()).await?;
                entrants.extend(remote::peers(&server.url()).await);
                let title = "Redis, and the libraries beside";
                redis::measure(entrants, effort, title).await
            })?;
            apart::tell(&measured);
        }
        _ => return Err(USAGE.to_owned()),
    }
    Ok(())
}
