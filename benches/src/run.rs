//! Runs the parts one after the other, each in a process of its own and within its time.

use std::fmt::{self, Display};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::apart::{self, Outcome};
use crate::machine::{self, Lock};
use crate::report::Section;

/// One part of the benchmarks.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What it is called on the command line.
    pub name: &'static str,
    /// How many seconds it may take, and with `--quick`: several times what it does take.
    pub limits: (u64, u64),
    /// The crates whose versions matter.
    pub crates: &'static [&'static str],
}

/// What a user calls for one of [`PEERS`].
pub const PEERS_COMMAND: &str = "cargo run --release --manifest-path benches/peers/Cargo.toml --";

/// The parts of the crate of the libraries beside.
pub const PEERS: [Part; 3] = [
    Part {
        name: "hit",
        limits: (600, 400),
        crates: &[
            "quick_cache",
            "moka",
            "foyer",
            "amalgam-cache",
            "cached",
            "cachekit-rs",
            "oxcache",
            "hitbox",
            "hitbox-moka",
        ],
    },
    Part {
        name: "stampede",
        limits: (180, 180),
        crates: &[
            "quick_cache",
            "moka",
            "foyer",
            "amalgam-cache",
            "cached",
            "cachekit-rs",
            "oxcache",
            "hitbox",
        ],
    },
    Part {
        name: "redis",
        limits: (600, 300),
        crates: &["redis", "fred", "rustis", "cached", "cachekit-rs", "hitbox-redis"],
    },
];

/// What became of a part.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What it is called on the command line.
    pub name: String,
    /// How it is measured again.
    command: String,
    /// When, where, and what with.
    with: String,
    /// What was measured before it ended, or was ended.
    pub sections: Vec<Section>,
    /// Why that is not all.
    pub error: Option<String>,
    took: Duration,
}

/// How the parts are run.
#[derive(Clone, Debug)]
pub struct Run {
    began: Instant,
    /// What comes after the name of each part.
    pub options: Vec<String>,
    /// Whether there is little time.
    pub quick: bool,
}

impl Run {
    /// A run that begins now.
    #[must_use]
    pub fn new(options: Vec<String>, quick: bool) -> Self {
        Self { began: Instant::now(), options, quick }
    }

    /// Since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Runs a part by `program part NAME`, and prints what it has measured. `command` is what a user calls, and `lock` has
    /// the versions.
    #[must_use]
    pub fn part(&self, program: &Path, part: &Part, command: &str, lock: &Lock) -> Measured {
        let limit = if self.quick { part.limits.1 } else { part.limits.0 };
        let mut apart = Command::new(program);
        apart.args(["part", part.name]).args(&self.options);
        let with = format!(
            "{}, {}, {}, {}",
            machine::now(),
            machine::processor(),
            machine::rustc(),
            lock.versions(part.crates)
        );
        let what = format!("{command} {}", part.name);
        let outcome = self.step(&what, limit, || apart::part(apart, Duration::from_secs(limit)));
        let measured = Measured {
            name: part.name.to_owned(),
            command: self.called(&what),
            with,
            sections: outcome.sections(),
            error: outcome.error,
            took: outcome.took,
        };
        println!("{measured}");
        measured
    }

    /// How it was called. Of a file, the name is enough.
    fn called(&self, what: &str) -> String {
        let name = |option: &String| {
            let name = Path::new(option).file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        [what.to_owned()]
            .into_iter()
            .chain(self.options.iter().map(name))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Does something, and says that it does, and for how long it has.
    pub fn step(&self, what: &str, limit: u64, work: impl FnOnce() -> Outcome) -> Outcome {
        let elapsed = |began: Instant| began.elapsed().as_secs();
        eprintln!("[{:>4} s] {what} (at most {limit} s)", elapsed(self.began));
        let outcome = work();
        let how =
            outcome.error.as_ref().map_or("done".to_owned(), |error| format!("FAILED: {error}"));
        let took = outcome.took.as_secs();
        eprintln!("[{:>4} s] {what}: {how}, in {took} s", elapsed(self.began));
        outcome
    }
}

impl Measured {
    /// A part that could not even begin.
    #[must_use]
    pub fn nothing(name: &str, error: String) -> Self {
        Self {
            name: name.to_owned(),
            command: String::new(),
            with: String::new(),
            sections: Vec::new(),
            error: Some(error),
            took: Duration::ZERO,
        }
    }
}

impl Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            let text = section.to_string();
            // Below the headline, above what the section says of itself.
            let (headline, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
            let took = self.took.as_secs();
            writeln!(
                f,
                "{headline}\n\n*`{}`: {}; {took} s in all.*\n\n{rest}",
                self.command, self.with
            )?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "**The part `{}` did not come to its end:** {error}\n", self.name)?;
        }
        Ok(())
    }
}
