use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::Operation;
use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Fill, Lease, NearTier, Result, SetOptions,
};

/// Holds the operations that a test chooses: at a [`Gate`], until the test opens it, or for a while
/// of tokio's time, which a test can pause.
///
/// An operation that is held *before* it is passed on is one that is slow to reach the store. One
/// whose *answer* is held has been done: that is how a value is read, then invalidated, and then used.
///
/// ```
/// use cache_core::testing::{ModelStore, Operation, SlowStore};
/// use cache_core::{CacheStore, CacheStoreExt, Clock, Result};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = SlowStore::new(ModelStore::new(Clock::system()));
/// store.put("colour", "blue", Duration::from_secs(60)).await?;
///
/// let gate = store.hold_answer(Operation::Get);
/// let reader = tokio::spawn({ let store = store.clone(); async move { store.value("colour").await } });
/// gate.arrived(1).await;
/// store.remove("colour").await?;
/// gate.open();
/// assert_eq!(reader.await.unwrap()?, Some("blue"));
/// assert_eq!(store.value("colour").await?, None);
/// # Result::<()>::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct SlowStore<S> {
    inner: Arc<S>,
    script: Arc<Mutex<HashMap<(Operation, Side), Hold>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Before,
    After,
}

#[derive(Clone, Debug)]
enum Hold {
    Gate(Gate),
    Delay(Duration),
}

impl<S> SlowStore<S> {
    /// A store that holds nothing yet.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner: Arc::new(inner), script: Arc::default() }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// From now on holds the operation before it is passed on.
    pub fn hold(&self, operation: Operation) -> Gate {
        self.gate(operation, Side::Before)
    }

    /// From now on passes the operation on, and holds its answer.
    pub fn hold_answer(&self, operation: Operation) -> Gate {
        self.gate(operation, Side::After)
    }

    /// From now on passes the operation on after `delay`.
    pub fn delay(&self, operation: Operation, delay: Duration) {
        self.plan(operation, Side::Before, Hold::Delay(delay));
    }

    fn gate(&self, operation: Operation, side: Side) -> Gate {
        let gate = Gate::new();
        self.plan(operation, side, Hold::Gate(gate.clone()));
        gate
    }

    fn plan(&self, operation: Operation, side: Side, hold: Hold) {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.insert((operation, side), hold);
    }

    async fn slowly<T>(&self, operation: Operation, call: impl Future<Output = T> + Send) -> T {
        self.wait(operation, Side::Before).await;
        let answer = call.await;
        self.wait(operation, Side::After).await;
        answer
    }

    async fn wait(&self, operation: Operation, side: Side) {
        let hold = {
            let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
            script.get(&(operation, side)).cloned()
        };
        match hold {
            None => {}
            Some(Hold::Gate(gate)) => gate.pass().await,
            Some(Hold::Delay(delay)) => tokio::time::sleep(delay).await,
        }
    }
}

/// Where a [`SlowStore`] holds operations. It is shut at first.
///
/// ```
/// use cache_core::testing::{ModelStore, Operation, SlowStore};
/// use cache_core::{CacheStoreExt, Clock};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = SlowStore::new(ModelStore::<u32>::new(Clock::system()));
/// let gate = store.hold(Operation::Get);
/// let reader = tokio::spawn({ let store = store.clone(); async move { store.value("a").await } });
/// gate.arrived(1).await; // the read is held here
/// gate.let_through(1);
/// assert_eq!(reader.await.unwrap()?, None);
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    passes: Semaphore,
    arrived: watch::Sender<usize>,
}

impl Gate {
    fn new() -> Self {
        Self(Arc::new(Inner { passes: Semaphore::new(0), arrived: watch::Sender::new(0) }))
    }

    /// Waits until so many operations have come to the gate, since it was made.
    pub async fn arrived(&self, count: usize) {
        // It fails only when the sender is gone, which `self` owns.
        let _ = self.0.arrived.subscribe().wait_for(|arrived| *arrived >= count).await;
    }

    /// Lets so many operations through, those that come later included.
    pub fn let_through(&self, count: usize) {
        self.0.passes.add_permits(count);
    }

    /// Lets everything through, for good.
    pub fn open(&self) {
        self.0.passes.close();
    }

    async fn pass(&self) {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        // An error says that the gate has been opened for good.
        if let Ok(permit) = self.0.passes.acquire().await {
            permit.forget();
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: CacheStore> CacheStore for SlowStore<S> {
    type Value = S::Value;

    async fn get(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        self.slowly(Operation::Get, self.inner.get(key)).await
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
        self.slowly(Operation::Set, self.inner.set(key, value, options)).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.slowly(Operation::Remove, self.inner.remove(key)).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        self.slowly(Operation::GetMany, self.inner.get_many(keys)).await
    }

    async fn set_many(
        &self,
        entries: Vec<(&str, Option<S::Value>, SetOptions)>,
    ) -> Vec<Result<()>> {
        self.slowly(Operation::SetMany, self.inner.set_many(entries)).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.slowly(Operation::RemoveMany, self.inner.remove_many(keys)).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.slowly(Operation::RemovePrefix, self.inner.remove_prefix(prefix)).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.slowly(Operation::RemoveTagged, self.inner.remove_tagged(tags)).await
    }

    async fn clear(&self) -> Result<()> {
        self.slowly(Operation::Clear, self.inner.clear()).await
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<S::Value>> {
        self.slowly(Operation::Claim, self.inner.claim(key, options)).await
    }

    async fn fill(
        &self,
        lease: Lease,
        value: Option<S::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        self.slowly(Operation::Fill, self.inner.fill(lease, value, options)).await
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        self.slowly(Operation::Release, self.inner.release(lease)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn attach_near(&self, near: NearTier) {
        self.inner.attach_near(near);
    }
}

impl<S> Clone for SlowStore<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), script: Arc::clone(&self.script) }
    }
}
