//! The way from a key to the connection that its commands go by.

use std::ops::Deref;
use std::sync::Arc;

use cache_core::Result;
use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use crate::error::unexpected;
use crate::inner::{Inner, Topology};
use crate::link::{Link, Live, is_no_script};
use crate::scripts::Call;

/// A connection, for one operation.
pub(crate) struct Route<'a> {
    pub(crate) link: Held<'a>,
    pub(crate) live: Arc<Live>,
    /// Whether the node has to be told that it was said to be asked: the slot is only being moved to it.
    pub(crate) asking: bool,
}

/// The link of a single server is borrowed, and that of a node, which may leave its cluster, shared.
pub(crate) enum Held<'a> {
    Borrowed(&'a Arc<Link>),
    #[cfg(feature = "cluster")]
    Shared(Arc<Link>),
}

impl Deref for Held<'_> {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        match self {
            Self::Borrowed(link) => link,
            #[cfg(feature = "cluster")]
            Self::Shared(link) => link,
        }
    }
}

impl Inner {
    /// The connection for a key, as the server knows it.
    ///
    /// # Errors
    ///
    /// Why there is none, at once.
    pub(crate) fn route(&self, full: &str) -> Result<Route<'_>> {
        let link = self.link(full)?;
        let live = link.live()?;
        Ok(Route { link, live, asking: false })
    }

    /// The connection for all keys, if there is only one.
    pub(crate) fn only_route(&self) -> Option<Result<Route<'_>>> {
        match &self.topology {
            Topology::Server(links) => match &**links {
                [link] => {
                    let live = link.live();
                    Some(live.map(|live| Route { link: Held::Borrowed(link), live, asking: false }))
                }
                _ => None,
            },
            #[cfg(feature = "cluster")]
            Topology::Cluster(_) => None,
        }
    }

    pub(crate) fn link(&self, full: &str) -> Result<Held<'_>> {
        match &self.topology {
            Topology::Server(links) => Ok(Held::Borrowed(self.one_of(links, full))),
            #[cfg(feature = "cluster")]
            Topology::Cluster(cluster) => {
                let node = cluster.node_of(full)?;
                Ok(Held::Shared(Arc::clone(self.one_of(&node.links, full))))
            }
        }
    }

    /// Where to ask once more, if the answer says that the key is somewhere else.
    pub(crate) fn redirected(
        &self,
        route: &Route<'_>,
        full: &str,
        answer: &Value,
    ) -> Option<Result<Route<'_>>> {
        match &self.topology {
            Topology::Server(_) => {
                let _ = (route, full, answer);
                None
            }
            #[cfg(feature = "cluster")]
            Topology::Cluster(cluster) => {
                let (node, asking) = cluster.redirected(&route.link, answer)?;
                let link = Arc::clone(self.one_of(&node.links, full));
                Some(link.live().map(|live| Route { link: Held::Shared(link), live, asking }))
            }
        }
    }

    /// Runs a script, which may depend on the connection, where its key is.
    pub(crate) async fn run<'k>(
        &self,
        full: &str,
        script: impl Fn(&Live) -> Call<'k>,
    ) -> Result<Value> {
        let route = self.route(full)?;
        let deadline = route.link.deadline();
        let answer = route.run(&script(&route.live), deadline).await?;
        match self.redirected(&route, full, &answer) {
            None => route.accepted(answer),
            Some(route) => {
                let route = route?;
                let script = script(&route.live);
                let answer = Box::pin(route.run(&script, deadline)).await?;
                route.accepted(answer)
            }
        }
    }
}

impl Inner {
    /// Sends a command where its key is.
    pub(crate) async fn ask(&self, full: &str, command: impl Fn() -> Cmd) -> Result<Value> {
        let route = self.route(full)?;
        let deadline = route.link.deadline();
        let answer = route.send(command(), deadline).await?;
        match self.redirected(&route, full, &answer) {
            None => route.accepted(answer),
            Some(route) => {
                let route = route?;
                route.accepted(route.send(command(), deadline).await?)
            }
        }
    }
}

impl Route<'_> {
    /// Sends one command, and returns its answer; an error of the server's is an answer here.
    pub(crate) async fn send(&self, command: Cmd, deadline: Instant) -> Result<Value> {
        if !self.asking {
            return self.link.send(&self.live, &command, deadline).await;
        }
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("ASKING");
        commands.add_command(command);
        let mut answers = self.link.send_all(&self.live, &commands, deadline).await?;
        answers.pop().ok_or_else(unexpected)
    }

    /// Runs a script, by its code if the server does not know it any more.
    async fn run(&self, call: &Call<'_>, deadline: Instant) -> Result<Value> {
        let answer = self.send(call.by_digest(), deadline).await?;
        if is_no_script(&answer) { self.send(call.by_code(), deadline).await } else { Ok(answer) }
    }

    /// The answer, unless it is an error.
    pub(crate) fn accepted(&self, answer: Value) -> Result<Value> {
        self.link.accepted(&self.live, answer)
    }
}
