//! Memory in front of a store that is shared: see [`Tiered`].
//!
//! `near.rs` has what is done to the near store, `writes.rs` the changes; `tickets.rs` is the fence between a read
//! of the far store and its near copy, and `gate.rs` says whether the near store may answer. How changes of
//! others come in is `coherence.rs`, and `crate::bus`; `above.rs` hands them on to tiers in front of these.

mod above;
mod builder;
mod coherence;
mod gate;
mod near;
mod only_reads;
mod sample;
mod stats;
mod tickets;
mod writes;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

pub(crate) use above::Above;
pub use builder::TieredBuilder;
pub(crate) use coherence::Side;
pub use coherence::{Announce, Change, Coherence, Keeper, NearTier};
pub(crate) use gate::Gate;
pub(crate) use only_reads::OnlyReads;
pub(crate) use stats::Counters;
pub use stats::{Resync, TierSnapshot};

use self::sample::Sampler;
use self::tickets::Tickets;
use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Error, ErrorKind, Fill, Lease, Result,
    SetOptions,
};

/// Two stores as one: what is found in the far one, which is shared, is copied to the near one, which is fast.
///
/// Both hold the same type of value, so the near store holds it as it is, and a near hit decodes nothing. It is a
/// store like any other: strategies, namespaces and further tiers go around it.
///
/// ```
/// use cache_core::{CacheStore, CacheStoreExt, Tiered};
/// use cache_memory::MemoryStore;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let far = MemoryStore::new(10_000); // a Redis store with a codec, say
/// let users = Tiered::builder(MemoryStore::new(1_000), far.clone())
///     .near_ttl(Duration::from_secs(5))
///     .build()?;
///
/// far.put("7", "Ada".to_owned(), Duration::from_secs(60)).await?;
/// assert_eq!(users.value("7").await?.as_deref(), Some("Ada"));
/// assert!(users.get_now("7").is_ready(), "there is a near copy by now");
///
/// users.remove("7").await?; // from both
/// assert_eq!(users.value("7").await?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
///
/// # How old a near copy may be
///
/// A near copy ends when the entry that was copied does, and after [`near_ttl`](TieredBuilder::near_ttl) at the
/// latest. Changes that are made through these tiers are seen at once. Those of others:
///
/// | [`coherent_by`](TieredBuilder::coherent_by) | sees | a near hit is behind by at most |
/// |---|---|---|
/// | nothing | nothing | `near_ttl`, 10 s unless it is set |
/// | [`Broadcast`](crate::Broadcast) over a [`Bus`](crate::Bus) | changes through tiers on the same bus | its [`trust`](crate::Broadcast::trust), if messages are lost or their publisher dies; otherwise the time that a message takes |
/// | tracking by the server (`cache-redis`) | every change of a key on the server, and of tags only what [`NearMarks`](crate::NearMarks) tell | its trust, if the connection hangs; otherwise the time that a push takes |
///
/// Who keeps the tiers coherent says for how long the near store can be trusted. When that time is over, the near
/// store answers nothing, and reads go to the far one, until it is known again that no change was missed.
///
/// It counts by a monotonic [`Clock`](crate::Clock), whose thread ends the trust. A process that was stopped and goes on may read near
/// copies until that thread has its turn, which took less than a millisecond where it was tried; and time in which the whole
/// machine sleeps does not pass for such a clock on Linux, so add one `trust` after that.
///
/// # When one of them fails
///
/// *The far store fails*: what is near is served for as long as it lives and is trusted; without coherence that is
/// `near_ttl`, with it the time of trust. What is not near is the far store's error, which strategies turn into
/// loads. A change that fails is an error, and the key is not near any more. With a bus it is also announced, removed
/// from the far store until that is certain, and announced again. If very many removals have failed, the whole far store is cleared
/// instead: [`max_pending`](crate::Broadcast::max_pending).
///
/// *The near store fails*: reads go to the far store. A removal that fails is the near store's error.
///
/// # Order of changes
///
/// Far first, then near, then the announcement. Others who hear of a change find it in the far store; and
/// nobody who reads near can bring the old value back, because a near copy of what the far store had is made
/// only if nothing has touched the key since that read began. A change that is dropped while it is on its way
/// may have been made or not: the key leaves the near store, and it is announced.
///
/// A change returns before its announcement is on the bus. A process that is about to end calls [`flush`](Self::flush).
///
/// What a load brings (a fill) is announced if it replaced an entry, and not if there was none. What a write brings is
/// announced either way: the far store may have evicted what others still have a copy of.
///
/// # More than two
///
/// The far store may be made of tiers itself, also within a namespace, a codec or tags. What the tiers below forget for
/// others' changes, the ones above forget after them, since they may have copied it; and they are trusted only while those
/// below are. So each level may have a way to coherence of its own, and the lowest one's is enough for all. Changes that
/// are made by a handle to the tiers below are like those of others that nobody tells of: make them through the uppermost.
///
/// # What the near store needs
///
/// To fence ([`Capabilities::fenced`]): otherwise nothing is copied to it. To be cleared ([`Capabilities::prefix`]), if something
/// keeps it coherent. To keep the versions it is given, if it has
/// versions; every store that passes the kit does.
pub struct Tiered<N: CacheStore, F>(Arc<Inner<N, F>>)
where
    F: CacheStore<Value = N::Value>;

pub(crate) struct Inner<N, F> {
    near: N,
    far: F,
    near_ttl: Duration,
    /// Whether entries of the far store have versions.
    versioned: bool,
    /// Whether copies can be made at all.
    copies: bool,
    /// Whether they are made of what is read alone, and not of what is written.
    only_reads: OnlyReads,
    /// Whether something below tells of the far store's tags.
    tags_are_told: AtomicBool,
    gate: Gate,
    tickets: Tickets,
    counters: Counters,
    sampler: Sampler,
    keeper: OnceLock<Keeper>,
    /// Who stands in front of these tiers.
    above: Above,
}

impl<N: CacheStore, F: CacheStore<Value = N::Value>> Tiered<N, F> {
    /// `near` in front of `far`, with nothing that keeps them coherent: a near copy lives for ten seconds at most.
    ///
    /// # Panics
    ///
    /// If the operating system has no thread left for the first [`Clock`](crate::Clock) of a process.
    #[must_use]
    pub fn new(near: N, far: F) -> Self {
        Self::builder(near, far).build().expect("without options nothing can be wrong")
    }

    /// Tiers with more options.
    pub fn builder(near: N, far: F) -> TieredBuilder<N, F> {
        TieredBuilder::new(near, far)
    }

    /// The near store.
    pub fn near(&self) -> &N {
        &self.0.near
    }

    /// The far store.
    pub fn far(&self) -> &F {
        &self.0.far
    }

    /// What has been counted, and how things stand.
    #[must_use]
    pub fn snapshot(&self) -> TierSnapshot {
        self.0.counters.snapshot(self.0.gate.is_open())
    }

    /// Whether the near store may answer at this moment.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.0.gate.is_open()
    }

    /// Waits until the near store may answer.
    ///
    /// # Cancellation
    ///
    /// Nothing is left.
    pub async fn trusted(&self) {
        while !self.is_trusted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until others can hear of every change that has returned until now, up to `limit`. Returns how many changes
    /// wait then: 0 if none of these does. More than that may come meanwhile, which it does not wait for.
    ///
    /// To be called before a process ends, after the last change. A change returns once the far store has it; its
    /// announcement is on its way then, as is, if the far store has failed, the removal that makes up for that. A process
    /// that ends before takes both with it: others keep their near copies until they miss its heartbeats
    /// ([`Broadcast`](crate::Broadcast)), and what the far store has not removed stays there until it expires.
    ///
    /// With nothing that announces it returns at once.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, if there is something that announces.
    ///
    /// # Cancellation
    ///
    /// Nothing is left, and what waits is announced all the same.
    ///
    /// ```
    /// use cache_core::{Broadcast, CacheStore, CacheStoreExt, LocalBus, Tiered};
    /// use cache_memory::MemoryStore;
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = Tiered::builder(MemoryStore::<u32>::new(1_000), MemoryStore::new(10_000))
    ///     .coherent_by(Broadcast::over(LocalBus::new(1024))) // one of Redis, say
    ///     .build()?;
    /// users.remove("7").await?;
    /// assert_eq!(users.flush(Duration::from_secs(5)).await, 0);
    /// # Ok::<(), cache_core::Error>(()) }).unwrap();
    /// ```
    #[must_use = "it tells how many changes others have not heard of"]
    pub async fn flush(&self, limit: Duration) -> usize {
        match self.0.keeper.get().and_then(Keeper::announcer) {
            Some(announcer) => announcer.flush(limit).await,
            None => 0,
        }
    }

    /// What the near store can tell when it is not known that nobody wants to know of it.
    #[cold]
    #[inline(never)]
    fn get_watched<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<N::Value>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        if !self.0.gate.is_open() {
            return Poll::Pending;
        }
        let answer = self.0.near.get_now_as(key, look);
        if let Poll::Ready(Some(entry)) = &answer {
            self.0.sampler.maybe(&self.0, key, entry);
        }
        answer
    }

    /// Empties the near store, and then those of tiers in front of these: for changes that nobody announces, a restored
    /// backup of the far store, say.
    ///
    /// # Errors
    ///
    /// Those of the near stores' `clear`.
    pub async fn forget_near(&self) -> Result<()> {
        self.0.forget_all_near().await
    }
}

#[deny(clippy::missing_trait_methods)]
impl<N: CacheStore, F: CacheStore<Value = N::Value>> CacheStore for Tiered<N, F> {
    type Value = N::Value;

    async fn get(&self, key: &str) -> Result<Option<Entry<N::Value>>> {
        self.0.get(key).await
    }

    #[inline(always)]
    fn get_now(&self, key: &str) -> Poll<Option<Entry<N::Value>>> {
        self.get_now_as(key, Entry::as_it_is)
    }

    #[inline(always)]
    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<N::Value>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        let tiers = &*self.0;
        // Written by calls alone, so that each writes where it is to be returned: a hit moves no entry.
        let mut answer = if tiers.gate.is_wide_open() {
            tiers.near.get_now_as(key, look)
        } else {
            self.get_watched(key, look)
        };
        if !matches!(answer, Poll::Ready(Some(_))) {
            // The far store may have it.
            answer = Entry::not_now();
        }
        answer
    }

    async fn set(&self, key: &str, value: Option<N::Value>, options: SetOptions) -> Result<()> {
        self.0.set(key, value, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.0.remove(&[key]).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<N::Value>>>> {
        self.0.get_many(keys).await
    }

    async fn set_many(
        &self,
        entries: Vec<(&str, Option<N::Value>, SetOptions)>,
    ) -> Vec<Result<()>> {
        self.0.set_many(entries).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.0.remove(keys).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.0.remove_all(&Change::Prefix(prefix.into())).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.0.remove_all(&Change::tags(tags.iter().copied())).await
    }

    async fn clear(&self) -> Result<()> {
        self.0.remove_all(&Change::Clear).await
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<N::Value>> {
        self.0.claim(key, options).await
    }

    async fn fill(
        &self,
        lease: Lease,
        value: Option<N::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        self.0.fill(lease, value, options).await
    }

    async fn release(&self, mut lease: Lease) -> Result<bool> {
        lease.take_note();
        self.0.far.release(lease).await
    }

    fn capabilities(&self) -> Capabilities {
        let (near, far) = (self.0.near.capabilities(), self.0.far.capabilities());
        Capabilities { prefix: near.prefix && far.prefix, ..far }
    }

    fn attach_near(&self, near: NearTier) {
        // Whatever keeps these tiers coherent hears of tags, if it has not refused.
        let told = self.0.keeper.get().is_some() || !self.0.needs_tags();
        if told && self.0.far.capabilities().tags {
            near.tags_are_told();
        }
        self.0.above.attach(near, &self.0.gate, &self.0.only_reads);
    }
}

impl<N: CacheStore, F: CacheStore<Value = N::Value>> Clone for Tiered<N, F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N, F> fmt::Debug for Tiered<N, F>
where
    N: CacheStore + fmt::Debug,
    F: CacheStore<Value = N::Value> + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered")
            .field("near", &self.0.near)
            .field("far", &self.0.far)
            .field("near_ttl", &self.0.near_ttl)
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

/// For a key that a store forgot to answer.
fn no_answer() -> Error {
    Error::with_cause(ErrorKind::Store, "the far store did not answer for every key")
}
