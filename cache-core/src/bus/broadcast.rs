use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::shared::Shared;
use super::{Bus, publish, receive, settle};
use crate::tier::Counters;
use crate::{Announce, Change, Coherence, Error, ErrorKind, Keeper, NearTier, Result};

/// Keeps near tiers coherent over a [`Bus`]: each tells the others what it has changed.
///
/// # What it promises
///
/// A change is published after the far store has acknowledged it. Keys go together. Nobody drops its own
/// writes for its own messages. What can't be sent waits, in order and up to
/// [`max_pending`](Self::max_pending), and is sent again; more than that becomes one message that
/// empties everybody's near tier. A change of which nobody knows whether the far store has made it is published at
/// once, is removed from the far store until that is certain, each key by itself, and is published again then.
///
/// What waits is in this process, and is lost with it: call [`Tiered::flush`](crate::Tiered::flush), or
/// [`NearMarks::flush`](crate::NearMarks::flush), before it ends. When the last handle to the tiers is dropped and their runtime goes on,
/// what waits is published within five seconds, or not at all.
///
/// A listener knows when it has missed something, and empties its near tier before that serves again:
///
/// | what happens | how it shows | counted as ([`Resync`](crate::Resync)) |
/// |---|---|---|
/// | a message is lost | the next one's number, or the number in the next heartbeat | `Hole` |
/// | the connection ends | the subscription ends | `Connected`, when there is a new one |
/// | the connection hangs | its own heartbeats do not come back: after [`trust`](Self::trust) the near tier is not used | `Connected` |
/// | it is too slow | the bus says so | `Lag` |
/// | a publisher dies with something to say | its heartbeats end: after `trust` the near tier is not used, and after four of them it is emptied | `Silent` |
/// | a publisher was there before, unheard | its first message has not the first number | `Newcomer` |
/// | a newer version says what this one does not know | its version or kind | `Unknown` |
/// | the far store is emptied by somebody else | the bus says so, if it is one that looks | `Flushed` |
///
/// So a near hit is behind what others have published by at most the time that a message takes, and by the listener's `trust` if
/// messages do not arrive, whatever becomes of the publisher: the near tier is used for `trust` after what was heard
/// last, from each publisher that is known. (What a bus has to promise for that is in [`Bus`].) Three things it can't do. Who changes the far store without these tiers is not heard
/// of; the server's own tracking hears of them, and `near_ttl` bounds it. A publisher that reaches the far store
/// but not the bus is heard of when it reaches the bus again: others stop using their near tiers, empty them once it has been silent
/// for four heartbeats, and after that `near_ttl` is the bound. And a publisher whose [`heartbeat`](Self::heartbeat) is longer than a
/// listener's is known to that one from its first message on, and what it loses before counts from there.
///
/// Why a bus fails, and that somebody beats more slowly than is trusted, is in [`kept_by`](crate::TierSnapshot::kept_by).
///
/// # What it costs
///
/// Each process sends a heartbeat four times a second, and everybody gets all of them: with 100 processes 40,000
/// deliveries a second. Choose [`heartbeat`](Self::heartbeat) by that.
///
/// ```
/// use cache_core::{Broadcast, CacheStore, CacheStoreExt, LocalBus, Tiered};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (bus, far) = (LocalBus::new(1024), MemoryStore::new(10_000));
/// let process = || {
///     Tiered::builder(MemoryStore::new(1_000), far.clone())
///         .coherent_by(Broadcast::over(bus.clone()).heartbeat(Duration::from_millis(100)))
///         .build()
/// };
/// let (a, b) = (process()?, process()?);
/// (a.trusted().await, b.trusted().await);
///
/// a.put("price", 3, Duration::from_secs(60)).await?;
/// assert_eq!(b.value("price").await?, Some(3)); // b has a near copy now
/// a.put("price", 4, Duration::from_secs(60)).await?;
/// while b.value("price").await? != Some(4) {
///     tokio::task::yield_now().await; // the message is on its way
/// }
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct Broadcast<B> {
    bus: B,
    pub(super) settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) heartbeat: Duration,
    pub(super) trust: Option<Duration>,
    pub(super) max_pending: usize,
}

impl<B: Bus> Broadcast<B> {
    /// Over this bus, which belongs to these tiers: those of other processes have the same, other tiers have another.
    #[must_use]
    pub fn over(bus: B) -> Self {
        let settings =
            Settings { heartbeat: Duration::from_millis(250), trust: None, max_pending: 10_000 };
        Self { bus, settings }
    }

    /// How often a process says that it is there, and which number its last change had: 250 ms by default.
    ///
    /// It should be the same for all on a bus. Who beats more slowly than others trust keeps their near tiers closed for the rest
    /// of the time: they answer for `trust` after each of its heartbeats.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.settings.heartbeat = every;
        self
    }

    /// For how long the near tier answers after the last moment up to which all that was published is known, by a heartbeat of
    /// its own that came back, and by a message of each other publisher: by default four heartbeats. It has to be longer than two. As
    /// a message of another is taken to be as old as the own heartbeat before it, two missing ones in a row are no harm with four.
    #[must_use]
    pub fn trust(mut self, trust: Duration) -> Self {
        self.settings.trust = Some(trust);
        self
    }

    /// How many changes wait for the bus, 10 000 by default, and how many keys, tags and prefixes of which it is not certain
    /// that the far store has removed them. Either is more than that after a long failure only, and then nothing is lost,
    /// but more goes than has changed:
    ///
    /// | more than that wait | what happens |
    /// |---|---|
    /// | for the bus | everybody's near tier is emptied |
    /// | to be removed from the far store | **the far store is cleared** ([`CacheStore::clear`](crate::CacheStore::clear): of its own, so of its namespace), and everybody's near tier emptied |
    /// | the same, and the far store can't be cleared ([`Capabilities::prefix`](crate::Capabilities)) | those that are too many are announced, and not tried again: what the far store has of them stays until it expires ([`TierSnapshot::given_up`](crate::TierSnapshot)) |
    /// | for their marks ([`NearMarks`](crate::NearMarks)) | all tags are invalidated |
    ///
    /// A key that fails again while it waits counts once.
    #[must_use]
    pub fn max_pending(mut self, changes: usize) -> Self {
        self.settings.max_pending = changes;
        self
    }
}

impl Settings {
    pub(super) fn trusts(&self) -> Duration {
        self.trust.unwrap_or(self.heartbeat.saturating_mul(4))
    }

    fn check(&self) -> Result<()> {
        let refuse = |why| Err(Error::with_cause(ErrorKind::InvalidOption, why));
        if self.heartbeat < Duration::from_millis(1) || self.heartbeat > Duration::from_secs(60) {
            return refuse("heartbeat: must be between a millisecond and a minute");
        }
        if self.trusts() <= self.heartbeat.saturating_mul(2) {
            return refuse("trust: must be longer than two heartbeats");
        }
        if self.max_pending == 0 {
            return refuse("max_pending: must not be zero");
        }
        Ok(())
    }
}

impl<B: Bus> Coherence for Broadcast<B> {
    fn keep(self, near: NearTier) -> Result<Keeper> {
        self.settings.check()?;
        let runtime =
            Handle::try_current().map_err(|e| Error::with_cause(ErrorKind::NoRuntime, e))?;
        let shared = Arc::new(Shared::new(self.bus, near, self.settings));
        shared.describe();
        // It ends by itself, once it has sent what waits.
        runtime.spawn(publish::run(Arc::clone(&shared)));
        let tasks = vec![
            runtime.spawn(settle::run(Arc::clone(&shared))).abort_handle(),
            runtime.spawn(receive::run(Arc::clone(&shared))).abort_handle(),
        ];
        Ok(Keeper::new(tasks).announcing(Arc::new(Announcer(shared))))
    }
}

impl<B: fmt::Debug> fmt::Debug for Broadcast<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("bus", &self.bus)
            .field("settings", &self.settings)
            .finish()
    }
}

/// What the tiers tell the tasks.
struct Announcer<B>(Arc<Shared<B>>);

impl<B: Bus> Announce for Announcer<B> {
    fn changed(&self, change: Change) {
        self.0.outbox.push(change);
    }

    fn unsettled(&self, change: Change) {
        let shared = &self.0;
        // It may have been made, so others are to hear of it now; they hear of it again once it is settled. Until then they
        // find in the far store what is there: the announcement costs them a read, and can't make anything older.
        shared.outbox.push(change.clone());
        let given_up = shared.unsettled.push(change, shared.near.clears_far());
        shared.near.count(|counters| Counters::add(&counters.given_up, given_up));
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, usize> {
        self.0.flush(limit).boxed()
    }

    fn ended(&self) {
        self.0.ended.notify_one();
    }
}
