//! How the near tier hears of changes that others have made.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::stats::{Counters, Resync};
use crate::clock::Alarm;
use crate::{Error, ErrorKind, Moment, Result};

/// How long a store may take for what its coherence needs.
const LIMIT: Duration = Duration::from_secs(5);

/// How long the far store may take to look through all its keys.
const SWEEP: Duration = Duration::from_secs(600);

/// What has changed: keys in the spelling of the tiers, or tags.
///
/// ```
/// use cache_core::Change;
///
/// assert_eq!(Change::key("user:7"), Change::Keys(vec!["user:7".into()]));
/// assert_eq!(Change::tag("org:7"), Change::tags(["org:7"]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// These keys.
    Keys(Vec<SmolStr>),
    /// All keys that begin with this.
    Prefix(SmolStr),
    /// All entries that have one of these tags.
    Tags(Vec<SmolStr>),
    /// Everything.
    Clear,
}

impl Change {
    /// The change of one key.
    #[must_use]
    pub fn key(key: &str) -> Self {
        Self::Keys(vec![key.into()])
    }

    /// The change of several keys.
    pub fn keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Keys(keys.into_iter().map(SmolStr::new).collect())
    }

    /// The change of all that has this tag.
    #[must_use]
    pub fn tag(tag: &str) -> Self {
        Self::Tags(vec![tag.into()])
    }

    /// The change of all that has one of these tags.
    pub fn tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Tags(tags.into_iter().map(SmolStr::new).collect())
    }

    /// How many keys or tags it names; a prefix, or everything, is one.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Keys(names) | Self::Tags(names) => names.len(),
            Self::Prefix(_) | Self::Clear => 1,
        }
    }

    /// The changes of one key, tag, or prefix each that it is made of.
    pub(crate) fn each(self) -> Vec<Self> {
        let each = |names: Vec<SmolStr>, kind: fn(Vec<SmolStr>) -> Self| {
            names.into_iter().map(|name| kind(vec![name])).collect()
        };
        match self {
            Self::Keys(keys) => each(keys, Self::Keys),
            Self::Tags(tags) => each(tags, Self::Tags),
            one @ (Self::Prefix(_) | Self::Clear) => vec![one],
        }
    }
}

/// A way to keep near tiers coherent: [`Broadcast`](crate::Broadcast) over a bus, or the server's own tracking.
///
/// It starts with the near tier closed: reads go to the far store. Once it hears of every change, it
/// [empties](NearTier::resync) the near tier and [opens](NearTier::trust) it for a limited time, again and
/// again. When it may have missed something, it empties it; when it can't know, it lets the time run out.
pub trait Coherence: Send + 'static {
    /// Begins to keep `near` coherent, by tasks that end when `near` is gone or the keeper is dropped; what is to be announced
    /// by then may be announced first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoRuntime`](crate::ErrorKind::NoRuntime) outside a tokio runtime;
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption).
    fn keep(self, near: NearTier) -> Result<Keeper>;
}

/// What [`Coherence::keep`] has begun. It ends when it is dropped.
#[must_use]
pub struct Keeper {
    pub(crate) announcer: Option<Arc<dyn Announce>>,
    tasks: Vec<AbortHandle>,
}

impl Keeper {
    /// One that announces nothing: somebody else sees the changes.
    pub fn new(tasks: Vec<AbortHandle>) -> Self {
        Self { announcer: None, tasks }
    }

    /// The changes of this process are announced by `announcer`.
    pub fn announcing(mut self, announcer: Arc<dyn Announce>) -> Self {
        self.announcer = Some(announcer);
        self
    }

    /// Who announces this process's changes, if somebody does.
    #[must_use]
    pub fn announcer(&self) -> Option<Arc<dyn Announce>> {
        self.announcer.clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(announcer) = &self.announcer {
            announcer.ended();
        }
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("announces", &self.announcer.is_some())
            .finish_non_exhaustive()
    }
}

/// Tells others what this process has changed. It never waits.
pub trait Announce: Send + Sync + 'static {
    /// This has been changed in the far store.
    fn changed(&self, change: Change);

    /// This was to be removed from the far store, and nobody knows whether it is. It is to be removed there
    /// until that is certain, and announced then, at the latest.
    fn unsettled(&self, change: Change);

    /// Waits until all that it has been told is settled, and is where others hear of it, up to `limit`; returns how many changes
    /// wait then: 0 if none of these does. By default there is never one.
    fn flush(&self, limit: Duration) -> BoxFuture<'_, usize> {
        let _ = limit;
        async { 0 }.boxed()
    }

    /// The last handle is gone. What waits is to be announced, if there is still a runtime that does it.
    fn ended(&self) {}
}

/// The near tier, for those who keep it coherent. It does not keep the tiers alive.
#[derive(Clone)]
pub struct NearTier {
    pub(crate) side: Weak<dyn Side>,
    /// What the keys of the store below begin with, for this near tier.
    prefix: SmolStr,
    /// Why it is kept by what keeps it.
    since: Option<Arc<str>>,
}

/// What a [`NearTier`] needs of the tiers, whatever their types.
pub(crate) trait Side: Alarm {
    fn forget<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<()>>;
    fn forget_all(&self) -> BoxFuture<'_, Result<()>>;
    fn remove_far<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<()>>;
    fn mark_far<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;
    fn copy_only_reads(&self, only: bool);
    /// A store below that keeps copies itself copies what is read alone, or does not any more.
    fn reads_below(&self, only: bool);
    /// Something below tells of the far store's tags.
    fn tags_are_told(&self);
    fn needs_tags(&self) -> bool;
    /// Whether [`Change::Clear`] can be removed from the far store.
    fn clears_far(&self) -> bool;
    fn open_until(&self, until: Moment);
    fn close(&self);
    /// A store below that keeps copies itself answers from them again, or does not.
    fn below(&self, opens: bool);
    fn now(&self) -> Moment;
    fn counters(&self) -> &Counters;
}

impl NearTier {
    pub(crate) fn new(side: Weak<dyn Side>) -> Self {
        Self { side, prefix: SmolStr::default(), since: None }
    }

    /// For [`CacheStore::attach_near`](crate::CacheStore::attach_near) of a wrapper that puts `prefix` before every key:
    /// the near tier as a store below it sees it, which spells keys with the prefix.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.prefix = SmolStr::from_iter([prefix, &self.prefix]);
        self
    }

    /// A change in the spelling of the store below, as this near tier spells it; `None` if it is not its concern.
    pub(crate) fn spelled<'a>(&self, change: &'a Change) -> Option<Cow<'a, Change>> {
        let prefix = self.prefix.as_str();
        Some(match change {
            _ if prefix.is_empty() => Cow::Borrowed(change),
            Change::Keys(keys) => {
                let own: Vec<_> = keys.iter().filter_map(|key| key.strip_prefix(prefix)).collect();
                if own.is_empty() {
                    return None;
                }
                Cow::Owned(Change::keys(own))
            }
            Change::Prefix(removed) => match removed.strip_prefix(prefix) {
                Some(rest) => Cow::Owned(Change::Prefix(rest.into())),
                None if prefix.starts_with(removed.as_str()) => Cow::Owned(Change::Clear),
                None => return None,
            },
            Change::Tags(_) | Change::Clear => Cow::Borrowed(change),
        })
    }

    /// Whether the tiers are still in use.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.side.strong_count() > 0
    }

    /// The time by the tiers' clock. Take it *before* you ask whether all is well.
    #[must_use]
    pub fn now(&self) -> Option<Moment> {
        self.side.upgrade().map(|side| side.now())
    }

    /// Drops what others have changed, and keeps reads that are under way from being copied.
    ///
    /// # Errors
    ///
    /// Those of the near store. The near tier is closed then.
    pub async fn forget(&self, change: &Change) -> Result<()> {
        let Some(side) = self.side.upgrade() else {
            return Ok(());
        };
        Counters::add(&side.counters().dropped_by_others, change.count());
        let forgotten = bounded(side.forget(change)).await;
        if forgotten.is_err() {
            side.close();
        }
        forgotten
    }

    /// Empties the near tier, because changes may have been missed. It is closed meanwhile and afterwards.
    ///
    /// # Errors
    ///
    /// Those of the near store.
    pub async fn resync(&self, reason: Resync) -> Result<()> {
        let Some(side) = self.side.upgrade() else {
            return Ok(());
        };
        side.close();
        side.counters().resynced(reason);
        bounded(side.forget_all()).await
    }

    /// Lets the near tier answer until `limit` after `known`, the moment up to which every change is known.
    pub fn trust(&self, known: Moment, limit: Duration) {
        if let Some(side) = self.side.upgrade() {
            side.open_until(known.plus(limit));
        }
    }

    /// Lets the near tier answer nothing.
    pub fn distrust(&self) {
        if let Some(side) = self.side.upgrade() {
            side.close();
        }
    }

    /// Removes from the far store.
    ///
    /// # Errors
    ///
    /// Those of the far store.
    pub async fn remove_far(&self, change: &Change) -> Result<()> {
        let limit = match change {
            Change::Keys(_) | Change::Tags(_) => LIMIT,
            Change::Prefix(_) | Change::Clear => SWEEP,
        };
        match self.side.upgrade() {
            Some(side) => within(limit, side.remove_far(change)).await,
            None => Ok(()),
        }
    }

    pub(crate) fn clears_far(&self) -> bool {
        self.side.upgrade().is_some_and(|side| side.clears_far())
    }

    /// Reads the key `name` from the far store, as all is read that is copied, and then writes a negative entry for a second
    /// under it, so that whoever watches the far store sees how it spells its keys. Of near marks, it is a tag.
    ///
    /// # Errors
    ///
    /// Those of the far store.
    pub async fn mark_far(&self, name: &str) -> Result<()> {
        match self.side.upgrade() {
            Some(side) => bounded(side.mark_far(name)).await,
            None => Ok(()),
        }
    }

    /// Has only what is read from the far store copied, and nothing that is written to it: for whoever hears of
    /// changes of what was read alone. Not so at first. What is in front of these tiers does as they do.
    pub fn copy_only_reads(&self, only: bool) {
        if let Some(side) = self.side.upgrade() {
            side.copy_only_reads(only);
        }
    }

    /// Whether the far store has tags, and nothing below tells when one of them is invalidated, as
    /// [`NearMarks`](crate::NearMarks) do: whoever keeps the near tier coherent has to hear of them himself, or to refuse.
    #[must_use]
    pub fn needs_tags(&self) -> bool {
        self.side.upgrade().is_some_and(|side| side.needs_tags())
    }

    /// For who is [attached](crate::CacheStore::attach_near), and forgets tags here, too.
    pub(crate) fn tags_are_told(&self) {
        if let Some(side) = self.side.upgrade() {
            side.tags_are_told();
        }
    }

    /// Says in words what keeps the near tier coherent, for [`TierSnapshot::kept_by`](crate::TierSnapshot).
    pub fn kept_by(&self, what: &str) {
        self.count(|counters| match &self.since {
            Some(why) => counters.kept_by(&format!("{what}, since {why}")),
            None => counters.kept_by(what),
        });
    }

    /// The same near tier, for something that takes the place of something else: whatever it is said to be
    /// [kept by](Self::kept_by), is so for this reason.
    #[must_use]
    pub fn since(mut self, why: &str) -> Self {
        self.since = Some(why.into());
        self
    }

    /// Reports that a message could not be understood.
    pub fn undecodable(&self) {
        self.count(|counters| Counters::add(&counters.undecodable, 1));
    }

    /// Reports how long news takes.
    pub fn lag(&self, lag: Duration) {
        let nanos = u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX);
        self.count(|counters| counters.lag_nanos.store(nanos, Relaxed));
    }

    pub(crate) fn count(&self, count: impl FnOnce(&Counters)) {
        if let Some(side) = self.side.upgrade() {
            count(side.counters());
        }
    }
}

/// The store's answer, if it comes in time. Without a runtime there is no timer.
async fn bounded(answer: impl Future<Output = Result<()>>) -> Result<()> {
    within(LIMIT, answer).await
}

async fn within(limit: Duration, answer: impl Future<Output = Result<()>>) -> Result<()> {
    if Handle::try_current().is_err() {
        return answer.await;
    }
    let late = |late| Err(Error::with_cause(ErrorKind::Unavailable, late));
    timeout(limit, answer).await.unwrap_or_else(late)
}

impl fmt::Debug for NearTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearTier").field("alive", &self.is_alive()).finish()
    }
}
