//! The libraries beside this one, whose crate is a workspace of its own: cargo builds it, and then its parts are run as the
//! others are.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cache_benches::apart;
use cache_benches::machine::Lock;
use cache_benches::results::folder;
use cache_benches::run::{Measured, PEERS, PEERS_COMMAND, Run};
use serde_json::Value;

/// How many seconds compiling them may take: on two cores, it is a tenth of it to a third.
const COMPILING: u64 = 2400;

/// Builds and measures them. What can't be is said, and is no reason to stop.
pub(crate) fn measure(run: &Run) -> Vec<Measured> {
    let program = match built(run) {
        Ok(program) => program,
        Err(why) => return vec![Measured::nothing("peers", format!("they do not build: {why}"))],
    };
    let lock = Lock::read(&folder().join("peers/Cargo.lock"));
    PEERS.iter().map(|part| run.part(&program, part, PEERS_COMMAND, &lock)).collect()
}

fn built(run: &Run) -> Result<PathBuf, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--message-format", "json-render-diagnostics"]);
    cargo.arg("--manifest-path").arg(folder().join("peers/Cargo.toml"));
    let limit = Duration::from_secs(COMPILING);
    let outcome = run.step("compiling the peers", COMPILING, || apart::aloud(cargo, limit));
    let output = outcome.good()?;
    let messages = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs =
        messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next_back().ok_or_else(|| "cargo names no program".to_owned())
}
