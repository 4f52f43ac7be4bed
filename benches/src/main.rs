//! Measures what the cache costs, against the engines and clients below, in one run.

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use cache_benches::measure::Effort;
use cache_benches::redis::{self, Server};
use cache_benches::report::{Bar, Section};
use cache_benches::results::{Results, folder, load};
use cache_benches::{codecs, hit, hit_rate, scale, stampede};
use tokio::runtime::Runtime;

const USAGE: &str = "\
usage: cache-benches all | PART .. [--quick] [--no-peers] [--trace FILE]..

all             every part, and the peers; writes benches/RESULTS.md and benches/charts
hit             instructions, allocations and time of a hit in memory, by one thread and by two
redis           get, set, get_or_load and get_many, by 1 to 256 callers
stampede        a cold key, a failing load, a leader that goes away; and four processes
codecs          encoding and decoding
scale           hits on 1,000 to 10,000,000 entries, and the memory of an entry
hit-rates       of made-up requests, and of the traces that are given
budget          whether a hit is within its budget of instructions and allocations: fails if it is not

--quick         rough figures, in a minute
--no-peers      without the libraries beside this one, which take minutes to compile
--trace FILE    requests to measure hit rates with: a key in each line, or 32-bit numbers, perhaps compressed with xz

Counting instructions needs valgrind, and redis and stampede need a redis-server on the PATH.";

const PARTS: [&str; 6] = ["hit", "redis", "stampede", "codecs", "scale", "hit-rates"];

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

struct Plan<'a> {
    parts: Vec<&'a str>,
    all: bool,
    peers: bool,
    effort: Effort,
    traces: Vec<String>,
}

impl<'a> Plan<'a> {
    fn of(arguments: &[&'a str]) -> Result<Self, String> {
        let mut plan = Self {
            parts: Vec::new(),
            all: false,
            peers: true,
            effort: Effort::full(),
            traces: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "all" => plan.all = true,
                "--quick" => plan.effort = Effort::quick(),
                "--no-peers" => plan.peers = false,
                "--trace" => plan.traces.push((*arguments.next().ok_or(USAGE)?).to_owned()),
                part if PARTS.contains(&part) => plan.parts.push(part),
                _ => return Err(USAGE.to_owned()),
            }
        }
        if plan.all {
            plan.parts = PARTS.to_vec();
        }
        Ok(plan)
    }

    fn run(&self) -> Result<(), String> {
        let (began, load) = (Instant::now(), load());
        let mut sections = Vec::new();
        for part in &self.parts {
            let measured = self.measure(part)?;
            measured.iter().for_each(|section| println!("{section}"));
            sections.extend(measured);
        }
        if !self.all {
            return Ok(());
        }
        let own = began.elapsed().as_secs();
        let peers = if self.peers { peers(self.effort.quick)? } else { without_peers() };
        println!("{peers}");
        let quick = if self.effort.quick { " (with --quick: the figures are rough)" } else { "" };
        let both = began.elapsed().as_secs();
        let took = format!("{own} s{quick}; {both} s with the peers, and with compiling them");
        let results = Results { sections, peers, load, took };
        results.write(&folder())?;
        eprintln!("written to {}", folder().join("RESULTS.md").display());
        Ok(())
    }

    fn measure(&self, part: &str) -> Result<Vec<Section>, String> {
        eprintln!("measuring: {part}");
        let effort = self.effort;
        Ok(match part {
            "hit" => {
                let (mut section, counts) = hit::measure(hit::OWN, effort, "A hit in memory")?;
                section.bars = hit_bars(&counts);
                let names = [
                    "raw quick_cache",
                    "ReadThrough<MemoryStore>",
                    "raw moka",
                    "ReadThrough<MokaStore>",
                ];
                vec![section, hit::workers(hit::OWN, &names, effort)]
            }
            "redis" => {
                let server = Server::start()?;
                vec![runtime().block_on(async {
                    let own = redis::own(&server.url()).await?;
                    Ok::<_, String>(redis::measure(&own, effort, "Redis").await)
                })?]
            }
            "stampede" => {
                let server = Server::start()?;
                runtime().block_on(async {
                    let one = stampede::measure(stampede::OWN, "A stampede").await;
                    Ok::<_, String>(vec![one, stampede::processes(&server).await?])
                })?
            }
            "codecs" => vec![codecs::measure(effort)],
            "scale" => vec![scale::measure(effort)?],
            _ => vec![hit_rate::measure(&self.traces, effort)?],
        })
    }
}

fn hit_bars(counts: &[cache_benches::callgrind::Counts]) -> Vec<Bar> {
    let instructions = |name: &str| {
        let at = hit::OWN.iter().position(|candidate| candidate.name == name);
        at.map_or(f64::NAN, |at| counts[at].instructions)
    };
    let own = instructions("ReadThrough<MemoryStore>");
    let at = |name: &str| instructions(name);
    let allocations = hit::OWN.iter().position(|c| c.name == "ReadThrough<MemoryStore>");
    let allocations = allocations.map_or(f64::NAN, |at| counts[at].allocations);
    vec![
        Bar::at_most(
            "`ReadThrough<MemoryStore>` to raw quick_cache, instructions",
            own / at("raw quick_cache"),
            1.25,
        ),
        Bar::at_most(
            "`ReadThrough<MemoryStore>` to raw moka, instructions",
            own / at("raw moka"),
            0.35,
        ),
        Bar::at_most("`ReadThrough<MemoryStore>`, allocations of a hit", allocations, 0.0),
        Bar::at_most(
            "`ReadThrough<MokaStore>` to raw moka, instructions",
            at("ReadThrough<MokaStore>") / at("raw moka"),
            1.1,
        ),
    ]
}

/// What the crate of the peers measures. It is a workspace of its own, so cargo builds and runs it.
fn peers(quick: bool) -> Result<String, String> {
    eprintln!("measuring: the peers (compiling them takes minutes, the first time)");
    let manifest = folder().join("peers/Cargo.toml");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--locked", "--manifest-path"]).arg(manifest).arg("--");
    command.arg("all").args(quick.then_some("--quick")).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err("the peers could not be measured (--no-peers does without them)".to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn without_peers() -> String {
    "## The libraries beside this one\n\nNot measured: the run had `--no-peers`.\n".to_owned()
}

fn runtime() -> Runtime {
    Runtime::new().expect("the system has threads")
}
