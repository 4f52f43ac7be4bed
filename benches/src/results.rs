//! The file that all of it is written to, and the machine it was measured on.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use crate::redis::Server;
use crate::report::{Bar, Section, Table, bars};

/// The folder of this crate.
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What `RESULTS.md` consists of.
#[derive(Debug, Default)]
pub struct Results {
    /// What was measured here.
    pub sections: Vec<Section>,
    /// What the crate of the peers has measured, as Markdown.
    pub peers: String,
    /// How busy the machine was before anything began.
    pub load: String,
    /// How long it took, in words.
    pub took: String,
}

impl Results {
    /// Writes `RESULTS.md`, and the charts beside it.
    ///
    /// # Errors
    ///
    /// What could not be written.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        self.sections.iter().try_for_each(|section| write_charts(section, folder))?;
        let path = folder.join("RESULTS.md");
        fs::write(&path, self.text()).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "# What it costs\n\n\
             Written by `cargo run --release -p cache-benches -- all`. Ratios come from candidates that took turns in one run on one \
             machine; compare times with each other only. Instructions and allocations do not depend on how busy the machine is.\n\n",
        );
        let _ = writeln!(text, "{}", self.machine());
        let all: Vec<Bar> =
            self.sections.iter().flat_map(|section| section.bars.iter().cloned()).collect();
        let missed = all.iter().filter(|bar| !bar.is_met()).count();
        let _ = write!(
            text,
            "## What is held against a bar\n\n{} of {} are met in this run. The others come first, with the reason.\n\n{}\n",
            all.len() - missed,
            all.len(),
            bars(&all)
        );
        for section in &self.sections {
            let _ = writeln!(text, "{section}");
        }
        text.push_str(self.peers.trim_end());
        text.push('\n');
        text
    }

    fn machine(&self) -> Table {
        let mut table = Table::new(["", "measured on"]);
        let cores = available_parallelism().map_or(1, usize::from);
        let model = first_line("/proc/cpuinfo", "model name").unwrap_or_default();
        table.row(["processor".to_owned(), format!("{cores} cores of {model}")]);
        let memory = first_line("/proc/meminfo", "MemTotal").unwrap_or_default();
        table.row(["memory", &memory]);
        table.row(["system", &said("uname", &["-sr"])]);
        table.row(["load before and after, running", &format!("{}; {}", self.load, load())]);
        table.row(["rustc", &said("rustc", &["--version"])]);
        table.row(["redis-server", &Server::version().unwrap_or_default()]);
        table.row(["valgrind", &said("valgrind", &["--version"])]);
        table.row(["below", &versions(&["quick_cache", "moka", "redis", "tokio"])]);
        table.row(["date", &said("date", &["-u", "+%Y-%m-%d"])]);
        table.row(["took", &self.took]);
        table
    }
}

/// Writes the charts of a section into the folder `charts`.
///
/// # Errors
///
/// What could not be written.
pub fn write_charts(section: &Section, folder: &Path) -> Result<(), String> {
    let folder = folder.join("charts");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    section.charts.iter().try_for_each(|(file, _, svg)| {
        let path = folder.join(file);
        fs::write(&path, svg).map_err(|e| format!("{}: {e}", path.display()))
    })
}

/// How many processes want to run, on average of the last minute and the last five.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(", ")
}

fn first_line(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "not installed".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// What `Cargo.lock` says of these crates.
fn versions(names: &[&str]) -> String {
    let lock = fs::read_to_string(folder().join("../Cargo.lock")).unwrap_or_default();
    let version = |name: &&str| {
        let (_, rest) = lock.split_once(&format!("\nname = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    names.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}
