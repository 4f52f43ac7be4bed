use std::path::Path;

use futures_util::future::join_all;
use tempfile::TempDir;

use super::{Machine, Server, eventually, foreign};

/// A server, its replica, and three Sentinels that watch over them under the name `mymaster`.
#[derive(Debug)]
pub struct Sentinels {
    /// Node 0 begins as the server that takes writes, and node 1 as its replica.
    pub nodes: Vec<Server>,
    /// The Sentinels.
    pub sentinels: Vec<Server>,
    /// Their configuration, which they write themselves.
    _files: TempDir,
}

impl Sentinels {
    /// Starts them all, with these arguments for the two servers.
    ///
    /// # Panics
    ///
    /// If one does not start.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let files = TempDir::new().expect("a directory for temporary files");
        for _ in 0..10 {
            // Somebody else may take one of the ports.
            let (machine, ports) = Machine::with_ports(5).await;
            let (nodes, sentinels) = (
                Self::nodes(&machine, [ports[0], ports[1]], arguments).await,
                Self::sentinels(&machine, ports[0], &ports[2..], files.path()).await,
            );
            if let (Some(nodes), Some(sentinels)) = (nodes, sentinels) {
                Self::know_each_other(&sentinels).await;
                return Self { nodes, sentinels, _files: files };
            }
        }
        panic!("no five servers start");
    }

    async fn nodes(machine: &Machine, ports: [u16; 2], arguments: &[&str]) -> Option<Vec<Server>> {
        let first = Server::start_on(machine, ports[0], arguments).await?;
        let port = ports[0].to_string();
        let mut all = vec!["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        all.extend(arguments);
        let second = Server::start_on(machine, ports[1], &all).await?;
        Some(vec![first, second])
    }

    async fn sentinels(
        machine: &Machine,
        watched: u16,
        ports: &[u16],
        files: &Path,
    ) -> Option<Vec<Server>> {
        let sentinels = join_all(ports.iter().map(|port| {
            let file = files.join(format!("{port}.conf"));
            let config = format!(
                "sentinel monitor mymaster 127.0.0.1 {watched} 2\n\
                 sentinel down-after-milliseconds mymaster 5000\n\
                 sentinel failover-timeout mymaster 5000\n"
            );
            std::fs::write(&file, config).expect("a file");
            let file = file.to_str().expect("a path of text").to_owned();
            async move { Server::start_on(machine, *port, &[&file, "--sentinel"]).await }
        }));
        sentinels.await.into_iter().collect()
    }

    async fn know_each_other(sentinels: &[Server]) {
        for sentinel in sentinels {
            let mut connection = foreign(&sentinel.url()).await;
            eventually("the Sentinels know each other, and the replica", async || {
                let info: String = redis::cmd("INFO")
                    .arg("sentinel")
                    .query_async(&mut connection)
                    .await
                    .expect("info");
                info.contains("status=ok") && info.contains("slaves=1,sentinels=3")
            })
            .await;
        }
    }

    /// All Sentinels in one URL, with this database.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        let all = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
        format!("redis+sentinel://{}/mymaster/{database}", all.collect::<Vec<_>>().join(","))
    }

    /// Has the Sentinels make the replica the server, and waits until the old one is a replica.
    ///
    /// # Panics
    ///
    /// If they don't.
    pub async fn switch(&self) {
        let mut sentinel = foreign(&self.sentinels[0].url()).await;
        eventually("the switch begins", async || {
            let begun: Result<(), _> = redis::cmd("SENTINEL")
                .arg("FAILOVER")
                .arg("mymaster")
                .query_async(&mut sentinel)
                .await;
            begun.is_ok()
        })
        .await;
        eventually("the old server is a replica", async || {
            let mut old = foreign(&self.nodes[0].url()).await;
            let info: Result<String, _> =
                redis::cmd("INFO").arg("replication").query_async(&mut old).await;
            info.is_ok_and(|info| info.contains("role:slave"))
        })
        .await;
    }
}
