mod copies;

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use smol_str::SmolStr;

use self::copies::{Copies, Ticket};
use super::{Marks, Revision, Stamp};
use crate::clock::Alarm;
use crate::tier::{Above, Counters, Gate, OnlyReads, Side};
use crate::{Change, Clock, Coherence, ErrorKind, Keeper, Moment, NearTier, Result, TierSnapshot};

/// Copies, in this process, of marks that are kept elsewhere, so that a hit in a near tier asks nobody.
///
/// For a [`Tagged`](crate::Tagged) store on [`Tiered`](crate::Tiered) stores. Whoever invalidates a tag announces it, as changes of
/// keys are announced, and what is true of near copies of entries is true of these: a copy of a mark is used only while it
/// is known that no invalidation was missed, and is made only if the tag was not invalidated since it was asked for. A mark
/// that is not known here is asked for where it is kept; so what these copies lack costs time, and nothing else.
///
/// The bus may be that of the tiers, which takes the tags for the marks' concern; with one of their own neither is
/// bothered by what the other says. Two of these on one set of marks, in one process, need entries that are bytes in the
/// far store: stamps in memory remember whose copies they have met.
///
/// ```
/// use cache_core::{
///     Broadcast, CacheStore, CacheStoreExt, LocalBus, MemoryMarks, NearMarks, TagStore, Tiered,
/// };
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// // On Redis, say: `RedisStore`, `RedisMarks`, and a bus for each.
/// let (far, far_marks) = (MemoryStore::new(10_000), MemoryMarks::new());
/// let (keys, tags) = (LocalBus::new(1024), LocalBus::new(1024));
///
/// let tiers = Tiered::builder(MemoryStore::new(1_000), far)
///     .coherent_by(Broadcast::over(keys))
///     .build()?;
/// let marks = NearMarks::new(far_marks, Broadcast::over(tags))?;
/// let prices = tiers.tagged(marks, |_key, price: Option<&u32>| price.map(|_| "price"));
/// prices.put("tea", 3, Duration::from_secs(60)).await?;
/// prices.invalidate_tags(&["price"]).await?;
/// assert_eq!(prices.value("tea").await?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct NearMarks<M>(Arc<Inner<M>>);

struct Inner<M> {
    far: M,
    gate: Gate,
    copies: Copies,
    counters: Counters,
    keeper: OnceLock<Keeper>,
    /// Whether copies are made of what is asked for alone, and not of what is stamped.
    only_reads: OnlyReads,
    /// Near tiers of entries that these marks vouch for.
    above: Above,
}

impl<M: Marks> NearMarks<M> {
    /// Copies of `marks`, kept coherent by `coherence`.
    ///
    /// # Errors
    ///
    /// Those of [`Coherence::keep`].
    ///
    /// # Panics
    ///
    /// If the operating system has no thread left for the first [`Clock`] of a process.
    pub fn new(marks: M, coherence: impl Coherence) -> Result<Self> {
        let inner = Arc::new(Inner {
            far: marks,
            gate: Gate::open(Clock::system()),
            copies: Copies::default(),
            counters: Counters::default(),
            keeper: OnceLock::new(),
            only_reads: OnlyReads::default(),
            above: Above::default(),
        });
        inner.close();
        let side: Arc<dyn Side> = Arc::clone(&inner) as _;
        let near = NearTier::new(Arc::downgrade(&side));
        inner.far.attach_near(near.clone());
        inner.gate.clock().wake(Weak::clone(&near.side) as Weak<dyn Alarm>);
        let keeper = coherence.keep(near)?;
        // It was made a moment ago, so nothing has been put there.
        let _ = inner.keeper.set(keeper);
        Ok(Self(inner))
    }

    /// The marks that these are copies of.
    pub fn far(&self) -> &M {
        &self.0.far
    }

    /// What has been counted, and how things stand.
    #[must_use]
    pub fn snapshot(&self) -> TierSnapshot {
        self.0.counters.snapshot(self.0.gate.is_open())
    }

    /// Whether the copies are used at this moment.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.0.gate.is_open()
    }

    /// Waits until the copies are used.
    ///
    /// # Cancellation
    ///
    /// Nothing is left.
    pub async fn trusted(&self) {
        while !self.is_trusted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until others can hear of every invalidation that has been made until now: as [`Tiered::flush`](crate::Tiered::flush),
    /// and to be called, as that, before a process ends.
    ///
    /// # Cancellation
    ///
    /// Nothing is left.
    #[must_use = "it tells how many invalidations others have not heard of"]
    pub async fn flush(&self, limit: Duration) -> usize {
        match self.0.keeper.get().and_then(Keeper::announcer) {
            Some(announcer) => announcer.flush(limit).await,
            None => 0,
        }
    }

    /// How many tags are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.copies.len()
    }

    /// Whether no tag is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M: Marks> Inner<M> {
    fn close(&self) {
        self.gate.close();
        self.closed();
    }

    fn closed(&self) {
        self.copies.revision.end();
        self.above.tell(&self.gate);
    }

    /// Opens the gate, if that is the answer.
    fn open(&self, opens: impl FnOnce(&Gate) -> bool) {
        let was_open = self.gate.is_open();
        // A tick may have ended it a moment after the gate was opened again.
        let goes_on = was_open && self.copies.revision.current() != 0;
        if opens(&self.gate) && !goes_on {
            self.copies.revision.advance();
        }
        self.above.tell(&self.gate);
    }

    /// To be taken before the marks are asked for; none while changes may be missed.
    fn ticket(&self, tags: &[&str]) -> Option<Ticket> {
        self.gate.is_open().then(|| self.copies.ticket(tags))
    }

    fn keep(&self, ticket: Option<Ticket>, generations: impl Iterator<Item = Option<u64>>) {
        if let Some(ticket) = ticket {
            self.copies.keep(&ticket, generations);
        }
    }

    fn forget(&self, change: &Change) {
        match change {
            Change::Tags(tags) => self.copies.forget(tags.iter().map(SmolStr::as_str)),
            Change::Clear => self.copies.forget_all(),
            // It is about tiers that are on the same bus.
            Change::Keys(_) | Change::Prefix(_) => {}
        }
    }

    fn announce(&self, change: Change, settled: bool) {
        if let Some(announcer) = self.keeper.get().and_then(|keeper| keeper.announcer.as_ref()) {
            if settled { announcer.changed(change) } else { announcer.unsettled(change) }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<M: Marks> Marks for NearMarks<M> {
    async fn epoch(&self) -> Result<u64> {
        self.0.far.epoch().await
    }

    async fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        let ticket = if self.0.only_reads.is_set() { None } else { self.0.ticket(tags) };
        let stamps = self.0.far.stamp(tags, since, life).await?;
        let Some(stamps) = stamps else {
            return Ok(None);
        };
        // Those of the far marks refer to the far marks' cells, if to any.
        let stamp = |stamp: &Stamp| Stamp::new(stamp.tag(), stamp.generation());
        let stamps: Vec<Stamp> = stamps.iter().map(stamp).collect();
        self.0.keep(ticket, stamps.iter().map(|stamp| Some(stamp.generation())));
        Ok(Some(stamps))
    }

    async fn generations(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        let ticket = self.0.ticket(tags);
        let generations = self.0.far.generations(tags).await?;
        self.0.keep(ticket, generations.iter().copied());
        Ok(generations)
    }

    #[inline]
    fn holds_now(&self, stamps: &[Stamp]) -> Poll<bool> {
        if !self.0.gate.is_open() {
            return Poll::Pending;
        }
        for stamp in stamps {
            let Some(cell) = stamp.cell().get().or_else(|| self.0.copies.attach(stamp)) else {
                return Poll::Pending;
            };
            let now = cell.get();
            if now != stamp.generation() {
                // An entry may be newer than what is known here.
                return if now > stamp.generation() { Poll::Ready(false) } else { Poll::Pending };
            }
        }
        Poll::Ready(true)
    }

    #[inline(always)]
    fn revision(&self) -> Option<&Revision> {
        // It ends with the trust in the copies.
        Some(&self.0.copies.revision)
    }

    async fn invalidate(&self, tags: &[&str]) -> Result<()> {
        if tags.is_empty() {
            return Ok(());
        }
        let unfinished = Unfinished::new(&self.0, Change::tags(tags.iter().copied()));
        unfinished.ended(self.0.far.invalidate(tags).await).await
    }

    async fn invalidate_all(&self) -> Result<()> {
        let unfinished = Unfinished::new(&self.0, Change::Clear);
        unfinished.ended(self.0.far.invalidate_all().await).await
    }

    fn attach_near(&self, near: NearTier) {
        near.tags_are_told();
        self.0.above.attach(near, &self.0.gate, &self.0.only_reads);
    }
}

/// An invalidation on its way. If it is dropped, nobody knows whether it has been made.
struct Unfinished<'a, M: Marks> {
    inner: &'a Inner<M>,
    change: Change,
    settled: bool,
    /// Whether no copy from before it is left in this process.
    forgotten: bool,
}

impl<'a, M: Marks> Unfinished<'a, M> {
    fn new(inner: &'a Inner<M>, change: Change) -> Self {
        Self { inner, change, settled: false, forgotten: false }
    }

    async fn ended(mut self, invalidated: Result<()>) -> Result<()> {
        // What is refused will be refused again. Some of it may have been done.
        self.settled = match &invalidated {
            Err(error) => error.kind() != ErrorKind::Unavailable,
            Ok(()) => true,
        };
        self.inner.forget(&self.change);
        // They have not heard of it unless it comes from them, and of own messages nobody hears.
        let forgotten = self.inner.above.forget_own(&self.change).await;
        self.forgotten = true;
        invalidated.and(forgotten)
    }
}

impl<M: Marks> Drop for Unfinished<'_, M> {
    fn drop(&mut self) {
        let change = std::mem::replace(&mut self.change, Change::Clear);
        if !self.forgotten {
            self.inner.forget(&change);
            // A store in memory does it at once; any other one keeps its copy until it ends.
            let _ = self.inner.above.forget_own(&change).now_or_never();
        }
        self.inner.announce(change, self.settled);
    }
}

impl<M: Marks> Alarm for Inner<M> {
    fn tick(&self, now: Moment) {
        if self.gate.tick(now) {
            self.closed();
        }
    }
}

impl<M: Marks> Side for Inner<M> {
    fn forget<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<()>> {
        self.forget(change);
        self.above.forget(change).boxed()
    }

    fn forget_all(&self) -> BoxFuture<'_, Result<()>> {
        self.copies.forget_all();
        self.above.forget_all().boxed()
    }

    fn remove_far<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<()>> {
        async move {
            match change {
                Change::Tags(tags) => {
                    let tags: Vec<&str> = tags.iter().map(SmolStr::as_str).collect();
                    self.far.invalidate(&tags).await?;
                }
                // There were too many to know which.
                Change::Clear => self.far.invalidate_all().await?,
                Change::Keys(_) | Change::Prefix(_) => {}
            }
            // Reads may have copied an old mark until now.
            self.forget(change);
            self.above.forget(change).await
        }
        .boxed()
    }

    fn mark_far<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            self.far.generations(&[name]).await?;
            self.far.stamp(&[name], None, Duration::from_secs(1)).await.map(drop)
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

    fn tags_are_told(&self) {}

    // They are what is copied.
    fn needs_tags(&self) -> bool {
        false
    }

    fn clears_far(&self) -> bool {
        true
    }

    fn open_until(&self, until: Moment) {
        self.open(|gate| gate.open_until(until));
    }

    fn close(&self) {
        self.close();
    }

    fn below(&self, opens: bool) {
        match opens {
            true => self.open(|gate| gate.below(true)),
            false => {
                self.gate.below(false);
                self.closed();
            }
        }
    }

    fn now(&self) -> Moment {
        self.gate.now()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl<M> Clone for NearMarks<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Marks + fmt::Debug> fmt::Debug for NearMarks<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearMarks")
            .field("far", &self.0.far)
            .field("len", &self.len())
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}
