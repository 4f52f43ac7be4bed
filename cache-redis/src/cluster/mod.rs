//! A Redis Cluster: which node serves which slot, and a link to each primary.
//!
//! This file holds the map and finds the way; `refresh.rs` keeps it up to date; `layout.rs` reads what
//! the nodes say. Each node has connections, a clock, gathered reads and pauses of its own: one that
//! hangs does not slow the others down.

mod layout;
mod refresh;
mod slot;

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use futures_util::future::{Either, select};
use redis::{ServerErrorKind as Answer, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::link::{Link, Place, Shared};
use crate::settings::Address;
use layout::Layout;
use slot::slot;

/// So long a node is kept that others redirect to, but that serves no slot.
const GUEST: Duration = Duration::from_secs(600);

/// And so long if there is no connection to it.
const STRANGER: Duration = Duration::from_secs(10);

/// More of those are not kept.
const GUESTS: usize = 16;

/// The state of a cluster, as this store knows it.
pub(crate) struct Cluster {
    shared: Shared,
    seeds: Vec<Address>,
    map: watch::Sender<Arc<Map>>,
    /// Has the map asked for again.
    outdated: Notify,
    runtime: Handle,
}

/// Which node serves which slot. It is never changed, but replaced.
#[derive(Default)]
pub(crate) struct Map {
    /// For each slot the number of its node, or one that no node has.
    owners: Box<[u16]>,
    pub(crate) nodes: Vec<Arc<Node>>,
    /// Where the map can be asked for when no primary answers.
    replicas: Vec<Address>,
}

/// A primary, or a node that was redirected to.
pub(crate) struct Node {
    pub(crate) address: Address,
    pub(crate) links: Box<[Arc<Link>]>,
    supervisors: OnceLock<Vec<AbortHandle>>,
    /// When it was taken in, if others have redirected to it.
    welcomed: Option<Instant>,
}

impl Map {
    /// The node that serves a slot.
    fn node(&self, slot: u16) -> Option<&Arc<Node>> {
        self.nodes.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    fn at(&self, address: &Address) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.address == *address)
    }

    /// Whether the node at `address` serves this key.
    fn serves(&self, address: &Address, key: &str) -> bool {
        self.node(slot(key)).is_some_and(|node| node.address == *address)
    }
}

impl Cluster {
    pub(crate) fn new(shared: Shared, seeds: Vec<Address>, runtime: Handle) -> Arc<Self> {
        let map = watch::Sender::default();
        Arc::new(Self { shared, seeds, map, outdated: Notify::new(), runtime })
    }

    pub(crate) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.borrow())
    }

    /// The node that serves a key.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn node_of(&self, key: &str) -> Result<Arc<Node>> {
        let slot = slot(key);
        if let Some(node) = self.map.borrow().node(slot) {
            return Ok(Arc::clone(node));
        }
        self.outdated.notify_one();
        Err(Error::with_cause(
            ErrorKind::Unavailable,
            format!("no node of the cluster is known to serve slot {slot}"),
        ))
    }

    /// The node that `answer`, which came from the node of `link`, sends the question to; and whether it has
    /// to be told that the question was sent there.
    pub(crate) fn redirected(
        self: &Arc<Self>,
        link: &Link,
        answer: &Value,
    ) -> Option<(Arc<Node>, bool)> {
        let Value::ServerError(error) = answer else {
            return None;
        };
        let asking = match error.kind() {
            Some(Answer::Moved) => {
                self.outdated.notify_one();
                false
            }
            Some(Answer::Ask) => true,
            _ => return None,
        };
        let asked = link.place.address()?;
        let to = layout::redirection(error.details()?, asked)?;
        if let Some(node) = self.map.borrow().at(&to) {
            return Some((Arc::clone(node), asking));
        }
        Some((self.welcome(to)?, asking))
    }

    /// Takes in a node which the map does not have: it is new, and has been given its first slot.
    fn welcome(self: &Arc<Self>, address: Address) -> Option<Arc<Node>> {
        let mut welcomed = None;
        self.map.send_if_modified(|map| {
            if let Some(node) = map.at(&address) {
                welcomed = Some(Arc::clone(node));
                return false;
            }
            let guests = map.nodes.iter().filter(|node| node.welcomed.is_some());
            if guests.count() >= GUESTS {
                return false;
            }
            let node = self.node(address, Some(Instant::now()));
            self.supervise(&node);
            welcomed = Some(Arc::clone(&node));
            let mut nodes = map.nodes.clone();
            nodes.push(node);
            let (owners, replicas) = (map.owners.clone(), map.replicas.clone());
            *map = Arc::new(Map { owners, nodes, replicas });
            true
        });
        welcomed
    }

    /// Whether the node at `address` serves a key.
    pub(crate) fn serves(&self, address: &Address, key: &str) -> bool {
        self.map.borrow().serves(address, key)
    }

    /// Something does not fit the map.
    pub(crate) fn doubt(&self) {
        self.outdated.notify_one();
    }

    /// Waits until every primary is connected.
    pub(crate) async fn connected(&self) {
        let mut maps = self.map.subscribe();
        loop {
            let map = Arc::clone(&maps.borrow_and_update());
            let all = async {
                for link in map.nodes.iter().flat_map(|node| &node.links) {
                    link.connected().await;
                }
            };
            // The sender is in `self`, so it does not end.
            if map.nodes.is_empty() {
                let _ = maps.changed().await;
            } else if let Either::Left(_) = select(pin!(all), pin!(maps.changed())).await {
                return;
            }
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        let map = self.map.borrow();
        let mut links = map.nodes.iter().flat_map(|node| &node.links);
        !map.nodes.is_empty() && links.all(|link| link.live().is_ok())
    }

    fn node(self: &Arc<Self>, address: Address, welcomed: Option<Instant>) -> Arc<Node> {
        let place = || Place::Node(address.clone(), Arc::downgrade(self));
        let links = 0..self.shared.settings.connections;
        let links = links.map(|_| Link::new(self.shared.clone(), place())).collect();
        Arc::new(Node { address, links, supervisors: OnceLock::new(), welcomed })
    }

    fn supervise(&self, node: &Node) {
        node.supervisors.get_or_init(|| {
            let links = node.links.iter();
            let tasks = links.map(|link| self.runtime.spawn(Arc::clone(link).supervise()));
            tasks.map(|task| task.abort_handle()).collect()
        });
    }
}

impl Node {
    /// Whether it is kept though it serves no slot: a dead one must not be in the way for long.
    fn is_welcome(&self) -> bool {
        let connected = self.links.iter().any(|link| link.live().is_ok());
        let limit = if connected { GUEST } else { STRANGER };
        self.welcomed.is_some_and(|since| since.elapsed() < limit)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for supervisor in self.supervisors.get().into_iter().flatten() {
            supervisor.abort();
        }
    }
}
