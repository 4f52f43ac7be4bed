//! The marks of tags on the server. The crate's documentation has the keys; `cache_core::Marks` says why
//! nothing that was invalidated comes back.

mod scripts;

use std::fmt;
use std::time::Duration;

use cache_core::{Marks, NearTier, Result, Revision, Stamp};
use redis::Value;
use smol_str::{SmolStr, format_smolstr};

use crate::RedisStore;
use crate::error::unexpected;
use crate::link::{Live, Pending};
use scripts::number;

pub(crate) use scripts::MarkScripts;

/// So many tags go together.
const TOGETHER: usize = 500;

/// The marks of tags, on the Redis server of a store, for all entries of its service.
///
/// A clone is a handle to the same marks; all caches of a service share them, in whatever process.
///
/// An invalidation that fails because the server can't be reached is an error, and is made up for as soon as it answers, as
/// a removal is.
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use cache_core::{CacheAside, CacheStoreExt, ReadOptions, TaggedCodec};
/// use cache_redis::{RedisMarks, RedisStore};
/// use cache_serde::Json;
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct User { id: u64, org: u64 }
/// # async fn from_database(id: u64) -> Result<Option<User>, std::io::Error> { Ok(None) }
///
/// let redis = RedisStore::connect("redis://127.0.0.1:6379", "shop").await?;
/// let marks = RedisMarks::new(&redis);
/// let store = redis
///     .namespaced("user")
///     .encoded(TaggedCodec::new(Json::new()))
///     .tagged(marks, |_key, user: Option<&User>| user.map(|user| format!("org:{}", user.org)));
/// let users = CacheAside::new(store, ReadOptions::ttl(Duration::from_secs(60)))?;
/// let user = users.get_or_load(&7, || from_database(7)).await?;
/// users.invalidate_tag("org:12").await?; // in every process
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct RedisMarks {
    pub(crate) store: RedisStore,
    /// What all of these keys begin with.
    own: SmolStr,
    /// The key of the log of invalidations.
    log: SmolStr,
    /// What the key of a mark begins with.
    pub(crate) prefix: SmolStr,
}

/// What the keys of a service's marks begin with, and the key of their log.
pub(crate) fn own_and_log(service: &str) -> (SmolStr, SmolStr) {
    // A lone `%` is in no key and no namespace, which escape it, and what is within the braces puts
    // all of them into one slot of a cluster.
    let own = format_smolstr!("{service}%{{t:{service}}}");
    let log = format_smolstr!("{own}log");
    (own, log)
}

impl RedisMarks {
    /// The marks of the service of `store`, by the connections of that store.
    #[must_use]
    pub fn new(store: &RedisStore) -> Self {
        let (own, log) = own_and_log(&store.0.settings.prefix);
        let prefix = format_smolstr!("{own}tag:");
        Self { store: store.clone(), own, log, prefix }
    }

    fn keys(&self, tags: &[&str]) -> Vec<SmolStr> {
        tags.iter().map(|tag| format_smolstr!("{}{tag}", self.prefix)).collect()
    }

    /// By how much the marks outlive their entries: the entry is written after its marks.
    fn slack(&self) -> Duration {
        2 * self.store.0.settings.operation_timeout + Duration::from_secs(1)
    }

    async fn stamp_together(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        let (store, keys) = (&self.store.0, self.keys(tags));
        let slack = self.slack();
        let stamp =
            |_: &Live| store.scripts.marks.stamp(&self.log, &keys, tags, since, life, slack);
        match store.run(&self.log, stamp).await? {
            Value::Nil => Ok(None),
            Value::Array(generations) if generations.len() == tags.len() => {
                let stamps = tags.iter().zip(&generations);
                let stamps =
                    stamps.map(|(tag, generation)| Ok(Stamp::new(tag, number(generation)?)));
                stamps.collect::<Result<_>>().map(Some)
            }
            _ => Err(unexpected()),
        }
    }

    async fn generations_together(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        let store = &self.store.0;
        let keys = self.keys(tags);
        let question = || {
            let mut command = redis::cmd("MGET");
            for key in &keys {
                command.arg(key.as_str());
            }
            command
        };
        let Value::Array(marks) = store.ask(&self.log, question).await? else {
            return Err(unexpected());
        };
        if marks.len() != tags.len() {
            return Err(unexpected());
        }
        // A mark that is not a number is a foreigner's, and as good as lost.
        let generation = |mark| match mark {
            Value::BulkString(bytes) => std::str::from_utf8(&bytes).ok()?.parse().ok(),
            _ => None,
        };
        Ok(marks.into_iter().map(generation).collect())
    }

    async fn invalidate_together(&self, tags: &[&str]) -> Result<()> {
        let (store, keys) = (&self.store.0, self.keys(tags));
        let invalidate = |_: &Live| store.scripts.marks.invalidate(&self.log, &keys, tags);
        let pending = keys.iter().zip(tags).map(|(mark, tag)| Pending::Invalidate {
            log: self.log.clone(),
            mark: mark.clone(),
            tag: SmolStr::new(tag),
        });
        let owed = store.owing(|store| pending.for_each(|pending| store.keep(pending)));
        owed.settle(store.run(&self.log, invalidate).await.map(drop))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Marks for RedisMarks {
    async fn epoch(&self) -> Result<u64> {
        let store = &self.store.0;
        number(&store.run(&self.log, |_: &Live| store.scripts.marks.epoch(&self.log)).await?)
    }

    async fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        let mut all = Vec::with_capacity(tags.len());
        for tags in tags.chunks(TOGETHER) {
            match self.stamp_together(tags, since, life).await? {
                Some(stamps) => all.extend(stamps),
                None => return Ok(None),
            }
        }
        Ok(Some(all))
    }

    async fn generations(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        let mut all = Vec::with_capacity(tags.len());
        for tags in tags.chunks(TOGETHER) {
            all.extend(self.generations_together(tags).await?);
        }
        Ok(all)
    }

    /// Never at once: the marks are on another machine.
    fn holds_now(&self, _stamps: &[Stamp]) -> std::task::Poll<bool> {
        std::task::Poll::Pending
    }

    fn revision(&self) -> Option<&Revision> {
        None
    }

    async fn invalidate(&self, tags: &[&str]) -> Result<()> {
        let mut result = Ok(());
        for tags in tags.chunks(TOGETHER) {
            result = result.and(self.invalidate_together(tags).await);
        }
        result
    }

    /// Without a log all that is not marked now counts as invalidated now, and a lost mark is an invalid one.
    async fn invalidate_all(&self) -> Result<()> {
        self.store.0.remove_full_prefix(self.own.clone()).await
    }

    // It keeps no copies.
    fn attach_near(&self, near: NearTier) {
        drop(near);
    }
}

impl fmt::Debug for RedisMarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisMarks").field("log", &self.log).finish_non_exhaustive()
    }
}
