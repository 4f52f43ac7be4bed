use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;

use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerRequest, GenericImage, ImageExt};
use tokio::sync::oneshot;

/// However the process that started it ends, and if nobody tidies up, a container ends after this long.
const LONGEST: &str = "trap 'exit 0' TERM; sleep 7200 & wait";

/// Where the servers of this test process run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As a process, of the `redis-server` on the `PATH`.
    Process,
    /// In a container, of the image that `CACHE_TEST_REDIS_IMAGE` names (`redis:7-alpine` by default).
    Container,
}

impl Place {
    /// What `CACHE_TEST_REDIS` says (`container` or `process`). Without it a container where Docker has
    /// the image, or else a process where there is a `redis-server`, or else a container of an image that
    /// Docker has to pull.
    ///
    /// # Panics
    ///
    /// If there is neither.
    pub fn of_servers() -> Self {
        static PLACE: OnceLock<Place> = OnceLock::new();
        *PLACE.get_or_init(|| match std::env::var("CACHE_TEST_REDIS").as_deref() {
            Ok("container") => Self::Container,
            Ok("process") => Self::Process,
            Ok(other) => panic!("CACHE_TEST_REDIS is `container` or `process`, not `{other}`"),
            Err(_) if succeeds("docker", &["image", "inspect", &image()]) => Self::Container,
            Err(_) if succeeds("redis-server", &["--version"]) => Self::Process,
            Err(_) if succeeds("docker", &["version"]) => Self::Container,
            Err(_) => panic!(
                "there is no Redis for the tests: install one (`apt-get install redis-server`, `brew \
                 install redis`), or start Docker"
            ),
        })
    }
}

/// A container in which servers are started, with these ports of the loopback interface, which are the
/// same inside. It ends when it is dropped; a server in it ends it when this process does.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    end: Option<oneshot::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Container {
    /// Blocks until it has started.
    pub(super) fn start(ports: &[u16]) -> Self {
        let request = request(ports);
        let (started, id) = std::sync::mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        // A runtime of its own: a container outlives the test that starts the server which all share.
        let keeper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let container = request.start().await.unwrap_or_else(|error| {
                    panic!("there is no container of {} for the tests: {error}", image())
                });
                started.send(container.id().to_owned()).expect("somebody waits");
                let _ = ended.await;
                // It may have ended by itself.
                let _ = container.rm().await;
            });
        });
        let id = id.recv().expect("the container starts; see above");
        Self { id, end: Some(end), keeper: Some(keeper) }
    }

    /// A command that runs in it.
    pub(super) fn command(&self, environment: &[(&str, &str)], program: &str) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", "-i"]);
        for (name, value) in environment {
            command.args(["-e", &format!("{name}={value}")]);
        }
        command.args([&self.id, program]);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn request(ports: &[u16]) -> ContainerRequest<GenericImage> {
    let image = image();
    let (name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
    let shared = std::env::temp_dir();
    let shared = shared.to_str().expect("a name in Unicode");
    let request = GenericImage::new(name, tag)
        .with_entrypoint("sh")
        .with_cmd(["-c", LONGEST])
        // So that whoever started the tests can remove what is left after a crash.
        .with_label("cache-tests", std::env::var("CACHE_TEST_RUN").unwrap_or_default())
        // Files that a test gives to a server have the same name inside.
        .with_mount(testcontainers::core::Mount::bind_mount(shared, shared))
        .with_host_config_modifier(|host| {
            host.auto_remove = Some(true);
            // Servers without a password are for this machine only.
            for binding in host.port_bindings.iter_mut().flatten().filter_map(|(_, to)| to.as_mut())
            {
                binding.iter_mut().for_each(|to| to.host_ip = Some("127.0.0.1".to_owned()));
            }
        });
    ports.iter().fold(request, |request, port| request.with_mapped_port(*port, port.tcp()))
}

fn image() -> String {
    std::env::var("CACHE_TEST_REDIS_IMAGE").unwrap_or_else(|_| "redis:7-alpine".to_owned())
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::null());
    command.output().is_ok_and(|output| output.status.success())
}
