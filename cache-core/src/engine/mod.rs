//! What the reading strategies have in common.
//!
//! `read.rs` has the way of one key through the cache, `many.rs` that of many; both lead their loads
//! by `lead.rs`, and `fence.rs` stands between a load and the store. `freshness.rs` says what an entry is good for,
//! `refresh.rs` replaces one that is still there, and `background.rs` keeps count of what goes on without a caller.
//! `invalidate.rs` is how keys leave, `write.rs` how they are written through; `beside.rs` knows what the store does
//! not, and `repair.rs` removes what is not to be trusted.

mod background;
mod beside;
mod fence;
mod freshness;
mod invalidate;
mod lead;
mod many;
mod read;
mod refresh;
mod repair;
mod warm_up;
mod write;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

pub use self::warm_up::WarmUp;

use self::background::{Background, Pause};
use self::beside::Beside;
use self::freshness::{Due, Use, Watch, stale};
use crate::flight::{Flights, Follow, Followed, Landing, Takes};
use crate::waits::Node;
use crate::{
    BoxError, CacheStore, Entry, Error, ErrorKind, Event, Freshness, Lease, Observer, Outcome,
    ReadHints, ReadOptions, Result, StaleReason, Version,
};

pub(crate) use beside::{Pending, PendingWrite};
pub(crate) use lead::message;
pub(crate) use read::runtime;
pub(crate) use write::{Failed, Fence, Unfinished};

/// A store, what to do with it, and the loads in progress.
pub(crate) struct Engine<S: CacheStore, O> {
    pub(crate) store: S,
    pub(crate) options: ReadOptions<S::Value, O>,
    flights: Arc<Flights<S::Value>>,
    beside: Beside<S::Value>,
    background: Arc<Background>,
    watch: Watch,
}

/// What a load may ask of the store before it asks the source.
#[derive(Clone, Copy)]
enum Ask {
    /// The right to load the key, which has no entry, or a stale one of this version.
    Claim { seen: Option<Version> },
    /// Nothing: it has just failed.
    Nothing,
}

impl Ask {
    /// The entry that is to be replaced.
    fn seen(self) -> Option<Version> {
        match self {
            Self::Claim { seen } => seen,
            Self::Nothing => None,
        }
    }

    /// What is good for who has come to this while the load of somebody else was under way.
    fn takes(self) -> Takes {
        match self {
            Self::Claim { .. } => Takes::Fenced,
            Self::Nothing => Takes::Blind,
        }
    }
}

/// What an answer of the store is to a request.
enum Seen<V> {
    /// The request is answered.
    Answer(Landing<V>),
    /// The request can be answered, and the entry of this version is to be refreshed.
    Refresh { current: Landing<V>, seen: Version },
    /// There is nothing to answer with, unless the load fails and there is something in `reserve`.
    Ask { ask: Ask, reserve: bool },
}

/// What a request asks of its load.
enum Todo<V> {
    /// To be waited for.
    Load(Ask),
    /// To replace the entry of this version; there is an answer.
    Refresh { current: Landing<V>, seen: Version },
}

impl<S: CacheStore, O: Observer> Engine<S, O> {
    pub(crate) fn new(store: S, options: ReadOptions<S::Value, O>) -> Result<Arc<Self>> {
        options.check()?;
        Ok(Arc::new_cyclic(|engine: &Weak<Self>| {
            let engine = engine.clone();
            let flights = Flights::new(move |lease| {
                if let Some(engine) = engine.upgrade() {
                    engine.release_soon(lease);
                }
            });
            let (flights, background) = (Arc::new(flights), Background::new());
            let watch = Watch::new(&options);
            Self { store, options, flights, background, watch, beside: Beside::default() }
        }))
    }

    /// How many keys are being loaded.
    pub(crate) fn loading(&self) -> usize {
        self.flights.len()
    }

    /// How many refreshes are under way in the background.
    pub(crate) fn refreshing(&self) -> usize {
        self.background.refreshes()
    }

    pub(crate) async fn shutdown(&self, limit: Duration) -> usize {
        self.background.shutdown(limit).await
    }

    /// What the answer of the store means for a request. `due` is what a fresh entry has already been found to need.
    fn seen(
        self: &Arc<Self>,
        key: &str,
        found: Result<Option<Entry<S::Value>>>,
        hints: ReadHints,
        due: Option<Due>,
    ) -> Seen<S::Value> {
        let entry = match found {
            Ok(Some(entry)) => entry,
            Ok(None) => return Seen::Ask { ask: Ask::Claim { seen: None }, reserve: false },
            Err(error) => {
                self.store_failed(&error);
                return match self.options.fails_closed {
                    true => Seen::Answer(Landing::failed(error)),
                    false => Seen::Ask { ask: Ask::Nothing, reserve: false },
                };
            }
        };
        let seen = entry.version();
        if entry.is_fresh_beyond(self.watch.untroubled_beyond) {
            return Seen::Answer(hit(entry));
        }
        if entry.is_fresh() {
            return match due.unwrap_or_else(|| self.due(&entry)) {
                Due::Refresh => Seen::Refresh { current: hit(entry), seen },
                Due::Touch => {
                    self.touch(key, seen);
                    Seen::Answer(hit(entry))
                }
                Due::Nothing => Seen::Answer(hit(entry)),
            };
        }
        match self.usable(&entry, hints) {
            // It has been tried a moment ago.
            usable if usable != Use::Nothing && self.has_just_failed(key) => {
                Seen::Answer(stale(entry, StaleReason::LoadFailed))
            }
            Use::Serve => Seen::Refresh { current: stale(entry, StaleReason::Refreshing), seen },
            usable => {
                let ask = Ask::Claim { seen: Some(seen) };
                Seen::Ask { ask, reserve: usable == Use::Reserve }
            }
        }
    }

    fn has_just_failed(&self, key: &str) -> bool {
        self.background.paused(key) == Some(Pause::Failed)
    }

    /// What can be returned instead of a load that failed, or takes long. It is read now, so it has not been
    /// invalidated meanwhile.
    async fn instead(
        &self,
        key: &str,
        hints: ReadHints,
        reason: StaleReason,
    ) -> Option<Landing<S::Value>> {
        let entry = self.look(key).await.ok().flatten()?;
        if entry.is_fresh() {
            return Some(hit(entry));
        }
        (self.usable(&entry, hints) != Use::Nothing).then(|| stale(entry, reason))
    }

    /// Waits for somebody else's load.
    async fn follow(
        &self,
        follow: &Follow<S::Value>,
        limit: Duration,
    ) -> Result<Followed<S::Value>> {
        let Some(_waiting) = Node::wait_for(follow.node()) else {
            return Err(Error::new(ErrorKind::RecursiveLoad));
        };
        timeout(limit, follow.wait()).await.map_err(|_| {
            // Only a loader that blocks its thread gets here.
            if follow.age() >= self.flight_limit() {
                follow.give_up();
            }
            Error::new(ErrorKind::WaitTimeout)
        })
    }

    /// How long a flight may take: it waits for a lease, loads, and fills.
    fn flight_limit(&self) -> Duration {
        let asks = self.options.store_timeout.saturating_mul(3);
        self.options.waits_for().saturating_add(self.options.load_timeout).saturating_add(asks)
    }

    /// What the store has.
    async fn found(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        match self.look_now(key) {
            Poll::Ready(found) => Ok(found),
            Poll::Pending => self.look(key).await,
        }
    }

    /// The store's answer, if it comes in time.
    async fn within_limit<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let mut answer = pin!(answer);
        // A store in this process answers at once, and needs no timer, and no runtime.
        if let Poll::Ready(answer) = poll_once(answer.as_mut()).await {
            return answer;
        }
        if Handle::try_current().is_err() {
            return answer.await;
        }
        // Boxed, because a timer is large and most answers need none.
        Box::pin(timeout(self.options.store_timeout, answer))
            .await
            .unwrap_or_else(|late| Err(Error::with_cause(ErrorKind::Unavailable, late)))
    }

    /// Gives a lease back, and says whether it had held until then.
    async fn release(&self, lease: Lease) -> bool {
        let released = self.within_limit(self.store.release(lease)).await;
        released.inspect_err(|error| self.store_failed(error)).unwrap_or(false)
    }

    /// Releases the lease of a load that was dropped. A store in memory does it at once, one behind
    /// a network in the background; without a runtime the lease ends by itself.
    fn release_soon(self: Arc<Self>, lease: Lease) {
        let release = async move {
            self.release(lease).await;
        };
        // It may be called while a panic unwinds, and a second one would end the process.
        let mut release = Box::pin(AssertUnwindSafe(release).catch_unwind());
        let waiting = release.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        if let (true, Ok(runtime)) = (waiting, Handle::try_current()) {
            runtime.spawn(release);
        }
    }

    fn store_failed(&self, error: &Error) {
        self.notify(&Event::StoreFailed { error });
    }

    fn began(&self) -> Option<Instant> {
        let samples = catch_unwind(AssertUnwindSafe(|| self.options.observer.samples()));
        samples.is_ok_and(|samples| samples).then(Instant::now)
    }

    fn ended(&self, outcome: Outcome, began: Option<Instant>) {
        let took = began.map(|began| began.elapsed());
        self.notify(&Event::Request { outcome, took });
    }

    fn notify(&self, event: &Event<'_>) {
        // An observer can't break the cache. (Of a silent one nothing is left here.)
        let _ = catch_unwind(AssertUnwindSafe(|| self.options.observer.observe(event)));
    }
}

/// Requests that have missed. They have been cancelled if they are dropped before they end.
struct Missing<'a, S: CacheStore, O: Observer> {
    engine: &'a Engine<S, O>,
    began: Option<Instant>,
    count: usize,
}

impl<S: CacheStore, O: Observer> Missing<'_, S, O> {
    fn ended(&mut self, answer: Landing<S::Value>) -> Landing<S::Value> {
        self.count -= 1;
        self.engine.ended(answer.outcome, self.began);
        answer
    }
}

impl<S: CacheStore, O: Observer> Drop for Missing<'_, S, O> {
    fn drop(&mut self) {
        for _ in 0..self.count {
            self.engine.ended(Outcome::Cancelled, self.began);
        }
    }
}

/// The answer that a fresh entry is.
#[inline]
fn hit<V>(entry: Entry<V>) -> Landing<V> {
    let outcome = if entry.is_negative() { Outcome::Negative } else { Outcome::Hit };
    Landing { result: Ok(entry.into_value()), outcome, freshness: Freshness::Fresh }
}

/// Whether a stale value is better than this error. A mistake in the program is to be seen.
fn excused(landing: &Landing<impl Sized>) -> bool {
    let mistakes = [ErrorKind::RecursiveLoad, ErrorKind::NoRuntime];
    landing.result.as_ref().is_err_and(|error| !mistakes.contains(&error.kind()))
}

/// The cache's error for a loader's. The error of a cache below passes as it is.
fn load_error(error: impl Into<BoxError>) -> Error {
    match error.into().downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::with_cause(ErrorKind::Load, error),
    }
}

/// Polls a future just once.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}
