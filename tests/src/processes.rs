//! Several processes with a cache each, as a fleet of hosts has them: they share a server, and their source is in the
//! test. `src/bin/cache-worker.rs` is the other side, and `src/bin/cache-tier.rs` where each has a near tier.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Nothing takes as long, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);

/// A process with a cache. It ends when it is dropped, or when this process does.
#[derive(Debug)]
pub struct Worker {
    process: Child,
    input: ChildStdin,
    questions: u64,
    answers: Answers,
    loads: mpsc::UnboundedReceiver<Load>,
}

type Answers = Arc<Mutex<HashMap<u64, oneshot::Sender<String>>>>;

/// A load, or a write, that a [`Worker`] waits for.
#[derive(Debug, PartialEq, Eq)]
pub struct Load {
    number: u64,
    /// Of which key.
    pub key: String,
}

/// An answer that a [`Worker`] has not given yet.
#[derive(Debug)]
#[must_use]
pub struct Answer(oneshot::Receiver<String>);

impl Worker {
    /// Starts the program with a cache for this service on the server at `url`, whose leases live so long.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start(program: &str, url: &str, service: &str, lease: Duration) -> Self {
        Self::start_in(program, url, service, lease, None).await
    }

    /// The same, with values that are fresh for `ttl`, stale for ten minutes after that, and refreshed early with this
    /// `beta`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_refreshing(
        program: &str,
        url: &str,
        service: &str,
        ttl: Duration,
        beta: f64,
    ) -> Self {
        let mut command = Command::new(program);
        let lease = Duration::from_secs(120);
        command.args([url, service, &lease.as_millis().to_string()]);
        command.args([ttl.as_millis().to_string(), beta.to_string()]);
        Self::spawn(command).await
    }

    /// The same, with a library that takes the place of a part of the system's.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_in(
        program: &str,
        url: &str,
        service: &str,
        lease: Duration,
        library: Option<&Path>,
    ) -> Self {
        let mut command = Command::new(program);
        command.args([url, service, &lease.as_millis().to_string()]);
        command.envs(library.map(|library| ("LD_PRELOAD", library)));
        Self::spawn(command).await
    }

    /// Starts a program that talks as the one of the workers does, with these arguments.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_with(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> Self {
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = process.expect("the program of the workers");
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let answers = Answers::default();
        let (loaded, loads) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        std::thread::spawn({
            let answers = Arc::clone(&answers);
            move || listen(output, ready, &answers, &loaded)
        });
        let ready = timeout(LIMIT, is_ready).await.expect("it starts in time");
        ready.expect("it starts; see above");
        Self { process, input, questions: 0, answers, loads }
    }

    /// Asks for something, such as `get 250 key`; see the program.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn ask(&mut self, question: &str) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.questions += 1;
        lock(&self.answers).insert(self.questions, answer);
        self.say(&format!("{} {question}", self.questions));
        Answer(answered)
    }

    /// The next load, or write, that it begins.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn load(&mut self) -> Load {
        let load = timeout(LIMIT, self.loads.recv()).await.expect("a load in time");
        load.expect("the worker has not ended")
    }

    /// A load that it has begun already and nobody has been told of.
    pub fn another_load(&mut self) -> Option<Load> {
        self.loads.try_recv().ok()
    }

    /// Ends a load, with this value.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn answer(&mut self, load: &Load, value: u64) {
        self.say(&format!("= {} {value}", load.number));
    }

    fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).expect("the worker has not ended");
    }

    /// Ends it with SIGKILL.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }

    /// Stops it with SIGSTOP.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.expect("there is a `kill`").success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Answer {
    /// Waits for it.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub async fn come(self) -> String {
        let answer = timeout(LIMIT, self.0).await.expect("an answer in time");
        answer.expect("the worker has not ended")
    }
}

/// For the program of a worker: what it is told, line by line, until its parent has gone.
#[must_use]
pub fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// For the program of a worker: tells its parent.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Without a parent there is nobody to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn listen(
    output: impl BufRead,
    ready: oneshot::Sender<()>,
    answers: &Answers,
    loaded: &mpsc::UnboundedSender<Load>,
) {
    let mut ready = Some(ready);
    for line in output.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        // Nobody may be interested any more.
        let _ = match (&words[..], ready.take()) {
            (["ready"], Some(ready)) => ready.send(()),
            (["?", number, key], _) => {
                let number = number.parse().expect("a number");
                loaded.send(Load { number, key: (*key).to_owned() }).map_err(drop)
            }
            _ => {
                let (number, answer) = line.split_once(' ').expect("a number and an answer");
                let asked = lock(answers).remove(&number.parse().expect("a number"));
                asked.map_or(Ok(()), |asked| asked.send(answer.to_owned()).map_err(drop))
            }
        };
    }
    // Whoever waits for an answer is told that there will be none.
    lock(answers).clear();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
