use std::net::TcpListener;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, ServerErrorKind, Value};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{Authority, Machine, Server, eventually, foreign};

const SLOTS: u16 = 16384;

/// The nodes of the cluster that all tests of this process share, as URLs: three primaries and three
/// replicas, which are started here and end with the process. Nobody kills one of them.
///
/// # Panics
///
/// If it does not start.
pub async fn cluster_urls() -> Vec<String> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || async {
        let cluster = Cluster::start().await;
        // A node that has to wait for its turn is not a dead one. Not so from the start: how soon the nodes come to know
        // each other depends on it.
        for node in 0..6 {
            let _: () =
                cluster.ask(node, &["CONFIG", "SET", "cluster-node-timeout", "60000"]).await;
        }
        cluster
    };
    CLUSTER.get_or_init(start).await.urls()
}

/// A Redis Cluster of this test's own: nodes 0 to 2 are its primaries, and 3 to 5 their replicas in this
/// order, until one is killed.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Server>,
    /// The ports at which they talk TLS, if they do.
    tls: Vec<u16>,
}

impl Cluster {
    /// Three primaries with a replica each.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with these arguments for each server.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::with_ports(6, |_| arguments.iter().map(ToString::to_string).collect()).await
    }

    /// The same, and the nodes talk TLS to clients who come by [`url`](Self::url).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_with_tls(authority: &Authority) -> Self {
        Self::with_ports(12, |tls| {
            let port = tls.expect("each node has two ports");
            let mut arguments = authority.arguments(port, &["localhost", "127.0.0.1"], "no");
            // So that the nodes tell of these ports, and not of the others, to whom comes by them.
            let internal = ["--tls-cluster", "yes", "--tls-replication", "yes"];
            arguments.extend(internal.map(str::to_owned));
            arguments
        })
        .await
    }

    /// With six ports, or six more, of which each node has one in its arguments.
    async fn with_ports(count: usize, arguments: impl Fn(Option<u16>) -> Vec<String>) -> Self {
        for _ in 0..10 {
            // Somebody else may take one of the ports.
            let (machine, ports) = Machine::with_ports(count).await;
            let (own, tls) = ports.split_at(6);
            let nodes = own.iter().enumerate().map(|(number, port)| {
                let arguments = arguments(tls.get(number).copied());
                let machine = &machine;
                async move { node(machine, *port, &arguments).await }
            });
            if let Some(nodes) = join_all(nodes).await.into_iter().collect() {
                let cluster = Self { nodes, tls: tls.to_vec() };
                cluster.join().await;
                return cluster;
            }
        }
        panic!("no six servers start");
    }

    /// Where the nodes are.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// All of them in one URL.
    #[must_use]
    pub fn url(&self) -> String {
        let list = |ports: &mut dyn Iterator<Item = u16>| {
            ports.map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
        };
        if self.tls.is_empty() {
            format!("redis+cluster://{}", list(&mut self.nodes.iter().map(Server::port)))
        } else {
            format!("rediss+cluster://{}", list(&mut self.tls.iter().copied()))
        }
    }

    /// A client of a node, which knows nothing of stores.
    pub async fn foreign(&self, node: usize) -> MultiplexedConnection {
        foreign(&self.nodes[node].url()).await
    }

    /// Which node serves a key now, as node `asked` sees it.
    ///
    /// # Panics
    ///
    /// If it can't tell.
    pub async fn owner(&self, asked: usize, key: &str) -> usize {
        let slot = self.slot(asked, key).await;
        let ranges: Vec<Vec<Value>> = self.ask(asked, &["CLUSTER", "SLOTS"]).await;
        let port = ranges.iter().find_map(|range| match range.as_slice() {
            [Value::Int(first), Value::Int(last), Value::Array(primary), ..]
                if (*first..=*last).contains(&i64::from(slot)) =>
            {
                match primary.as_slice() {
                    [_, Value::Int(port), ..] => u16::try_from(*port).ok(),
                    _ => None,
                }
            }
            _ => None,
        });
        let port = port.expect("the slot is served");
        self.nodes.iter().position(|node| node.port() == port).expect("one of the nodes")
    }

    /// The hash slot of a key, as a server computes it.
    pub async fn slot(&self, asked: usize, key: &str) -> u16 {
        self.ask(asked, &["CLUSTER", "KEYSLOT", key]).await
    }

    /// Begins to move a slot from one node to another: keys that are there stay until they are moved.
    pub async fn begin_to_move(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        let (from_id, to_id) = (self.id(from).await, self.id(to).await);
        let _: () = self.ask(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
        let _: () = self.ask(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
    }

    /// Moves a key of a slot that is being moved.
    pub async fn move_key(&self, key: &str, from: usize, to: usize) {
        let port = self.nodes[to].port().to_string();
        let _: () = self.ask(from, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
    }

    /// Ends the move of a slot, for all primaries.
    pub async fn end_move(&self, slot: u16, to: usize) {
        let (slot, to_id) = (slot.to_string(), self.id(to).await);
        // The new owner first, so that the slot is never without one.
        let others = (0..3).filter(|other| *other != to);
        for node in std::iter::once(to).chain(others) {
            let _: () = self.ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
        }
    }

    /// Sends a command to a node, and to the same again while the cluster is settling.
    ///
    /// # Panics
    ///
    /// If there is another error.
    pub async fn ask<T: FromRedisValue>(&self, node: usize, command: &[&str]) -> T {
        let mut connection = self.foreign(node).await;
        let mut message = redis::cmd(command[0]);
        for argument in &command[1..] {
            message.arg(*argument);
        }
        for _ in 0..3000 {
            match message.query_async(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ClusterDown) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                answer => return answer.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            }
        }
        panic!("the cluster stays down");
    }

    async fn id(&self, node: usize) -> String {
        self.ask(node, &["CLUSTER", "MYID"]).await
    }

    /// Makes the nodes a cluster, and waits until each of them says so.
    async fn join(&self) {
        for (number, first) in [(0, 0), (1, 5461), (2, 10923)] {
            let last = [5460, 10922, SLOTS - 1][number];
            let range = [first.to_string(), last.to_string()];
            let _: () = self.ask(number, &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
        }
        for number in 0..6 {
            let epoch = (number + 1).to_string();
            let _: () = self.ask(number, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        let bus = join_all((1..6).map(|number| async move {
            let config: Vec<String> = self.ask(number, &["CONFIG", "GET", "cluster-port"]).await;
            let port = self.tls.get(number).copied().unwrap_or(self.nodes[number].port());
            (port.to_string(), config[1].clone())
        }));
        let others = bus.await;
        for round in 0.. {
            // Who is too busy to answer in time is forgotten, and has to be met again.
            for (port, bus) in &others {
                let _: () = self.ask(0, &["CLUSTER", "MEET", "127.0.0.1", port, bus]).await;
            }
            let met = timeout(Duration::from_secs(10), async {
                for number in 0..6 {
                    eventually("all nodes know each other", async || {
                        let nodes: String = self.ask(number, &["CLUSTER", "NODES"]).await;
                        let known = nodes.lines().filter(|line| line.contains(" connected"));
                        known.filter(|line| !line.contains("handshake")).count() == 6
                    })
                    .await;
                }
            });
            if met.await.is_ok() {
                break;
            }
            assert!(round < 12, "the nodes do not come to know each other");
        }
        for replica in 3..6 {
            let primary = self.id(replica - 3).await;
            let _: () = self.ask(replica, &["CLUSTER", "REPLICATE", &primary]).await;
        }
        for replica in 3..6 {
            eventually("the replicas are in step", async || {
                let info: String = self.ask(replica, &["INFO", "replication"]).await;
                info.contains("master_link_status:up")
            })
            .await;
        }
        for number in 0..6 {
            eventually("every node has the whole map", async || {
                let info: String = self.ask(number, &["CLUSTER", "INFO"]).await;
                let slots: Vec<Vec<Value>> = self.ask(number, &["CLUSTER", "SLOTS"]).await;
                // First slot, last slot, primary, replica.
                info.contains("cluster_state:ok")
                    && slots.len() == 3
                    && slots.iter().all(|range| range.len() == 4)
            })
            .await;
        }
    }
}

/// A node that knows no others yet.
async fn node(machine: &Machine, port: u16, arguments: &[String]) -> Option<Server> {
    // Ten thousand above the port, which is the default, may not be free, or no port at all.
    let bus = free_port().to_string();
    let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
    all.extend(["--cluster-node-timeout", "3000", "--cluster-replica-validity-factor", "0"]);
    all.extend(["--repl-diskless-sync-delay", "0"]);
    all.extend(arguments.iter().map(String::as_str));
    Server::start_on(machine, port, &all).await
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a free port").port()
}
