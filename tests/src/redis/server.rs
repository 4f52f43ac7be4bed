use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Redis server of this test's own. It ends when it is dropped, or when this process does.
#[derive(Debug)]
pub struct Server {
    port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
    running: Option<Running>,
}

/// The server's process, and a shell that kills it and tidies up when its standard input ends, which it
/// does however this process ends.
#[derive(Debug)]
struct Running {
    shell: Child,
    server: u32,
}

const SCRIPT: &str = r#"redis-server "$@" </dev/null >/dev/null 2>&1 & echo $!; cat >/dev/null; kill -9 $!; wait; rm -rf "$DIRECTORY""#;

impl Server {
    /// Starts a server on a free port.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server` on the `PATH`, or if it does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with these arguments.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let started = tokio::task::spawn_blocking(move || {
            for _ in 0..10 {
                // Somebody else may take the port before the server does.
                let mut server = Self::prepare(arguments.clone());
                if server.run() {
                    return server;
                }
            }
            panic!("redis-server does not start; try it by hand");
        });
        started.await.expect("a server")
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Its port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again, empty, at the same place, after a [`kill`](Self::kill).
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        for _ in 0..100 {
            if tokio::task::block_in_place(|| self.run()) {
                return;
            }
        }
        panic!("redis-server does not start again");
    }

    /// Stops it, as if it hung.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let running = self.running.as_ref().expect("the server runs");
        let status = Command::new("kill").args([signal, &running.server.to_string()]).status();
        assert!(status.expect("there is a `kill`").success());
    }

    fn prepare(arguments: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let name = format!("cache-tests-redis-{}-{port}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        Self { port, directory, arguments, running: None }
    }

    /// Whether it has started, here and nowhere else.
    fn run(&mut self) -> bool {
        std::fs::create_dir_all(&self.directory).expect("a directory for temporary files");
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh", "--port", &self.port.to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&self.directory)
            .env("DIRECTORY", &self.directory)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut line = String::new();
        let stdout = shell.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the shell answers");
        let server = line.trim().parse().expect("the number of a process");
        let installed = Command::new("redis-server").arg("--version").output();
        assert!(
            installed.is_ok(),
            "there is no Redis for the tests: install one (`apt-get install redis-server`), or set \
             CACHE_TEST_REDIS_URL to the URL of one"
        );
        self.running = Some(Running { shell, server });
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            match process_at(self.port) {
                Some(process) if process == server => return true,
                Some(_) => return false,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// The number of the process of the server at this port, if it answers.
fn process_at(port: u16) -> Option<u32> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"INFO server\r\nQUIT\r\n").ok()?;
    let mut info = String::new();
    stream.read_to_string(&mut info).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("process_id:"));
    line?.trim().parse().ok()
}
