//! Keeps the map of a cluster up to date.
//!
//! The map is asked for when it does not fit any more (a redirection, a lost connection, a cluster that is
//! down) and now and then. One task does that, after a random pause, which grows while there is no end
//! of it: a thousand redirections, or a thousand processes, don't make a storm.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use futures_util::future::join_all;
use redis::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{Cluster, Layout, Map};
use crate::error::failure;
use crate::link::{Link, Shared, dial};
use crate::settings::Address;

/// How often the map is asked for if nothing happens.
const EVERY: Duration = Duration::from_secs(60);

/// When the map has not been asked for so long, the pauses begin anew.
const QUIET: Duration = Duration::from_secs(5);

/// So many nodes are asked in a row.
const ATTEMPTS: usize = 5;

impl Cluster {
    /// Connects for the first time.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<()> {
        let layout = self.learn().await?;
        self.install(layout).await;
        let map = self.map();
        let links = map.nodes.iter().flat_map(|node| &node.links);
        let mut outcomes = join_all(links.map(Link::connect_now)).await;
        // Of a cluster with a dead node the rest can be used; but not with a user who may not.
        if let Some(refused) = outcomes.iter().position(
            |outcome| matches!(outcome, Err(error) if error.kind() != ErrorKind::Unavailable),
        ) {
            return outcomes.swap_remove(refused);
        }
        if outcomes.iter().any(Result::is_ok) { Ok(()) } else { outcomes.swap_remove(0) }
    }

    /// Keeps the map, and with it the connections, until it is aborted.
    pub(crate) async fn keep(self: Arc<Self>) {
        let settings = Arc::clone(&self.shared.settings);
        self.map().nodes.iter().for_each(|node| self.supervise(node));
        if self.map().nodes.is_empty() {
            self.outdated.notify_one();
        }
        let (mut hurries, mut last) = (0, Instant::now());
        loop {
            // Jittered, so that a fleet does not ask in step.
            let pause = self.next_round().mul_f64(0.75 + fastrand::f64() / 2.0);
            if timeout(pause, self.outdated.notified()).await.is_ok() {
                hurries = if last.elapsed() < QUIET { hurries + 1 } else { 0 };
                sleep(settings.pause(hurries)).await;
            }
            last = Instant::now();
            if let Ok(layout) = self.learn().await {
                self.install(layout).await;
                self.map().nodes.iter().for_each(|node| self.supervise(node));
            } else if self.map().nodes.is_empty() {
                self.outdated.notify_one();
            }
            self.remove_pending_prefixes().await;
        }
    }

    fn next_round(&self) -> Duration {
        if self.shared.backlog.prefixes().is_empty() {
            EVERY
        } else {
            self.shared.settings.probe_every
        }
    }

    /// Asks a few nodes for the map, one after the other, those first to which there is a connection.
    async fn learn(&self) -> Result<Layout> {
        let map = self.map();
        let mut nodes: Vec<_> = map.nodes.iter().collect();
        fastrand::shuffle(&mut nodes);
        let mut why = None;
        for node in nodes {
            let [link, ..] = &node.links[..] else {
                continue;
            };
            let Ok(live) = link.live() else {
                continue;
            };
            let answer = link.send(&live, &slots(), link.deadline()).await;
            match answer.and_then(|answer| read(&answer, &node.address)) {
                Ok(layout) => return Ok(layout),
                Err(error) => why = Some(error),
            }
        }
        let mut strangers: Vec<_> = self.seeds.iter().chain(&map.replicas).collect();
        strangers.extend(map.nodes.iter().map(|node| &node.address));
        fastrand::shuffle(&mut strangers);
        for address in strangers.into_iter().take(ATTEMPTS) {
            match ask(&self.shared, address).await {
                Ok(layout) => return Ok(layout),
                // What a node says matters more than that another does not answer.
                Err(error) if why.is_none() || error.kind() != ErrorKind::Unavailable => {
                    why = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(why.unwrap_or_else(|| Error::new(ErrorKind::Unavailable)))
    }

    /// Replaces the map. Nodes that are in the old one and the new one keep their connections.
    async fn install(self: &Arc<Self>, layout: Layout) {
        let old = self.map();
        let Layout { owners, primaries, replicas } = layout;
        let node_at = |address: Address| match old.at(&address) {
            Some(node) => Arc::clone(node),
            None => self.node(address, None),
        };
        let mut nodes: Vec<_> = primaries.into_iter().map(node_at).collect();
        for guest in old.nodes.iter().filter(|node| node.is_welcome()) {
            if !nodes.iter().any(|node| node.address == guest.address) {
                nodes.push(Arc::clone(guest));
            }
        }
        let map = Arc::new(Map { owners, nodes, replicas });
        if self.shared.backlog.len() > 0 {
            // Invalidations go with their slot: whoever serves it now does them before anybody reads there. A
            // node that is new does so when it is connected.
            join_all(map.nodes.iter().map(|node| async {
                if let [link, ..] = &node.links[..]
                    && let Ok(live) = link.live()
                {
                    let mine = |key: &str| map.serves(&node.address, key);
                    // What can't be done now stays where it is.
                    let _ = link.do_pending(&live, &mine).await;
                }
            }))
            .await;
        }
        self.map.send_replace(map);
    }

    /// Does the removals by prefix that are pending: they are done when they are done on every primary.
    async fn remove_pending_prefixes(&self) {
        for (number, pending) in self.shared.backlog.prefixes() {
            let map = self.map();
            let removals = map.nodes.iter().map(|node| async {
                let [link, ..] = &node.links[..] else {
                    return Ok(());
                };
                link.do_prefix(&*link.live()?, &pending).await
            });
            let removed: Result<Vec<()>> = join_all(removals).await.into_iter().collect();
            if removed.is_ok() && Arc::ptr_eq(&map, &self.map()) {
                self.shared.backlog.done(number);
            }
        }
    }
}

fn slots() -> redis::Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

/// Asks a node to which there is no connection.
async fn ask(shared: &Shared, address: &Address) -> Result<Layout> {
    let settings = &shared.settings;
    let asked = async {
        let dialled = dial(settings, address, &settings.login, |_| {}).await?;
        let mut connection = dialled.connection.clone();
        let answer = connection.send_packed_command(&slots()).await;
        read(&answer.map_err(|error| failure(&error).error)?, address)
    };
    timeout(settings.connect_timeout, asked).await.unwrap_or_else(|_| {
        let within = settings.connect_timeout;
        let why = format!("no answer from {address} within {within:?}");
        Err(Error::with_cause(ErrorKind::Unavailable, why))
    })
}

fn read(answer: &Value, asked: &Address) -> Result<Layout> {
    if let Value::ServerError(error) = answer {
        if error.details().is_some_and(|why| why.contains("cluster support disabled")) {
            let why = format!("the server at {asked} is a single one, and not in a Redis Cluster");
            return Err(Error::with_cause(ErrorKind::Store, why));
        }
        return Err(failure(&error.clone().into()).error);
    }
    Layout::read(answer, asked).ok_or_else(|| {
        let why = format!("the node at {asked} has no slots to tell of");
        Error::with_cause(ErrorKind::Unavailable, why)
    })
}
