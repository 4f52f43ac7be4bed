//! What the command line says.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};

use crate::caches::{Scenario, Settings, Store, Strategy};
use crate::run::Limits;
use crate::tiered::By;
use crate::trace::Format;
use crate::workload;

const AFTER: &str = "\
Examples:
  cache-demo                                    everything, in about half a minute
  cache-demo --quick --store memory             a short look at one store
  cache-demo --store redis-json --redis redis://localhost
  cache-demo --strategy no-cache,read-through --zipf 0.7 --writes 30
  cache-demo --trace access.log.gz              what a cache would do for this web server
  cache-demo --json > results.json
  cache-demo crash                              kill -9 in the middle of writing behind
  cache-demo storm                              keys in demand that expire together, and who waits then
  cache-demo tiered                             stale reads of processes with memory in front of Redis

Exit status: 0 if all went well; 1 if a stale value was read, a request failed or the input is bad; 2 for a wrong option.";

/// Replays reads and writes with many concurrent clients against a catalogue in SQLite: without a
/// cache, and through the strategies with the stores. Ends with a table and a report in HTML.
///
/// Nothing has to be installed or running: the database is made in a temporary folder (TMPDIR) and
/// removed at the end, and the stores on Redis are left out if there is no redis-server.
#[derive(Debug, Parser)]
#[command(name = "cache-demo", version, after_help = AFTER, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Only these strategies (comma separated, or given again)
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "NAME",
        help_heading = "What is measured"
    )]
    pub(crate) strategy: Vec<Strategy>,
    /// Only these stores (comma separated, or given again)
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "NAME",
        help_heading = "What is measured"
    )]
    pub(crate) store: Vec<Store>,
    /// The Redis server for the stores that need one, redis://user:password@host:port/database: keys under a name of this run's own are
    /// made there and removed [default: one that is started for the run, if redis-server is on the PATH]
    #[arg(long, value_name = "URL", help_heading = "What is measured")]
    pub(crate) redis: Option<String>,
    /// Clients that send requests at the same time, each its next one when the last is answered
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=2_000), value_name = "N", help_heading = "What is measured")]
    pub(crate) clients: u16,
    /// Seconds for each scenario [default: such that all take half a minute; for a trace, at most 10]
    #[arg(long, value_parser = seconds, value_name = "S", help_heading = "What is measured")]
    pub(crate) seconds: Option<Duration>,
    /// Requests for each scenario, at most; of a trace no more are read [default: no limit; for a trace 1000000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=20_000_000), value_name = "N", help_heading = "What is measured")]
    pub(crate) requests: Option<u64>,
    /// A third of a second for each scenario
    #[arg(long, conflicts_with = "seconds", help_heading = "What is measured")]
    pub(crate) quick: bool,

    /// Entries that a store holds, at most
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000), value_name = "N", help_heading = "The caches")]
    pub(crate) capacity: u32,
    /// Lifetime of an entry: short, so that the entries of a scenario's first moment expire together in its middle
    #[arg(long, default_value = "600ms", value_parser = lifetime, value_name = "TIME", help_heading = "The caches")]
    pub(crate) ttl: Duration,
    /// By how many percent at most a lifetime is shortened at random, which spreads that burst
    #[arg(long, default_value_t = 10.0, value_parser = percent, value_name = "PERCENT", help_heading = "The caches")]
    pub(crate) jitter: f64,
    /// How long it is remembered that there is no such product
    #[arg(long, default_value = "300ms", value_parser = lifetime, value_name = "TIME", help_heading = "The caches")]
    pub(crate) negative_ttl: Duration,
    /// What each answer of SQLite takes longer: it stands for the network between a service and its database, within one data centre. 0s for none
    #[arg(long, default_value = "1ms", value_parser = humantime::parse_duration, value_name = "TIME", help_heading = "The caches")]
    pub(crate) source_delay: Duration,

    /// The same seed makes the same requests in the same order
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "The generated workload")]
    pub(crate) seed: u64,
    /// Products in the catalogue
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000), value_name = "N", help_heading = "The generated workload")]
    pub(crate) products: u64,
    /// Exponent of Zipf's law: how much more popular the popular products are. 0.99 is YCSB's; of 51 production clusters with a published exponent (Yang, Yue, Rashmi: OSDI 2020) the median is 1.2
    #[arg(long, default_value_t = 0.99, value_parser = exponent, value_name = "S", help_heading = "The generated workload")]
    pub(crate) zipf: f64,
    /// Requests that are writes. 5 is YCSB's workload B; of the 54 clusters of the same study the median writes 13, and 20 of them more than 30
    #[arg(long, default_value_t = 5.0, value_parser = percent, value_name = "PERCENT", help_heading = "The generated workload")]
    pub(crate) writes: f64,
    /// Reads for products that do not exist (dead links, crawlers): an assumption, nothing is published
    #[arg(long, default_value_t = 2.0, value_parser = percent, value_name = "PERCENT", help_heading = "The generated workload")]
    pub(crate) missing: f64,
    /// Other products become the popular ones after so many requests: an assumption
    #[arg(
        long,
        default_value = "100000",
        value_name = "N",
        help_heading = "The generated workload"
    )]
    pub(crate) shift_every: NonZeroU64,

    /// Replay this file instead: keys (one a line, or big-endian 32-bit), CSV with a header (key, op), or a web
    /// server's access log; plain, gzip, xz or zstd. Format and compression are recognised by the content. Times in
    /// it are ignored; every key becomes a product
    #[arg(long, value_name = "FILE", help_heading = "Recorded input")]
    pub(crate) trace: Option<PathBuf>,
    /// What the file is written in, if it is not recognised
    #[arg(
        long,
        value_enum,
        requires = "trace",
        value_name = "FORMAT",
        help_heading = "Recorded input"
    )]
    pub(crate) trace_format: Option<Format>,

    /// Where the report goes
    #[arg(
        long,
        default_value = "cache-report.html",
        value_name = "FILE",
        help_heading = "Results"
    )]
    pub(crate) report: PathBuf,
    /// Print the results as JSON instead of a table
    #[arg(long, help_heading = "Results")]
    pub(crate) json: bool,
}

/// What else the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keys in demand expire together while the source is slow: who waits, and what early refresh and stale answers make of it
    Storm {
        /// For how many seconds each of the three ways is measured
        #[arg(long, default_value = "5", value_parser = seconds, value_name = "S")]
        seconds: Duration,
        /// How long the values live
        #[arg(long, default_value = "2s", value_parser = lifetime, value_name = "TIME")]
        ttl: Duration,
        /// What each answer of SQLite takes longer
        #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration, value_name = "TIME")]
        source_delay: Duration,
    },
    /// Kills a child in the middle of writing behind, and shows that what it had acknowledged is in SQLite after a restart
    Crash {
        /// How often
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
        rounds: u32,
        /// The same seed kills after the same numbers of writes
        #[arg(long, default_value_t = 1, value_name = "N")]
        seed: u64,
    },
    /// Several processes with memory in front of one Redis server: one changes data, and the reads of the others are compared with it
    Tiered {
        /// How many processes read
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
        processes: u32,
        /// For how many seconds
        #[arg(long, default_value = "5", value_parser = seconds, value_name = "S")]
        seconds: Duration,
        /// What keeps the copies in memory coherent
        #[arg(long, value_enum, default_value_t = By::Bus, value_name = "WAY")]
        by: By,
        /// The Redis server [default: one that is started for the run, if redis-server is on the PATH]
        #[arg(long, value_name = "URL")]
        redis: Option<String>,
    },
    /// One of the processes
    #[command(hide = true)]
    TieredChild {
        folder: PathBuf,
        service: String,
        by: By,
        #[arg(long)]
        writes: bool,
    },
    /// The child
    #[command(hide = true)]
    CrashChild { folder: PathBuf, first_version: u64 },
}

impl Options {
    /// The options that the program was started with, or the exit status it has to end with.
    pub(crate) fn parse_or_exit_status() -> Result<Self, u8> {
        Self::try_parse().map_err(|error| {
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
                let _ = error.print();
                return 0;
            }
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
            let lines: Vec<&str> = lines
                .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
                .collect();
            let line = lines.join(" ");
            eprintln!("cache-demo: {} (see --help)", line.trim_start_matches("error: "));
            2
        })
    }

    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let mut strategies = self.strategy.clone();
        let mut stores = self.store.clone();
        if strategies.is_empty() {
            strategies.extend(Strategy::value_variants());
        }
        if stores.is_empty() {
            stores.extend(Store::value_variants());
        }
        strategies.dedup();
        stores.dedup();
        Scenario::all(&strategies, &stores)
    }

    pub(crate) fn caches(&self) -> Settings {
        Settings {
            capacity: self.capacity as usize,
            ttl: self.ttl,
            jitter: self.jitter / 100.0,
            negative_ttl: self.negative_ttl,
        }
    }

    pub(crate) fn generated(&self) -> workload::Settings {
        workload::Settings {
            seed: self.seed,
            products: self.products,
            zipf: self.zipf,
            writes: self.writes / 100.0,
            missing: self.missing / 100.0,
            shift_every: self.shift_every.get(),
        }
    }

    /// How many requests of a trace are read.
    pub(crate) fn trace_limit(&self) -> u64 {
        self.requests.unwrap_or(1_000_000)
    }

    /// The limits of each of so many scenarios.
    pub(crate) fn limits(&self, scenarios: usize) -> Limits {
        let time = match self.seconds {
            Some(time) => time,
            None if self.quick => Duration::from_millis(333),
            None if self.trace.is_some() => Duration::from_secs(10),
            None => Duration::from_secs_f64((28.0 / scenarios.max(1) as f64).clamp(0.5, 5.0)),
        };
        Limits { clients: self.clients.into(), requests: self.requests.unwrap_or(u64::MAX), time }
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if time.is_zero() { Err("a lifetime can't be zero".to_owned()) } else { Ok(time) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    in_range(text, 0.01..=86_400.0).map(Duration::from_secs_f64)
}

fn percent(text: &str) -> Result<f64, String> {
    in_range(text, 0.0..=100.0)
}

fn exponent(text: &str) -> Result<f64, String> {
    in_range(text, 0.0..=10.0)
}

fn in_range(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("not within {} and {}", range.start(), range.end()))
    }
}
