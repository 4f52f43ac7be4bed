//! Measures what the cache costs, against the engines and clients below, in one run.

mod beside;

use std::env;
use std::process::ExitCode;

use cache_benches::machine::{Lock, load};
use cache_benches::measure::Effort;
use cache_benches::redis::{self, Server};
use cache_benches::results::{Results, folder};
use cache_benches::run::{Measured, Part, Run};
use cache_benches::{apart, codecs, hit, hit_rate, scale, stampede, write_behind};
use tokio::runtime::Runtime;

const USAGE: &str = "\
usage: cache-benches all | PART .. [--quick] [--no-peers] [--trace FILE]..

all             every part; writes benches/RESULTS.md and benches/charts
hit             instructions, allocations and time of a hit in memory, by one thread and by two
redis           get, set, get_or_load and get_many, by 1 to 256 callers
stampede        a cold key, a failing load, a leader that goes away; and four processes
codecs          encoding and decoding
write-behind    what a put costs in each journal, and how many of them become one write
scale           hits on 1,000 to 10,000,000 entries, and the memory of an entry
hit-rates       of made-up requests, and of the traces that are given
peers           hits, stampedes and Redis once more, with the libraries beside this one, which are compiled for it
budget          whether a hit is within its budget of instructions and allocations: fails if it is not

--quick         rough figures
--no-peers      all, but the peers
--trace FILE    requests to measure hit rates and write-behind with: a key in each line, or 32-bit numbers, or a table with
                the columns key (or lbn) and op; perhaps compressed with xz

Each part is a process that has so many seconds. One that has not ended by then is killed, and the others go on.
Counting instructions needs valgrind, and redis, stampede and peers need a redis-server on the PATH.";

const PARTS: [Part; 7] = [
    Part { name: "hit", limits: (480, 300), crates: &["quick_cache", "moka"] },
    Part { name: "redis", limits: (420, 180), crates: &["redis", "tokio"] },
    Part { name: "stampede", limits: (90, 90), crates: &["quick_cache", "redis", "tokio"] },
    Part {
        name: "codecs",
        limits: (120, 60),
        crates: &["serde_json", "postcard", "bincode", "lz4_flex"],
    },
    Part { name: "write-behind", limits: (240, 150), crates: &["redb", "redis", "tokio"] },
    Part { name: "scale", limits: (600, 120), crates: &["quick_cache", "moka"] },
    Part { name: "hit-rates", limits: (300, 120), crates: &["quick_cache", "moka"] },
];

const COMMAND: &str = "cargo run --release -p cache-benches --";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        // What callgrind, and the parts themselves, run in processes of their own.
        ["hits", name, hits] => hit::counted(hit::OWN, name, hits.parse().unwrap_or(0)),
        ["fill", name, entries] => {
            scale::fill(name, entries.parse().unwrap_or(0)).map(|bytes| println!("{bytes}"))
        }
        ["stampede-child", url] => runtime().block_on(stampede::child(url)),
        ["part", arguments @ ..] => {
            apart::end_with_parent();
            Plan::of(arguments)
                .and_then(|plan| plan.parts.iter().try_for_each(|part| plan.measure(part)))
        }
        ["budget"] => hit::check(),
        [] => Err(USAGE.to_owned()),
        _ => Plan::of(&arguments).and_then(|plan| plan.run()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Plan {
    parts: Vec<Part>,
    all: bool,
    peers: bool,
    effort: Effort,
    traces: Vec<String>,
}

impl Plan {
    fn of(arguments: &[&str]) -> Result<Self, String> {
        let mut plan = Self {
            parts: Vec::new(),
            all: false,
            peers: false,
            effort: Effort::full(),
            traces: Vec::new(),
        };
        let mut without = false;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "all" => plan.all = true,
                "peers" => plan.peers = true,
                "--quick" => plan.effort = Effort::quick(),
                "--no-peers" => without = true,
                "--trace" => plan.traces.push((*arguments.next().ok_or(USAGE)?).to_owned()),
                name => {
                    let part = PARTS.iter().find(|part| part.name == name);
                    plan.parts.push(*part.ok_or(USAGE)?);
                }
            }
        }
        if plan.all {
            (plan.parts, plan.peers) = (PARTS.to_vec(), !without);
        }
        Ok(plan)
    }

    /// Runs each part by a process of its own.
    fn run(&self) -> Result<(), String> {
        let mut options: Vec<String> = Vec::new();
        options.extend(self.effort.quick.then(|| "--quick".to_owned()));
        let peers_options = options.clone();
        options.extend(self.traces.iter().flat_map(|trace| ["--trace".to_owned(), trace.clone()]));
        let (mut run, load) = (Run::new(options, self.effort.quick), load());
        let own = env::current_exe().map_err(|e| format!("the path of this program: {e}"))?;
        let lock = Lock::read(&folder().join("../Cargo.lock"));
        let mut parts: Vec<Measured> =
            self.parts.iter().map(|part| run.part(&own, part, COMMAND, &lock)).collect();
        let alone = run.elapsed().as_secs();
        if self.peers {
            run.options = peers_options;
            parts.extend(beside::measure(&run));
        }
        let failed: Vec<&str> = parts
            .iter()
            .filter(|part| part.error.is_some())
            .map(|part| part.name.as_str())
            .collect();
        let failed = match failed.is_empty() {
            true => Ok(()),
            false => Err(format!("not all was measured: {}", failed.join(", "))),
        };
        if self.all {
            let quick = if self.effort.quick { " --quick` (the figures are rough)" } else { "`" };
            let took = run.elapsed().as_secs();
            let took = format!(
                "`{COMMAND} all{quick}, in {took} s, of which {} s for the peers and compiling them",
                took - alone
            );
            let results = Results { parts, load, took };
            results.write(&folder())?;
            eprintln!("written to {}", folder().join("RESULTS.md").display());
        }
        failed
    }

    /// Measures a part in this process.
    fn measure(&self, part: &Part) -> Result<(), String> {
        let effort = self.effort;
        match part.name {
            "hit" => {
                let (mut section, counted) = hit::measure(hit::OWN, effort, "A hit in memory")?;
                section.bars = hit::bars(&counted);
                apart::tell(&section);
                apart::tell(&hit::workers(effort));
            }
            "redis" => {
                let server = Server::start()?;
                runtime().block_on(async {
                    let own = redis::own(&server.url()).await?;
                    apart::tell(&redis::measure(own, effort, "Redis").await?);
                    Ok::<_, String>(())
                })?;
            }
            "stampede" => {
                apart::tell(&runtime().block_on(stampede::measure(stampede::OWN, "A stampede")));
                let server = Server::start()?;
                apart::tell(&runtime().block_on(stampede::processes(&server))?);
            }
            "codecs" => apart::tell(&codecs::measure(effort)),
            "write-behind" => {
                apart::tell(&runtime().block_on(write_behind::coalescing(&self.traces, effort))?);
                apart::tell(&runtime().block_on(write_behind::puts(effort))?);
            }
            "scale" => apart::tell(&scale::measure(effort)?),
            _ => apart::tell(&hit_rate::measure(&self.traces, effort)?),
        }
        Ok::<_, String>(())
    }
}

fn runtime() -> Runtime {
    Runtime::new().expect("the system has threads")
}
