use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cache_core::{Error, ErrorKind, Result, SetOptions};
use smol_str::{SmolStr, SmolStrBuilder};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::link::{Backlog, Link, Pending};
use crate::scripts::Scripts;
use crate::settings::Settings;

/// What the handles of a store share.
pub(crate) struct Inner {
    pub(crate) links: Box<[Arc<Link>]>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) undecodable: AtomicU64,
    hasher: RandomState,
    runtime: Handle,
    supervisors: OnceLock<Vec<AbortHandle>>,
}

impl Inner {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        let settings = Arc::new(settings);
        let scripts = Arc::new(Scripts::new());
        let everything = settings.prefix.clone();
        let backlog = Arc::new(Backlog::new(settings.max_pending, everything));
        let in_flight = Arc::new(Semaphore::new(settings.max_in_flight));
        let link = |_| {
            Link::new(
                Arc::clone(&settings),
                Arc::clone(&scripts),
                Arc::clone(&backlog),
                Arc::clone(&in_flight),
            )
        };
        Ok(Self {
            links: (0..settings.connections).map(link).collect(),
            settings,
            scripts,
            backlog,
            undecodable: AtomicU64::new(0),
            hasher: RandomState::new(),
            runtime,
            supervisors: OnceLock::new(),
        })
    }

    pub(crate) async fn connect(&self) -> Result<()> {
        for link in &self.links {
            link.connect_now().await?;
        }
        Ok(())
    }

    /// From now on the connections are kept, until the last handle is gone.
    pub(crate) fn supervise(&self) {
        self.supervisors.get_or_init(|| {
            let links = self.links.iter();
            let tasks = links.map(|link| self.runtime.spawn(Arc::clone(link).supervise()));
            tasks.map(|task| task.abort_handle()).collect()
        });
    }

    /// The key as the server knows it.
    pub(crate) fn full(&self, key: &str) -> SmolStr {
        let mut full = SmolStrBuilder::new();
        full.push_str(&self.settings.prefix);
        full.push_str(key);
        full.finish()
    }

    /// The connection for a key.
    pub(crate) fn link(&self, key: &str) -> &Arc<Link> {
        match &*self.links {
            [link] => link,
            links => &links[self.hasher.hash_one(key) as usize % links.len()],
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
        self.links.iter().for_each(|link| link.wake());
    }

    /// Hands an error on, after what could not be done has been put down, if that may still help.
    pub(crate) fn keep_if_unsent<T>(
        &self,
        result: Result<T>,
        pending: impl FnOnce() -> Pending,
    ) -> Result<T> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::Unavailable
        {
            self.keep(pending());
        }
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for supervisor in self.supervisors.get().into_iter().flatten() {
            supervisor.abort();
        }
    }
}
