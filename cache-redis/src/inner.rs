use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cache_core::{Error, ErrorKind, Result, SetOptions};
use futures_util::future::join_all;
use smol_str::{SmolStr, SmolStrBuilder};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
use crate::keys::Keys;
use crate::link::{Backlog, Link, Live, Pending, Place, Shared};
use crate::listener::News;
use crate::prefix;
use crate::scripts::Scripts;
#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinels;
use crate::settings::{Servers, Settings};

/// What the handles of a store share.
pub(crate) struct Inner {
    pub(crate) topology: Topology,
    pub(crate) settings: Arc<Settings>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) backlog: Arc<Backlog>,
    /// What the servers say of keys that were read, if they track them.
    pub(crate) news: Option<Arc<News>>,
    pub(crate) undecodable: AtomicU64,
    hasher: RandomState,
    runtime: Handle,
    tasks: OnceLock<Vec<AbortHandle>>,
}

/// Where the keys are.
pub(crate) enum Topology {
    /// On one server, to which there are one or more connections.
    Server(Box<[Arc<Link>]>),
    #[cfg(feature = "cluster")]
    Cluster(Arc<Cluster>),
}

impl Inner {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        let settings = Arc::new(settings);
        let scripts = Arc::new(Scripts::new());
        let everything = settings.prefix.clone();
        let backlog = Arc::new(Backlog::new(settings.max_pending, everything));
        let shared = Shared {
            settings: Arc::clone(&settings),
            scripts: Arc::clone(&scripts),
            backlog: Arc::clone(&backlog),
            in_flight: Arc::new(Semaphore::new(settings.max_in_flight)),
            news: settings.tracked.then(Arc::default),
            runtime: runtime.clone(),
        };
        let news = shared.news.clone();
        let links = |place: &dyn Fn() -> Place| {
            let links = 0..settings.connections;
            Topology::Server(links.map(|_| Link::new(shared.clone(), place())).collect())
        };
        let topology = match &settings.servers {
            Servers::One(address) => links(&|| Place::Server(address.clone())),
            #[cfg(feature = "sentinel")]
            Servers::Sentinels(..) => {
                links(&|| Place::Watched(Sentinels::new(Arc::clone(&settings))))
            }
            #[cfg(feature = "cluster")]
            Servers::Cluster(seeds) => {
                Topology::Cluster(Cluster::new(shared.clone(), seeds.clone(), runtime.clone()))
            }
        };
        Ok(Self {
            topology,
            settings: Arc::clone(&settings),
            scripts,
            backlog,
            news,
            undecodable: AtomicU64::new(0),
            hasher: RandomState::new(),
            runtime,
            tasks: OnceLock::new(),
        })
    }

    pub(crate) async fn connect(&self) -> Result<()> {
        match &self.topology {
            Topology::Server(links) => {
                for link in links {
                    link.connect_now().await?;
                }
                Ok(())
            }
            #[cfg(feature = "cluster")]
            Topology::Cluster(cluster) => cluster.connect().await,
        }
    }

    /// From now on the connections are kept, until the last handle is gone.
    pub(crate) fn supervise(&self) {
        self.tasks.get_or_init(|| match &self.topology {
            Topology::Server(links) => {
                let tasks =
                    links.iter().map(|link| self.runtime.spawn(Arc::clone(link).supervise()));
                tasks.map(|task| task.abort_handle()).collect()
            }
            #[cfg(feature = "cluster")]
            Topology::Cluster(cluster) => {
                vec![self.runtime.spawn(Arc::clone(cluster).keep()).abort_handle()]
            }
        });
    }

    pub(crate) fn is_connected(&self) -> bool {
        match &self.topology {
            Topology::Server(links) => links.iter().all(|link| link.live().is_ok()),
            #[cfg(feature = "cluster")]
            Topology::Cluster(cluster) => cluster.is_connected(),
        }
    }

    pub(crate) async fn connected(&self) {
        match &self.topology {
            Topology::Server(links) => {
                for link in links {
                    link.connected().await;
                }
            }
            #[cfg(feature = "cluster")]
            Topology::Cluster(cluster) => cluster.connected().await,
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        !matches!(self.topology, Topology::Server(_))
    }

    /// A connection to each server.
    pub(crate) fn servers(&self) -> Result<Vec<Arc<Link>>> {
        let (servers, _) = self.links();
        if servers.is_empty() { Err(crate::bus::nowhere()) } else { Ok(servers) }
    }

    /// Every connection, as it is now.
    ///
    /// # Errors
    ///
    /// Why one of them is down.
    pub(crate) fn lives(&self) -> Result<Vec<Arc<Live>>> {
        let (lives, down) = self.lives_if_any();
        down.map_or(Ok(lives), Err)
    }

    /// Every connection that is up, and why another one is down, if one is.
    pub(crate) fn lives_if_any(&self) -> (Vec<Arc<Live>>, Option<Error>) {
        let (_, all) = self.links();
        let (mut lives, mut down) = (Vec::new(), all.is_empty().then(crate::bus::nowhere));
        for link in all {
            match link.live() {
                Ok(live) => lives.push(live),
                Err(error) => down = Some(error),
            }
        }
        (lives, down)
    }

    /// A connection for what concerns no key, that is up if there is one.
    pub(crate) fn any_link(&self) -> Result<Arc<Link>> {
        let servers = self.servers()?;
        let up = servers.iter().find(|link| link.live().is_ok());
        up.or(servers.first()).cloned().ok_or_else(crate::bus::nowhere)
    }

    /// A connection to each server, and all connections.
    fn links(&self) -> (Vec<Arc<Link>>, Vec<Arc<Link>>) {
        match &self.topology {
            Topology::Server(links) => (links[..1].to_vec(), links.to_vec()),
            #[cfg(feature = "cluster")]
            Topology::Cluster(cluster) => {
                let nodes = &cluster.map().nodes;
                let each = nodes.iter().filter_map(|node| node.links.first());
                let all = nodes.iter().flat_map(|node| &node.links);
                (each.cloned().collect(), all.cloned().collect())
            }
        }
    }

    pub(crate) async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.remove_full_prefix(self.full(prefix)).await
    }

    /// Removes all keys that begin with this, as the server knows them.
    pub(crate) async fn remove_full_prefix(&self, full: SmolStr) -> Result<()> {
        self.backlog.spare_none_of(&full);
        let removed = self.remove_prefix_now(&full).await;
        // Not if it is dropped: made up for later, it would take away what this process has put there since.
        self.owing_one(|| Pending::RemovePrefix(full)).settle(removed)
    }

    async fn remove_prefix_now(&self, full: &str) -> Result<()> {
        let (servers, _) = self.links();
        let none = || Error::with_cause(ErrorKind::Unavailable, "not yet connected");
        servers.first().ok_or_else(none)?;
        let removals =
            servers.iter().map(|link| async { prefix::remove(link, &*link.live()?, full).await });
        let removed: Result<Vec<_>> = join_all(removals).await.into_iter().collect();
        // Keys that have moved while their slots were being moved.
        let mut moved = Keys::default();
        removed?.iter().flatten().for_each(|key| moved.push("", key));
        if moved.is_empty() { Ok(()) } else { self.remove_full(&moved).await }
    }

    /// The key as the server knows it.
    pub(crate) fn full(&self, key: &str) -> SmolStr {
        let mut full = SmolStrBuilder::new();
        full.push_str(&self.settings.prefix);
        full.push_str(key);
        full.finish()
    }

    /// The one of a server's connections for a key.
    pub(crate) fn one_of<'a>(&self, links: &'a [Arc<Link>], full: &str) -> &'a Arc<Link> {
        match links {
            [link] => link,
            links => &links[self.hasher.hash_one(full) as usize % links.len()],
        }
    }

    pub(crate) fn check(&self, value: Option<&Bytes>, options: &SetOptions) -> Result<()> {
        options.check()?;
        let (length, most) = (value.map_or(0, Bytes::len), self.settings.max_value);
        if length > most {
            return Err(Error::with_cause(
                ErrorKind::TooLarge,
                format!("the value has {length} bytes, of at most {most}"),
            ));
        }
        Ok(())
    }

    /// Keeps an invalidation until it can be sent.
    pub(crate) fn keep(&self, pending: Pending) {
        self.backlog.add(pending);
        // All of them, since the one that was used may stay down for longer.
        let (_, links) = self.links();
        links.iter().for_each(|link| link.wake());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
    }
}
