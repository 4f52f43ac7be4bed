//! Programs that run for so long and no longer: a part of the benchmarks that hangs ends neither the run nor the others.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::report::Section;

/// What became of a program.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What it has printed, also if it was ended.
    pub output: String,
    /// Why it is not as it should be.
    pub error: Option<String>,
    /// How long it ran.
    pub took: Duration,
}

impl Outcome {
    /// The output of a program that has ended well.
    ///
    /// # Errors
    ///
    /// Why it has not.
    pub fn good(self) -> Result<String, String> {
        self.error.map_or(Ok(self.output), Err)
    }

    /// The sections that it has told of by [`tell`].
    #[must_use]
    pub fn sections(&self) -> Vec<Section> {
        self.output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Hands a section to the process that has started this one by [`part`].
///
/// # Panics
///
/// Never: everything in a section has a form in JSON.
pub fn tell(section: &Section) {
    println!("{}", serde_json::to_string(section).expect("a section has a form in JSON"));
}

/// Runs a part, whose errors are shown at once. It and all that it starts are killed after `limit`. It is to call
/// [`end_with_parent`].
#[must_use]
pub fn part(mut command: Command, limit: Duration) -> Outcome {
    // A group of its own, so that it can be killed with what it has started.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped());
    run(command, limit, Kind::Part)
}

/// Runs a single program, whose errors are shown at once, and kills it after `limit`.
#[must_use]
pub fn aloud(mut command: Command, limit: Duration) -> Outcome {
    command.stdin(Stdio::null());
    run(command, limit, Kind::Aloud)
}

/// Runs a single program quietly, and kills it after `limit`.
#[must_use]
pub fn tool(mut command: Command, limit: Duration) -> Outcome {
    command.stdin(Stdio::null());
    run(command, limit, Kind::Quiet)
}

/// Kills this process, and what it has started, as soon as the process that has started it by [`part`] is gone.
pub fn end_with_parent() {
    thread::spawn(|| {
        // The other end is closed by the system, whichever way that process goes.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        kill_group(std::process::id());
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Part,
    Aloud,
    Quiet,
}

fn run(mut command: Command, limit: Duration, kind: Kind) -> Outcome {
    let began = Instant::now();
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            return Outcome { error: Some(format!("{name}: {error}")), ..Outcome::default() };
        }
    };
    let output = child.stdout.take().map(|output| thread::spawn(|| lines(output, false)));
    let errors =
        child.stderr.take().map(|errors| thread::spawn(move || lines(errors, kind != Kind::Quiet)));
    let ended = wait(&mut child, began + limit);
    if ended.is_none() {
        if kind == Kind::Part {
            kill_group(child.id());
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |lines: Option<thread::JoinHandle<String>>| {
        lines.and_then(|lines| lines.join().ok()).unwrap_or_default()
    };
    let (output, errors) = (text(output), text(errors));
    let error = match ended {
        None => Some(format!("had not ended after {} s, and was killed", limit.as_secs())),
        Some(status) if !status.success() => Some(last_words(&errors, status)),
        Some(_) => None,
    };
    Outcome { output, error, took: began.elapsed() }
}

/// How it has ended; nothing if it has not.
fn wait(child: &mut Child, end: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn lines(from: impl Read, echo: bool) -> String {
    let mut text = String::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if echo {
            eprintln!("{line}");
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// What a program said before it ended badly, in one line.
fn last_words(errors: &str, status: ExitStatus) -> String {
    let said: Vec<&str> = errors
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("note:") && !line.starts_with("=="))
        .collect();
    let last = said[said.len().saturating_sub(2)..].join(" ");
    if last.is_empty() { status.to_string() } else { format!("{last} ({status})") }
}

fn kill_group(id: u32) {
    let group = format!("-{id}");
    let _ = Command::new("kill").args(["-9", "--", &group]).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_part_has_told_before_it_is_killed_is_kept() {
        let section = serde_json::to_string(&Section::new("done", "")).expect("a form in JSON");
        let killed = part(
            shell(&format!("echo '{section}'; sleep 1000 & sleep 1000")),
            Duration::from_secs(2),
        );
        assert_eq!(killed.sections()[0].title, "done");
        assert!(killed.error.expect("it was killed").contains("killed"));
    }

    #[test]
    fn a_program_that_fails_has_its_last_words() {
        let failed = tool(shell("echo because >&2; exit 3"), Duration::from_secs(60));
        let error = failed.good().expect_err("it failed");
        assert!(error.contains("because") && error.contains('3'), "{error}");
        assert!(tool(Command::new("no such program"), Duration::from_secs(60)).error.is_some());
    }
}
