//! Measures the libraries beside this one, and this one with them, in one run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- all [--quick]` prints sections of `RESULTS.md`.
//! `cargo run --release -p cache-benches -- all` runs it.

mod hits;
mod remote;
mod stampedes;
mod values;

use std::env;
use std::process::ExitCode;

use cache_benches::callgrind::Counts;
use cache_benches::hit::{self, Candidate};
use cache_benches::measure::Effort;
use cache_benches::redis::{self, Server};
use cache_benches::report::{Bar, Section};
use cache_benches::results::{folder, write_charts};
use cache_benches::stampede;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        // What callgrind runs.
        ["hits", name, hits] => hit::counted(&hits::all(), name, hits.parse().unwrap_or(0)),
        [parts @ ..] if !parts.is_empty() => run(parts),
        _ => Err("usage: cache-peers all | hit | stampede | redis [--quick]".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let effort = match arguments.contains(&"--quick") {
        true => Effort::quick(),
        false => Effort { rounds: 15, ..Effort::full() },
    };
    let wanted = |part| arguments.contains(&part) || arguments.contains(&"all");
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    // Each is printed when it is there: who waits sees how far it is.
    let print = |section: Section| {
        write_charts(&section, &folder())?;
        println!("{section}");
        Ok::<_, String>(())
    };
    if wanted("hit") {
        let candidates = hits::all();
        let (mut section, counts) =
            hit::measure(&candidates, effort, "A hit in memory, and the libraries beside")?;
        section.bars = hit_bars(&candidates, &counts);
        section.notes.push(hits::NOTE.to_owned());
        print(section)?;
    }
    if wanted("stampede") {
        let entrants: Vec<_> = stampede::OWN.iter().chain(stampedes::PEERS).copied().collect();
        let title = "A stampede, and the libraries beside";
        print(runtime.block_on(stampede::measure(&entrants, title)))?;
    }
    if wanted("redis") {
        let server = Server::start()?;
        let measured = runtime.block_on(async {
            let mut entrants = redis::own(&server.url()).await?;
            entrants.extend(remote::peers(&server.url()).await?);
            let title = "Redis, and the libraries beside";
            Ok::<_, String>(redis::measure(&entrants, effort, title).await)
        })?;
        print(measured)?;
    }
    Ok(())
}

/// `ReadThrough` against each of the peers.
fn hit_bars(candidates: &[Candidate], counts: &[Counts]) -> Vec<Bar> {
    let own = candidates.iter().position(|c| c.name == "ReadThrough<MemoryStore>");
    let own = own.map_or(f64::NAN, |at| counts[at].instructions);
    let peers = candidates.iter().zip(counts);
    let peers = peers.filter(|(c, _)| !hit::is_own(c.name) && !c.name.starts_with("raw"));
    peers
        .map(|(peer, counts)| {
            let what = format!("`ReadThrough<MemoryStore>` to {}, instructions", peer.name);
            Bar::at_most(what, own / counts.instructions, 1.0)
        })
        .collect()
}
