//! Counts instructions and allocations by callgrind, so that a busy machine gives the same figures as a
//! quiet one.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::apart;

/// What has to be installed for it.
pub const MISSING: &str = "valgrind is needed to count instructions. Install it (Debian: apt-get install valgrind; \
    Fedora: dnf install valgrind), then run this again.";

/// What takes longer than this under callgrind hangs: what it counts takes milliseconds without.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a single operation costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Instructions.
    pub instructions: f64,
    /// Calls of the allocator that give memory.
    pub allocations: f64,
}

/// Whether callgrind can be run.
#[must_use]
pub fn is_installed() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// What each of so many operations costs that this program does in `measured`, a function, when it is called with
/// `arguments` and their number. Nothing else is counted: what setting up costs may be different each time.
///
/// # Errors
///
/// What went wrong, to be shown.
pub fn count(arguments: &[&str], operations: usize, measured: &str) -> Result<Counts, String> {
    let total = run(arguments, operations, measured)?;
    if total.instructions == 0.0 {
        return Err(format!("{arguments:?}: callgrind has not seen {measured}"));
    }
    let each = |of: f64| of / operations as f64;
    Ok(Counts { instructions: each(total.instructions), allocations: each(total.allocations) })
}

fn run(arguments: &[&str], operations: usize, measured: &str) -> Result<Counts, String> {
    let own = env::current_exe().map_err(|e| format!("the path of this program: {e}"))?;
    let out = env::temp_dir().join(format!("cache-benches-{}.callgrind", std::process::id()));
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display()));
    // As a pattern, since the compiler may add to the name, before and after.
    command.arg(format!("--toggle-collect=*{measured}*"));
    command.arg(own).args(arguments).arg(operations.to_string());
    let ended = apart::tool(command, PATIENCE).good();
    let profile = fs::read_to_string(&out);
    let _ = fs::remove_file(&out);
    ended.map_err(|error| format!("{arguments:?}: {error}"))?;
    let profile = profile.map_err(|e| format!("{}: {e}", out.display()))?;
    parse(&profile).ok_or_else(|| format!("{arguments:?}: callgrind told no total"))
}

/// The total of instructions, and the calls of the allocator, of a profile.
fn parse(profile: &str) -> Option<Counts> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut instructions, mut allocations, mut allocates) = (None, 0_u64, false);
    for line in profile.lines() {
        if let Some(total) = line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")) {
            instructions = total.trim().parse::<u64>().ok().or(instructions);
        } else if let Some((_, name)) = line.split_once("fn=").filter(|_| line.len() < 4096) {
            // A name is told once, and is a number from then on: `cfn=(12) malloc`, `cfn=(12)`.
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            let name = names.get(id).copied().unwrap_or("");
            allocates = line.starts_with("cfn=") && is_allocator(name);
        } else if let Some(calls) = line.strip_prefix("calls=")
            && allocates
        {
            let calls = calls.split(' ').next().and_then(|calls| calls.parse::<u64>().ok());
            allocations += calls.unwrap_or(0);
        }
    }
    Some(Counts { instructions: instructions? as f64, allocations: allocations as f64 })
}

fn is_allocator(name: &str) -> bool {
    ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_tells_its_instructions_and_the_calls_of_the_allocator() {
        let profile = "fn=(1) main\ncfn=(2) malloc\ncalls=5 0\n3 50\ncfn=(3) free\ncalls=4 0\n3 9\n\
            fn=(4) other\ncfn=(2)\ncalls=2 0\n8 7\nfn=(2)\n1 1\ncfn=(5) _int_malloc\ncalls=7 0\ntotals: 123\n";
        let counts = parse(profile).expect("a total");
        assert_eq!((counts.instructions, counts.allocations), (123.0, 7.0));
    }
}
