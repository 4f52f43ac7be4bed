//! What is measured on, and with.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use crate::redis::Server;
use crate::report::Table;

/// All there is to say about the machine.
#[must_use]
pub fn table() -> Table {
    let mut table = Table::new(["", "measured on"]);
    table.row(["processor".to_owned(), processor()]);
    let memory = first_line("/proc/meminfo", "MemTotal").unwrap_or_default();
    table.row(["memory", &memory]);
    table.row(["system", &said("uname", &["-sr"])]);
    table.row(["compiler", &rustc()]);
    table.row(["redis-server", &Server::version().unwrap_or("not installed".to_owned())]);
    table.row(["valgrind", &said("valgrind", &["--version"])]);
    table
}

/// The processor.
#[must_use]
pub fn processor() -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    let model = first_line("/proc/cpuinfo", "model name").unwrap_or("a processor".to_owned());
    format!("{cores} cores of {model}")
}

/// The compiler.
#[must_use]
pub fn rustc() -> String {
    let said = said("rustc", &["--version"]);
    said.split(" (").next().unwrap_or_default().to_owned()
}

/// The date and the time.
#[must_use]
pub fn now() -> String {
    said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// How many processes want to run, on average of the last minute and the last five.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(", ")
}

/// A `Cargo.lock`.
#[derive(Clone, Debug)]
pub struct Lock(String);

impl Lock {
    /// Reads it. One that is not there knows no crate.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        Self(fs::read_to_string(path).unwrap_or_default())
    }

    /// What it says of these crates.
    #[must_use]
    pub fn versions(&self, names: &[&str]) -> String {
        let version = |name: &&str| {
            let (_, rest) = self.0.split_once(&format!("\nname = \"{name}\"\nversion = \""))?;
            Some(format!("{name} {}", rest.split('"').next()?))
        };
        names.iter().filter_map(version).collect::<Vec<_>>().join(", ")
    }
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
