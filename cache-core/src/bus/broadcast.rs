use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::message::{Body, Message};
use super::outbox::Outbox;
use super::{Bus, publish, receive};
use crate::{Announce, Change, Coherence, Error, ErrorKind, Keeper, Moment, NearTier, Result};

/// Keeps near tiers coherent over a [`Bus`]: each tells the others what it has changed.
///
/// # What it promises
///
/// A change is published after the far store has acknowledged it. Keys go together. Nobody drops its own
/// writes for its own messages. What can't be sent waits, in order and up to
/// [`max_pending`](Self::max_pending), and is sent again; more than that becomes one message that
/// empties everybody's near tier.
///
/// A listener knows when it has missed something, and empties its near tier before that serves again:
///
/// | what happens | how it shows | counted as ([`Resync`](crate::Resync)) |
/// |---|---|---|
/// | a message is lost | the next one's number, or the number in the next heartbeat | `Hole` |
/// | the connection ends | the subscription ends | `Connected`, when there is a new one |
/// | the connection hangs | its own heartbeats do not come back: after [`trust`](Self::trust) the near tier is not used | `Connected` |
/// | it is too slow | the bus says so | `Lag` |
/// | a publisher dies with something to say | its heartbeats end, four in a row | `Silent` |
/// | a publisher was there before, unheard | its first message has not the first number | `Newcomer` |
/// | a newer version says what this one does not know | its version or kind | `Unknown` |
/// | the far store is emptied by somebody else | the bus says so, if it is one that looks | `Flushed` |
///
/// So a near hit is behind what others have published by at most the time that a message takes, and by `trust` if
/// messages do not arrive. Two things it can't do. Who changes the far store without these tiers is not heard
/// of; the server's own tracking hears of them, and `near_ttl` bounds it. And a publisher that reaches the far store
/// but not the bus is heard of when it reaches the bus again: others empty their near tiers once when it falls silent,
/// and after that `near_ttl` is the bound.
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
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.settings.heartbeat = every;
        self
    }

    /// For how long the near tier answers after a heartbeat of its own that came back was sent: by default four
    /// heartbeats. It has to be longer than two.
    #[must_use]
    pub fn trust(mut self, trust: Duration) -> Self {
        self.settings.trust = Some(trust);
        self
    }

    /// How many changes wait for the bus, 10 000 by default. If there are more, everybody's near tier is emptied
    /// instead.
    #[must_use]
    pub fn max_pending(mut self, changes: usize) -> Self {
        self.settings.max_pending = changes;
        self
    }
}

impl Settings {
    pub(super) fn trusts(&self) -> Duration {
        self.trust.unwrap_or(self.heartbeat * 4)
    }

    fn check(&self) -> Result<()> {
        let refuse = |why| Err(Error::with_cause(ErrorKind::InvalidOption, why));
        if self.heartbeat < Duration::from_millis(1) || self.heartbeat > Duration::from_secs(60) {
            return refuse("heartbeat: must be between a millisecond and a minute");
        }
        if self.trusts() <= self.heartbeat * 2 {
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
        let tasks = vec![
            runtime.spawn(publish::run(Arc::clone(&shared))).abort_handle(),
            runtime.spawn(publish::settle(Arc::clone(&shared))).abort_handle(),
            runtime.spawn(receive::run(Arc::clone(&shared))).abort_handle(),
        ];
        let ending = Ending { shared, runtime };
        Ok(Keeper::new(tasks).announcing(Arc::new(ending)))
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

/// What the tasks share.
pub(super) struct Shared<B> {
    pub(super) bus: B,
    pub(super) near: NearTier,
    pub(super) settings: Settings,
    /// Of these tiers, until they end: never used again, also not after a fork or a restart.
    pub(super) own: u64,
    pub(super) outbox: Outbox,
    /// What is to be removed from the far store before it is announced.
    pub(super) unsettled: Outbox,
    state: Mutex<State>,
    /// A heartbeat is wanted before its time.
    pub(super) beat_now: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last change.
    number: u64,
    /// Whether that one may not have been sent.
    sending: bool,
    /// Something is being removed from the far store, and is not announced yet.
    settling: bool,
    /// The beats of which it is known when they were sent, the oldest first.
    beats: std::collections::VecDeque<(u64, Moment)>,
    last_beat: u64,
    /// What the near tier was told to be kept by.
    described: String,
}

impl<B: Bus> Shared<B> {
    fn new(bus: B, near: NearTier, settings: Settings) -> Self {
        Self {
            bus,
            near,
            settings,
            own: fastrand::u64(..),
            outbox: Outbox::new(settings.max_pending),
            unsettled: Outbox::new(settings.max_pending),
            state: Mutex::default(),
            beat_now: Notify::new(),
        }
    }

    /// Says what the bus is, if it was something else before.
    pub(super) fn describe(&self) {
        let described = self.bus.describe();
        let mut state = self.lock();
        if state.described != described {
            self.near.kept_by(&described);
            state.described = described;
        }
    }

    /// The next change, which has a number from now on.
    pub(super) fn change(&self, change: Change) -> Message {
        let mut state = self.lock();
        state.number += 1;
        state.sending = true;
        Message { publisher: self.own, number: state.number, body: Body::Change(change) }
    }

    pub(super) fn sent(&self) {
        self.lock().sending = false;
    }

    /// A heartbeat that is sent `now`; none while it is not known whether the last change has been sent.
    pub(super) fn beat(&self, now: Moment) -> Option<Message> {
        let mut state = self.lock();
        if state.sending {
            return None;
        }
        state.last_beat += 1;
        let beat = state.last_beat;
        // More than a few are never on their way, unless none comes back.
        if state.beats.len() >= 64 {
            state.beats.pop_front();
        }
        state.beats.push_back((beat, now));
        let body = Body::Heartbeat { beat, every: self.settings.heartbeat };
        Some(Message { publisher: self.own, number: state.number, body })
    }

    /// When the beat was sent that has come back.
    pub(super) fn came_back(&self, beat: u64) -> Option<Moment> {
        let mut state = self.lock();
        let (_, sent) = *state.beats.iter().find(|(number, _)| *number == beat)?;
        state.beats.retain(|(number, _)| *number > beat);
        Some(sent)
    }

    /// The next change that is not settled, which is in hand until it is [`settled`](Self::settled).
    pub(super) fn settle_next(&self) -> Option<Change> {
        let mut state = self.lock();
        let next = self.unsettled.pop();
        state.settling = next.is_some();
        next
    }

    pub(super) fn settled(&self) {
        self.lock().settling = false;
    }

    /// How many changes wait or are in hand, and how often there were too many.
    pub(super) fn waiting(&self) -> (usize, u64) {
        let state = self.lock();
        let in_hand = usize::from(state.sending) + usize::from(state.settling);
        drop(state);
        let ((announced, some), (unsettled, more)) = (self.outbox.state(), self.unsettled.state());
        (announced + unsettled + in_hand, some + more)
    }

    fn end(&self) -> Option<Message> {
        let state = self.lock();
        let waits = self.outbox.state().0 > 0 || self.unsettled.state().0 > 0;
        let silent = state.sending || state.settling || waits;
        (!silent).then(|| Message { publisher: self.own, number: state.number, body: Body::End })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the tiers that the tasks do not see, as they are aborted.
struct Ending<B> {
    shared: Arc<Shared<B>>,
    runtime: Handle,
}

impl<B: Bus> Announce for Ending<B> {
    fn changed(&self, change: Change) {
        self.shared.outbox.push(change);
    }

    fn unsettled(&self, change: Change) {
        self.shared.unsettled.push(change);
    }

    fn ended(&self) {
        // If there is more to say, others find out by the silence.
        let Some(end) = self.shared.end() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let publish = shared.bus.publish(end.encode());
            let _ = tokio::time::timeout(publish::LIMIT, publish).await;
        });
    }
}
