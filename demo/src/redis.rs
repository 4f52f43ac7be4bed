//! The Redis server that the scenarios with Redis use: the one that the command line names, or one that is
//! started here and ends with the program.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cache_core::{CacheStore, CacheStoreExt, Namespaced};
use cache_redis::{RedisBuilder, RedisStore};
use tokio::time::{Instant, sleep};

use crate::failure::{Failure, Result};

/// How long a server that is started here has until it answers.
const START: Duration = Duration::from_secs(10);

/// A server, for the time of the program.
pub(crate) struct Redis {
    store: RedisStore,
    service: String,
    url: String,
    _server: Option<Server>,
}

impl Redis {
    /// The server at `url`.
    pub(crate) async fn at(url: &str) -> Result<Self> {
        let service = service();
        let store = builder(&service).url(url).connect().await;
        // The URL is not said: it may hold a password.
        let store = store.map_err(|e| Failure::new("--redis", e))?;
        Ok(Self { store, service, url: url.to_owned(), _server: None })
    }

    /// One that is started here, if there is a `redis-server` on the `PATH`.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let installed = Command::new("redis-server").arg("--version").stdin(Stdio::null()).output();
        if !installed.is_ok_and(|output| output.status.success()) {
            return Ok(None);
        }
        let failed = |e| Failure::new("redis-server", e);
        // Without the password it is the server of somebody else, who took the port meanwhile.
        let password = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let (server, port) = Server::start(&password).map_err(failed)?;
        let service = service();
        let url = format!("redis://:{password}@127.0.0.1:{port}");
        let until = Instant::now() + START;
        loop {
            let store = builder(&service).address("127.0.0.1", port).password(&password);
            match store.connect().await {
                Ok(store) => return Ok(Some(Self { store, service, url, _server: Some(server) })),
                Err(error) if Instant::now() > until => {
                    return Err(Failure::new("redis-server does not start", error));
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// A store that nobody else has written to.
    pub(crate) fn empty_store(&self, name: &str) -> Namespaced<RedisStore> {
        self.store.clone().namespaced(name)
    }

    /// Where it is, for another process.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The name that all keys of this program begin with.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// Removes what this program has written.
    pub(crate) async fn tidy_up(&self) -> Result<()> {
        Ok(self.store.clear().await?)
    }
}

/// Keys of this run alone.
fn service() -> String {
    format!("cache-demo-{:016x}", fastrand::u64(..))
}

/// A machine under full load is no reason for an error.
pub(crate) fn builder(service: &str) -> RedisBuilder {
    RedisStore::builder(service)
        .operation_timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(10))
}

/// A shell that ends the server when its standard input ends, which it does however this program ends.
struct Server(Child);

const SCRIPT: &str = r#"
    trap '' HUP INT TERM
    redis-server "$@" </dev/null >/dev/null 2>&1 &
    read -r end
    kill -9 $!
"#;

impl Server {
    fn start(password: &str) -> std::io::Result<(Self, u16)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut shell = Command::new("sh");
        // What a terminal sends to end this program is not for the shell.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        let shell = shell
            .args(["-c", SCRIPT, "sh", "--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--requirepass", password])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok((Self(shell), port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
