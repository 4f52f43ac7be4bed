use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use super::Operation;
use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Fill, Lease, NearTier, Result, SetOptions,
};

/// Writes down which operations it is asked for, in their order, and passes them on.
///
/// ```
/// use cache_core::testing::{ModelStore, Operation, RecordingStore};
/// use cache_core::{CacheStore, Clock, Result};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = RecordingStore::new(ModelStore::<u64>::new(Clock::system()));
/// store.get("a").await?;
/// store.remove_many(&["b", "c"]).await?;
///
/// let calls = store.take();
/// assert_eq!(calls[0].operation(), Operation::Get);
/// assert_eq!(calls[1].keys(), ["b", "c"]);
/// assert_eq!(store.operations(), []);
/// # Result::<()>::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct RecordingStore<S> {
    inner: Arc<S>,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// A call that a [`RecordingStore`] has written down when it was made.
///
/// ```
/// use cache_core::testing::{ModelStore, Operation, RecordingStore};
/// use cache_core::{CacheStore, Clock};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = RecordingStore::new(ModelStore::<u32>::new(Clock::system()));
/// store.remove("a").await?;
/// let call = &store.calls()[0];
/// assert_eq!((call.operation(), call.keys()), (Operation::Remove, &["a".to_owned()][..]));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    operation: Operation,
    keys: Vec<String>,
}

impl Call {
    /// What was asked for.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The keys that it was asked for; for `remove_prefix`, the prefix; for `remove_tagged`,
    /// the tags; for `clear`, none.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }
}

impl<S> RecordingStore<S> {
    /// A store that has not been asked for anything yet.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner: Arc::new(inner), calls: Arc::default() }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The calls since the last [`take`](Self::take), in their order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.record().clone()
    }

    /// The operations since the last [`take`](Self::take), in their order.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.record().iter().map(Call::operation).collect()
    }

    /// How often the operation was asked for since the last [`take`](Self::take).
    #[must_use]
    pub fn count(&self, operation: Operation) -> usize {
        self.record().iter().filter(|call| call.operation == operation).count()
    }

    /// The calls since the last time, in their order, which are then forgotten.
    #[must_use]
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.record())
    }

    fn record(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, operation: Operation, keys: &[&str]) {
        let keys = keys.iter().copied().map(str::to_owned).collect();
        self.record().push(Call { operation, keys });
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: CacheStore> CacheStore for RecordingStore<S> {
    type Value = S::Value;

    async fn get(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        self.write(Operation::Get, &[key]);
        self.inner.get(key).await
    }

    // A read is to go through the script.
    fn get_now(&self, _: &str) -> Poll<Option<Entry<S::Value>>> {
        Poll::Pending
    }

    fn get_now_as<T>(
        &self,
        _: &str,
        _: impl FnOnce(Option<S::Value>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        Poll::Pending
    }

    async fn set(&self, key: &str, value: Option<S::Value>, options: SetOptions) -> Result<()> {
        self.write(Operation::Set, &[key]);
        self.inner.set(key, value, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.write(Operation::Remove, &[key]);
        self.inner.remove(key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        self.write(Operation::GetMany, keys);
        self.inner.get_many(keys).await
    }

    async fn set_many(
        &self,
        entries: Vec<(&str, Option<S::Value>, SetOptions)>,
    ) -> Vec<Result<()>> {
        let keys: Vec<_> = entries.iter().map(|(key, ..)| *key).collect();
        self.write(Operation::SetMany, &keys);
        self.inner.set_many(entries).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.write(Operation::RemoveMany, keys);
        self.inner.remove_many(keys).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.write(Operation::RemovePrefix, &[prefix]);
        self.inner.remove_prefix(prefix).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.write(Operation::RemoveTagged, tags);
        self.inner.remove_tagged(tags).await
    }

    async fn clear(&self) -> Result<()> {
        self.write(Operation::Clear, &[]);
        self.inner.clear().await
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<S::Value>> {
        self.write(Operation::Claim, &[key]);
        self.inner.claim(key, options).await
    }

    async fn fill(
        &self,
        lease: Lease,
        value: Option<S::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        self.write(Operation::Fill, &[lease.key()]);
        self.inner.fill(lease, value, options).await
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        self.write(Operation::Release, &[lease.key()]);
        self.inner.release(lease).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn attach_near(&self, near: NearTier) {
        self.inner.attach_near(near);
    }
}

impl<S> Clone for RecordingStore<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), calls: Arc::clone(&self.calls) }
    }
}
