//! The way of one key through the cache.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::freshness::Due;
use super::{Ask, Engine, Missing, Seen, Todo, excused, load_error};
use crate::flight::{Followed, Landing, Lead, Seat, Settled, Takes};
use crate::{
    BoxError, CacheKey, CacheStore, Entry, Error, ErrorKind, Freshness, Key, Loader, Observer,
    Outcome, ReadHints, Reading, Result, StaleReason,
};

impl<S: CacheStore, O: Observer> Engine<S, O> {
    /// What the store has that is fresh, and nothing more.
    pub(crate) async fn get(self: &Arc<Self>, key: &Key<'_>) -> Result<Option<S::Value>> {
        let mut missing = Missing { engine: self, began: self.began(), count: 1 };
        let found = self.found(key).await;
        let answer = match self.seen(key, found, ReadHints::new(), None) {
            Seen::Answer(answer) | Seen::Refresh { current: answer, .. }
                if answer.freshness.is_fresh() =>
            {
                answer
            }
            _ => {
                Landing { result: Ok(None), outcome: Outcome::Missed, freshness: Freshness::Fresh }
            }
        };
        missing.ended(answer).result
    }

    /// 1. Ask the store.    2. On a miss, join the flight: one caller loads, the others wait.
    /// 3. The one claims the key, which asks the store again.    4. Load, and keep what was found.
    ///
    /// The load is polled in place, so it may borrow from the caller. If the caller goes away, one of
    /// those who wait takes over, with its own load.
    #[inline]
    pub(crate) fn get_or_load<'a, K, F, Fut, E>(
        self: &'a Arc<Self>,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, S, O, K, F, Fut, E>
    where
        K: CacheKey + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        let miss = move |engine: &'a Arc<Self>, key: &'a K, request| -> Miss<'a, S::Value> {
            Box::pin(async move { engine.in_place(&key.key(), request, load).await.result })
        };
        Read { engine: self, key, miss: Some(miss), missing: None }
    }

    /// As [`get_or_load`](Self::get_or_load), with what the value is worth.
    pub(crate) async fn get_or_load_with<F, Fut, E>(
        self: &Arc<Self>,
        key: &Key<'_>,
        hints: ReadHints,
        load: F,
    ) -> Result<Reading<S::Value>>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        self.in_place(key, self.request(key, hints), load).await.reading()
    }

    /// As [`get_or_load`](Self::get_or_load), with a load that belongs to the cache: it runs in a task of its own,
    /// which no caller can cancel.
    #[inline]
    pub(crate) fn get_or_load_owned<'a, K, F, Fut, E>(
        self: &'a Arc<Self>,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, S, O, K, F, Fut, E>
    where
        K: CacheKey + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let miss = move |engine: &'a Arc<Self>, key: &'a K, request| -> Miss<'a, S::Value> {
            Box::pin(async move {
                let load = || async { load().await.map_err(load_error) };
                engine.apart(&key.key(), request, load).await.result
            })
        };
        Read { engine: self, key, miss: Some(miss), missing: None }
    }

    /// As [`get_or_load_owned`](Self::get_or_load_owned), with the cache's own loader.
    #[inline]
    pub(crate) fn get_through<'a, Q, L>(
        self: &'a Arc<Self>,
        key: &'a Q,
        loader: &'a Arc<L>,
    ) -> impl Future<Output = Result<Option<S::Value>>> + Send + use<'a, S, O, Q, L>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        let miss = move |engine: &'a Arc<Self>, key: &'a Q, request| -> Miss<'a, S::Value> {
            Box::pin(async move {
                let (owned, loader) = (key.to_owned(), Arc::clone(loader));
                let load = || async move { loader.load(owned).await.map_err(load_error) };
                engine.apart(&key.key(), request, load).await.result
            })
        };
        Read { engine: self, key, miss: Some(miss), missing: None }
    }

    /// As [`get_through`](Self::get_through), with what the value is worth.
    pub(crate) async fn get_through_with<Q, L>(
        self: &Arc<Self>,
        key: &Q,
        hints: ReadHints,
        loader: &Arc<L>,
    ) -> Result<Reading<S::Value>>
    where
        Q: CacheKey + ToOwned<Owned: Send + 'static> + Sync + ?Sized,
        L: Loader<Q::Owned, Value = S::Value>,
    {
        let (owned, loader) = (key.to_owned(), Arc::clone(loader));
        let load = || async move { loader.load(owned).await.map_err(load_error) };
        let key = key.key();
        self.apart(&key, self.request(&key, hints), load).await.reading()
    }

    /// The end of a request that a fresh entry answers.
    #[inline]
    fn answered(&self, entry: &mut Entry<S::Value>, began: Option<Instant>) -> Option<S::Value> {
        let value = entry.take_value();
        let outcome = if value.is_some() { Outcome::Hit } else { Outcome::Negative };
        self.ended(outcome, began);
        value
    }

    /// The end of a request that is answered by a fresh entry which needs nothing, or what a fresh one needs.
    // Out of line, so that it costs those nothing who do not have the options.
    #[cold]
    #[inline(never)]
    fn look_closer(
        &self,
        found: &mut Poll<Option<Entry<S::Value>>>,
        began: Option<Instant>,
    ) -> Result<Option<S::Value>, Option<Due>> {
        match found {
            Poll::Ready(Some(entry)) if entry.is_fresh() => match self.due(entry) {
                Due::Nothing => Ok(self.answered(entry, began)),
                due => Err(Some(due)),
            },
            _ => Err(None),
        }
    }

    fn request(&self, key: &Key<'_>, hints: ReadHints) -> Request<S::Value> {
        let began = self.began();
        Request { began, glimpse: Glimpse { found: self.look_now(key), due: None }, hints }
    }

    /// A request whose load is polled in place.
    async fn in_place<F, Fut, E>(
        self: &Arc<Self>,
        key: &Key<'_>,
        request: Request<S::Value>,
        load: F,
    ) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<S::Value>, E>> + Send,
        E: Into<BoxError>,
    {
        let load = || async { load().await.map_err(load_error) };
        let hints = request.hints;
        // In a box: reads within loads of reads share one stack, and this is most of what each takes of it.
        let work = |todo| -> Pin<Box<dyn Future<Output = Landing<S::Value>> + Send + '_>> {
            let key = key.to_smol();
            match todo {
                Todo::Load(ask) => Box::pin(self.load_in_place(key, ask, load)),
                Todo::Refresh { current, seen } => {
                    Box::pin(self.refresh_in_place(key, current, seen, hints, load))
                }
            }
        };
        self.missed(key, request, None, work).await
    }

    /// A request whose load has a task of its own.
    async fn apart<F, Fut>(
        self: &Arc<Self>,
        key: &Key<'_>,
        request: Request<S::Value>,
        load: F,
    ) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<S::Value>>> + Send + 'static,
    {
        // Without a runtime there is no timer, and the load will say so.
        let soft = self.options.freshness.soft_timeout.filter(|_| runtime().is_ok());
        self.missed(key, request, soft, |todo| async {
            match todo {
                Todo::Load(ask) => self.load_apart(key.to_smol(), ask, load).await,
                Todo::Refresh { current, seen } => {
                    self.refresh(&key.to_smol(), seen, load);
                    current
                }
            }
        })
        .await
    }

    /// The way of a request that the store could not answer at once.
    async fn missed<Fut>(
        self: &Arc<Self>,
        key: &Key<'_>,
        request: Request<S::Value>,
        soft: Option<Duration>,
        work: impl FnOnce(Todo<S::Value>) -> Fut + Send,
    ) -> Landing<S::Value>
    where
        Fut: Future<Output = Landing<S::Value>> + Send,
    {
        let Request { began, glimpse: Glimpse { found, due }, hints } = request;
        let mut missing = Missing { engine: self, began, count: 1 };
        let found = match found {
            Poll::Ready(found) => Ok(found),
            Poll::Pending => self.look(key).await,
        };
        let (todo, reserve) = match self.seen(key, found, hints, due) {
            Seen::Answer(answer) => return missing.ended(answer),
            Seen::Refresh { current, seen } => (Todo::Refresh { current, seen }, false),
            Seen::Ask { ask, reserve } => (Todo::Load(ask), reserve),
        };
        let work = pin!(work(todo));
        let answer = match reserve {
            true => self.with_reserve(key, hints, soft, work).await,
            false => work.await,
        };
        missing.ended(answer)
    }

    /// A load for which there is something in reserve, if it fails or takes long.
    pub(super) async fn with_reserve(
        &self,
        key: &str,
        hints: ReadHints,
        soft: Option<Duration>,
        mut load: Pin<&mut impl Future<Output = Landing<S::Value>>>,
    ) -> Landing<S::Value> {
        let landing = match soft {
            Some(limit) => Box::pin(timeout(limit, load.as_mut())).await.ok(),
            None => Some(load.as_mut().await),
        };
        let reason = match &landing {
            Some(landing) if !excused(landing) => None,
            Some(_) => Some(StaleReason::LoadFailed),
            None => Some(StaleReason::LoadSlow),
        };
        let instead = match reason {
            Some(reason) => self.instead(key, hints, reason).await,
            None => None,
        };
        match (instead, landing) {
            (Some(instead), _) => instead,
            (None, Some(landing)) => landing,
            (None, None) => load.await,
        }
    }

    pub(super) async fn load_in_place<F, Fut>(
        self: &Arc<Self>,
        key: SmolStr,
        ask: Ask,
        load: F,
    ) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<S::Value>>> + Send,
    {
        // Without one there are no limits to be kept.
        if let Err(error) = runtime() {
            return Landing::failed(error);
        }
        match self.lead_or_landing(&key, ask).await {
            Ok((lead, ask)) => self.lead(lead, ask, load).await,
            Err(landing) => landing,
        }
    }

    pub(super) async fn load_apart<F, Fut>(
        self: &Arc<Self>,
        key: SmolStr,
        ask: Ask,
        load: F,
    ) -> Landing<S::Value>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<S::Value>>> + Send + 'static,
    {
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => return Landing::failed(error),
        };
        let (lead, ask) = match self.lead_or_landing(&key, ask).await {
            Ok(lead) => lead,
            Err(landing) => return landing,
        };
        let follow = lead.follow();
        let (engine, place) = (Arc::clone(self), self.background.load());
        runtime.spawn(place.run(async move {
            engine.lead(lead, ask, load).await;
        }));
        match self.follow(&follow, self.flight_limit()).await {
            Ok(Followed::Landed(landing)) => landing,
            Ok(Followed::Lead(lead)) => gone(&lead),
            Ok(Followed::Again) => Landing::failed(task_is_gone()),
            Err(error) => Landing::failed(error),
        }
    }

    /// The lead of the key's load, or what somebody else's load has landed.
    async fn lead_or_landing(
        self: &Arc<Self>,
        key: &SmolStr,
        mut ask: Ask,
    ) -> Result<(Lead<S::Value>, Ask), Landing<S::Value>> {
        let mut seat = self.flights.join(key, ask.takes());
        loop {
            let follow = match seat {
                Seat::Lead(lead) => return Ok((lead, ask)),
                Seat::Follow(follow) => follow,
            };
            match self.follow(&follow, self.options.waits_for()).await {
                Ok(Followed::Lead(lead)) => return Ok((lead, ask)),
                Ok(Followed::Landed(landing)) => return Err(landing.shared()),
                Ok(Followed::Again) => drop(follow),
                Err(error) => return Err(Landing::failed(error)),
            }
            (seat, ask) = self.join_again(key).await?;
        }
    }

    /// A seat for who was too late for the result of one flight: the next one begins after that, so its
    /// result is good. Or what the store has by now.
    pub(super) async fn join_again(
        self: &Arc<Self>,
        key: &SmolStr,
    ) -> Result<(Seat<S::Value>, Ask), Landing<S::Value>> {
        let hints = ReadHints::new().max_staleness(Duration::ZERO);
        match self.seen(key, self.found(key).await, hints, Some(Due::Nothing)) {
            Seen::Answer(answer) | Seen::Refresh { current: answer, .. } => Err(answer.shared()),
            Seen::Ask { ask, .. } => Ok((self.flights.join(key, Takes::Any), ask)),
        }
    }
}

/// A read whose answer is not there at once.
struct Request<V> {
    began: Option<Instant>,
    glimpse: Glimpse<V>,
    hints: ReadHints,
}

/// What the store could tell without waiting, and what a fresh entry of it needs.
struct Glimpse<V> {
    found: Poll<Option<Entry<V>>>,
    due: Option<Due>,
}

/// A read that the store answers at once, or a miss.
///
/// A hit in memory is the bulk of all that a cache does. It has no `async fn` on its way, because each
/// costs as much as a tenth of the look-up; and what a miss needs is boxed, so that a hit carries no
/// room for it.
struct Read<'a, S: CacheStore, O, K: ?Sized, M> {
    engine: &'a Arc<Engine<S, O>>,
    key: &'a K,
    // It is given the engine and the key, rather than having them too: a hit would write them twice.
    miss: Option<M>,
    missing: Option<Miss<'a, S::Value>>,
}

type Miss<'a, V> = Pin<Box<dyn Future<Output = Result<Option<V>>> + Send + 'a>>;

// Nothing in it is pinned in place: the miss is in a box of its own.
impl<S: CacheStore, O, K: ?Sized, M> Unpin for Read<'_, S, O, K, M> {}

impl<'a, S, O, K, M> Future for Read<'a, S, O, K, M>
where
    S: CacheStore,
    O: Observer,
    K: CacheKey + ?Sized,
    M: FnOnce(&'a Arc<Engine<S, O>>, &'a K, Request<S::Value>) -> Miss<'a, S::Value>,
{
    type Output = Result<Option<S::Value>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.missing.is_none() {
            let began = this.engine.began();
            let spelled;
            let key = match this.key.as_spelled() {
                Some(key) => key,
                None => {
                    spelled = this.key.key();
                    &spelled
                }
            };
            // Looked at where it lies, and written there by one call: to move it would cost a hit as much as to hash its key.
            let mut found = this.engine.look_now(key);
            if let Poll::Ready(Some(entry)) = &mut found
                && entry.is_fresh_beyond(this.engine.watch.untroubled_beyond)
            {
                return Poll::Ready(Ok(this.engine.answered(entry, began)));
            }
            let due = match this.engine.look_closer(&mut found, began) {
                Ok(answer) => return Poll::Ready(Ok(answer)),
                Err(due) => due,
            };
            let glimpse = Glimpse { found, due };
            let request = Request { began, glimpse, hints: ReadHints::new() };
            this.missing = this.miss.take().map(|miss| miss(this.engine, this.key, request));
        }
        match &mut this.missing {
            Some(missing) => missing.as_mut().poll(context),
            // Polled again after it was done, which no future has to bear.
            None => Poll::Pending,
        }
    }
}

/// The runtime to spawn loads on.
pub(crate) fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|e| Error::with_cause(ErrorKind::NoRuntime, e))
}

/// Lands a flight whose task ended without landing it: its runtime shuts down, or the store panicked.
pub(super) fn gone<V: Clone>(lead: &Lead<V>) -> Landing<V> {
    let landing = Landing::failed(task_is_gone());
    lead.land(landing.clone(), Settled::Good);
    landing
}

pub(super) fn task_is_gone() -> Error {
    Error::with_cause(ErrorKind::LoaderPanicked, "the task of the load is gone")
}
