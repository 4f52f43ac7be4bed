use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What has to be installed for it.
const MISSING: &str = "a redis-server is needed on the PATH. Install it (Debian: apt-get install redis-server; \
    macOS: brew install redis), then run this again.";

/// Runs the server for as long as somebody holds the other end of its input. That end is closed by the system,
/// whichever way a process goes, so one that is killed leaves no server.
const WHILE_HELD: &str = r#"redis-server "$@" & server=$!; read -r _; kill -9 $server; wait"#;

/// A server on a free port of this machine. It ends with the handle, and with this process, even if that is killed.
#[derive(Debug)]
pub struct Server {
    /// The shell that watches the server.
    process: Child,
    port: u16,
}

impl Server {
    /// Starts it, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// What is missing, to be shown.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&["--appendonly", "no"])
    }

    /// Starts it with more arguments.
    ///
    /// # Errors
    ///
    /// What is missing, to be shown.
    pub fn start_with(arguments: &[&str]) -> Result<Self, String> {
        Self::version().ok_or(MISSING)?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = free.map_err(|e| format!("no free port: {e}"))?.port();
        let mut command = Command::new("sh");
        command.args(["-c", WHILE_HELD, "sh"]);
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let mut server = Self { process, port };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Ok(Some(ended)) = server.process.try_wait() {
                return Err(format!("redis-server ended: {ended}"));
            }
            if began.elapsed() > Duration::from_secs(20) {
                return Err("redis-server does not accept connections".to_owned());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The version of the program.
    #[must_use]
    pub fn version() -> Option<String> {
        let output = Command::new("redis-server").arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends when its input does. Killed, it would leave the server.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
