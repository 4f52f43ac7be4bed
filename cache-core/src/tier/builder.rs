use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::above::Above;
use super::coherence::Side;
use super::gate::Gate;
use super::only_reads::OnlyReads;
use super::sample::Sampler;
use super::tickets::Tickets;
use super::writes::remove_from;
use super::{Change, Coherence, Counters, Inner, Keeper, NearTier, Tiered};
use crate::clock::Alarm;
use crate::{CacheStore, Clock, Error, ErrorKind, Moment, Result, SetOptions};

/// How long a near copy lives if nothing tells of changes.
const ALONE: Duration = Duration::from_secs(10);

/// How long it lives otherwise: a bound for what nobody tells of.
const KEPT: Duration = Duration::from_secs(300);

type Keep = Box<dyn FnOnce(NearTier) -> Result<Keeper> + Send>;

/// The options of [`Tiered`]; [`Tiered::builder`] begins one.
///
/// ```
/// use cache_core::{Broadcast, LocalBus, Tiered};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = LocalBus::new(1024); // one of Redis, say
/// let store = Tiered::builder(MemoryStore::<u32>::new(1_000), MemoryStore::new(10_000))
///     .near_ttl(Duration::from_secs(60))
///     .coherent_by(Broadcast::over(bus))
///     .sample_one_in(1_000)
///     .build()?;
/// store.trusted().await;
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct TieredBuilder<N, F> {
    near: N,
    far: F,
    near_ttl: Option<Duration>,
    clock: Option<Clock>,
    keep: Option<Keep>,
    sample_one_in: u32,
}

impl<N: CacheStore, F: CacheStore<Value = N::Value>> TieredBuilder<N, F> {
    pub(super) fn new(near: N, far: F) -> Self {
        Self { near, far, near_ttl: None, clock: None, keep: None, sample_one_in: 0 }
    }

    /// How long a near copy lives at most: 10 s by default if nothing keeps the tiers coherent, otherwise 5 min.
    /// [`Duration::MAX`] is for as long as the far entry.
    pub fn near_ttl(mut self, near_ttl: Duration) -> Self {
        self.near_ttl = Some(near_ttl);
        self
    }

    /// What tells the near store of changes that others make. The near store has to be one that can be cleared
    /// ([`Capabilities::prefix`](crate::Capabilities)), since that is what is done when something may be missing.
    pub fn coherent_by(mut self, coherence: impl Coherence) -> Self {
        self.keep = Some(Box::new(|near| coherence.keep(near)));
        self
    }

    /// Compares one in so many near hits with the far store, for
    /// [`stale_rate`](crate::TierSnapshot::stale_rate); never by default.
    ///
    /// Each hit has the same chance, whether it is answered at once, by `get` or by `get_many`. A hit is not held up: a task
    /// reads the key from the far store again, and compares the versions. There is one such task at a time, and hits
    /// meanwhile are not compared; nor are those outside a tokio runtime, those for which the far store fails or takes
    /// longer than 5 s, and those of a far store [without versions](crate::Capabilities::versioned). A far store that is made of
    /// tiers may answer from their copies. Versions are all that is compared: with a [`Tagged`](crate::Tagged) store around
    /// these tiers a copy counts as good whose tags have been invalidated, and what is old in copies of marks
    /// ([`NearMarks`](crate::NearMarks)) is not measured.
    pub fn sample_one_in(mut self, hits: u32) -> Self {
        self.sample_one_in = hits;
        self
    }

    /// Takes the time from this clock instead of the system's: that of both stores, in a test.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The tiers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option, or a near store that can't be cleared; those of [`Coherence::keep`].
    ///
    /// # Panics
    ///
    /// If the operating system has no thread left for the first [`Clock`] of a process.
    pub fn build(self) -> Result<Tiered<N, F>> {
        let default = if self.keep.is_some() { KEPT } else { ALONE };
        let near_ttl = self.near_ttl.unwrap_or(default);
        if near_ttl.is_zero() {
            return Err(Error::with_cause(ErrorKind::InvalidOption, "near_ttl: must not be zero"));
        }
        if self.keep.is_some() && !self.near.capabilities().prefix {
            let why =
                "coherent_by: needs a near store that can be cleared (`Capabilities::prefix`)";
            return Err(Error::with_cause(ErrorKind::InvalidOption, why));
        }
        let gate = Gate::open(self.clock.unwrap_or_default());
        let sampler = Sampler::one_in(self.sample_one_in);
        let inner = Arc::new(Inner {
            versioned: self.far.capabilities().versioned,
            copies: self.near.capabilities().fenced,
            only_reads: OnlyReads::default(),
            tags_are_told: AtomicBool::new(false),
            near: self.near,
            far: self.far,
            near_ttl,
            gate: if sampler.is_on() { gate.watched() } else { gate },
            tickets: Tickets::default(),
            counters: Counters::default(),
            sampler,
            keeper: OnceLock::new(),
            above: Above::default(),
        });
        let side: Arc<dyn Side> = Arc::clone(&inner) as _;
        let near = NearTier::new(Arc::downgrade(&side));
        if inner.copies {
            inner.far.attach_near(near.clone());
        }
        if let Some(keep) = self.keep {
            inner.gate.close();
            inner.gate.clock().wake(Weak::clone(&near.side) as Weak<dyn Alarm>);
            let keeper = keep(near)?;
            // It was made a moment ago, so nothing has been put there.
            let _ = inner.keeper.set(keeper);
        }
        Ok(Tiered(inner))
    }
}

impl<N, F> fmt::Debug for TieredBuilder<N, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredBuilder")
            .field("near_ttl", &self.near_ttl)
            .field("coherent", &self.keep.is_some())
            .field("sample_one_in", &self.sample_one_in)
            .finish_non_exhaustive()
    }
}

impl<N: CacheStore, F: CacheStore<Value = N::Value>> Alarm for Inner<N, F> {
    fn tick(&self, now: Moment) {
        if self.gate.tick(now) {
            self.above.tell(&self.gate);
        }
    }
}

impl<N: CacheStore, F: CacheStore<Value = N::Value>> Side for Inner<N, F> {
    fn forget<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<()>> {
        async {
            let forgotten = self.forget_near(change).await;
            forgotten.and(self.above.forget(change).await)
        }
        .boxed()
    }

    fn forget_all(&self) -> BoxFuture<'_, Result<()>> {
        self.forget_all_near().boxed()
    }

    fn remove_far<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<()>> {
        async {
            remove_from(&self.far, change).await?;
            // Reads may have copied the old value until now.
            self.forget(change).await
        }
        .boxed()
    }

    fn mark_far<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        async {
            self.far.get(name).await?;
            self.far.set(name, None, SetOptions::ttl(Duration::from_secs(1))).await
        }
        .boxed()
    }

    fn copy_only_reads(&self, only: bool) {
        self.only_reads.set(only);
        self.above.tell_reads(&self.only_reads);
    }

    fn reads_below(&self, only: bool) {
        self.only_reads.below(only);
        self.above.tell_reads(&self.only_reads);
    }

    fn tags_are_told(&self) {
        self.tags_are_told.store(true, Relaxed);
    }

    fn needs_tags(&self) -> bool {
        self.far.capabilities().tags && !self.tags_are_told.load(Relaxed)
    }

    fn clears_far(&self) -> bool {
        self.far.capabilities().prefix
    }

    fn open_until(&self, until: Moment) {
        self.gate.open_until(until);
        self.above.tell(&self.gate);
    }

    fn close(&self) {
        self.gate.close();
        self.above.tell(&self.gate);
    }

    fn below(&self, opens: bool) {
        self.gate.below(opens);
        self.above.tell(&self.gate);
    }

    fn now(&self) -> Moment {
        self.gate.now()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
