use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::container::{Container, Place};

/// A Redis server of this test's own: a process, or one in a container, as [`Place::of_servers`] says.
/// It ends when it is dropped, or when this process does.
#[derive(Debug)]
pub struct Server {
    machine: Machine,
    port: u16,
    arguments: Vec<String>,
    running: Option<Running>,
}

/// What servers run on that reach each other at the loopback interface, as those of a cluster do.
#[derive(Clone, Debug)]
pub struct Machine(Option<Arc<Container>>);

/// The server's process, and a shell that kills it and tidies up when its standard input ends, which it
/// does however this process ends.
#[derive(Debug)]
struct Running {
    shell: Child,
    server: u32,
}

/// What is said before the end of the input is whether the container is to stay.
const SCRIPT: &str = r#"
    trap '' HUP INT
    mkdir -p "$DIRECTORY"
    redis-server "$@" </dev/null >/dev/null 2>&1 &
    echo $!
    exec 2>/dev/null
    read -r container
    kill -9 $!
    wait
    rm -rf "$DIRECTORY"
    if [ "$CONTAINER$container" = yes ]; then kill 1; fi
"#;

impl Machine {
    /// One with this many ports that are free, for servers that are
    /// [started on it](Server::start_on). This machine, or a container.
    ///
    /// # Panics
    ///
    /// As [`Server::start`].
    pub async fn with_ports(count: usize) -> (Self, Vec<u16>) {
        let made = tokio::task::spawn_blocking(move || Self::with_ports_now(count));
        made.await.expect("a machine")
    }

    fn with_ports_now(count: usize) -> (Self, Vec<u16>) {
        // Held together, so that they are different ones.
        let held: Vec<_> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports = held.iter().map(|port| port.local_addr().expect("an address").port());
        let ports: Vec<_> = ports.collect();
        drop(held);
        let machine = match Place::of_servers() {
            Place::Process => Self(None),
            Place::Container => Self(Some(Arc::new(Container::start(&ports)))),
        };
        (machine, ports)
    }

    /// A shell that runs on it, in its own process group: what a terminal sends to end the tests must not
    /// end it before it has tidied up.
    fn shell(&self, directory: &str) -> Command {
        use std::os::unix::process::CommandExt;

        let mut command = match &self.0 {
            None => {
                let mut command = Command::new("sh");
                command.env("DIRECTORY", directory).env_remove("CONTAINER");
                command
            }
            Some(container) => {
                container.command(&[("DIRECTORY", directory), ("CONTAINER", "yes")], "sh")
            }
        };
        command.process_group(0);
        command
    }

    /// Where a server at this port keeps its files.
    fn directory(&self, port: u16) -> String {
        let name = format!("cache-tests-redis-{}-{port}", std::process::id());
        match self.0 {
            None => std::env::temp_dir().join(name).to_str().expect("a name in Unicode").to_owned(),
            Some(_) => format!("/data/{name}"),
        }
    }
}

impl Server {
    /// Starts a server on a free port.
    ///
    /// # Panics
    ///
    /// If there is no Redis, or if it does not start.
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
                let (machine, ports) = Machine::with_ports_now(1);
                let mut server =
                    Self { machine, port: ports[0], arguments: arguments.clone(), running: None };
                if server.run() {
                    return server;
                }
            }
            panic!("redis-server does not start; try it by hand");
        });
        started.await.expect("a server")
    }

    /// Starts a server with these arguments at one of the ports that the machine was made with; `None` if
    /// it does not start, perhaps because somebody else has taken the port.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_on(machine: &Machine, port: u16, arguments: &[&str]) -> Option<Self> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { machine: machine.clone(), port, arguments, running: None };
        let started = tokio::task::spawn_blocking(move || server.run().then_some(server));
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
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let server = self.running.as_ref().expect("the server runs").server;
        let mut shell = self.machine.shell("");
        let status = shell.args(["-c", &format!("kill -{signal} {server}")]).status();
        assert!(status.expect("there is a shell").success());
    }

    /// Whether it has started, here and nowhere else.
    fn run(&mut self) -> bool {
        let directory = self.machine.directory(self.port);
        let address = if self.machine.0.is_some() { "0.0.0.0" } else { "127.0.0.1" };
        // The name of a configuration file, which has to be the first argument.
        let file = self.arguments.iter().take_while(|argument| !argument.starts_with("--")).count();
        let mut shell = self.machine.shell(&directory);
        let mut shell = shell
            .args(["-c", SCRIPT, "sh"])
            .args(&self.arguments[..file])
            .args(["--port", &self.port.to_string()])
            .args(["--bind", address, "--protected-mode", "no"])
            .args(["--save", "", "--appendonly", "no", "--dir", &directory])
            .args(&self.arguments[file..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut line = String::new();
        let stdout = shell.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the shell answers");
        let server = line.trim().parse().expect("the number of a process");
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
        if let Some(mut input) = self.shell.stdin.take() {
            // The container ends with the machine, which may have other servers, or this one again.
            let _ = input.write_all(b"stays\n");
        }
        let _ = self.shell.wait();
    }
}

/// The number of the process of the server at this port, if it answers.
fn process_at(port: u16) -> Option<u32> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"INFO server\r\nQUIT\r\n").ok()?;
    let mut info = Vec::new();
    // A Sentinel does not know `QUIT`, so this may end by the time limit.
    let _ = stream.read_to_end(&mut info);
    let info = String::from_utf8_lossy(&info);
    let line = info.lines().find_map(|line| line.strip_prefix("process_id:"));
    line?.trim().parse().ok()
}
