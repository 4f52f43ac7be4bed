use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use super::Operation;
use crate::{
    CacheStore, Capabilities, Claim, ClaimOptions, Entry, Error, ErrorKind, Fill, Lease, NearTier,
    Result, SetOptions,
};

/// Fails the operations that a test chooses, for as long as it chooses.
///
/// A bulk operation fails as a whole: each of its keys gets the error. It is told apart from the
/// single one, so failing [`Operation::Get`] lets `get_many` through.
///
/// ```
/// use cache_core::testing::{FailingStore, ModelStore, Operation};
/// use cache_core::{CacheStoreExt, Clock, ErrorKind, Result};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = FailingStore::new(ModelStore::new(Clock::system()));
/// store.put("answer", 42, Duration::from_secs(60)).await?;
///
/// store.fail_times(Operation::Get, ErrorKind::Unavailable, 1);
/// assert_eq!(store.value("answer").await.unwrap_err().kind(), ErrorKind::Unavailable);
/// assert_eq!(store.value("answer").await?, Some(42));
/// assert_eq!(store.failures(), 1);
/// # Result::<()>::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct FailingStore<S> {
    inner: Arc<S>,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    faults: HashMap<Operation, Fault>,
    failures: usize,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    kind: ErrorKind,
    /// How often it still fails.
    left: usize,
    /// Whether the operation is done all the same.
    done: bool,
}

impl<S> FailingStore<S> {
    /// A store that fails nothing yet.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner: Arc::new(inner), script: Arc::default() }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Fails the operation from now on, without passing it on.
    pub fn fail(&self, operation: Operation, kind: ErrorKind) {
        self.fail_times(operation, kind, usize::MAX);
    }

    /// Fails the operation the next `times` times, without passing it on.
    pub fn fail_times(&self, operation: Operation, kind: ErrorKind, times: usize) {
        self.plan(operation, Fault { kind, left: times, done: false });
    }

    /// Fails every operation from now on: a store that is down.
    pub fn fail_all(&self, kind: ErrorKind) {
        for operation in Operation::ALL {
            self.fail(operation, kind);
        }
    }

    /// From now on passes the operation on, but returns [`ErrorKind::Unavailable`] instead of the
    /// answer: the store did it, and nobody knows.
    pub fn lose_answers(&self, operation: Operation) {
        let kind = ErrorKind::Unavailable;
        self.plan(operation, Fault { kind, left: usize::MAX, done: true });
    }

    /// Fails nothing any more.
    pub fn heal(&self) {
        self.script().faults.clear();
    }

    /// How many calls have failed by this script.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.script().failures
    }

    fn plan(&self, operation: Operation, fault: Fault) {
        self.script().faults.insert(operation, fault);
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of this call, and whether it is to be done all the same.
    fn fault(&self, operation: Operation) -> Option<(Error, bool)> {
        let mut script = self.script();
        let fault = script.faults.get_mut(&operation).filter(|fault| fault.left > 0)?;
        if fault.left != usize::MAX {
            fault.left -= 1;
        }
        let fault = *fault;
        script.failures += 1;
        let error = Error::with_cause(fault.kind, format!("{operation:?} fails by script"));
        Some((error, fault.done))
    }

    async fn one<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match self.fault(operation) {
            None => call.await,
            Some((error, done)) => {
                if done {
                    drop(call.await);
                }
                Err(error)
            }
        }
    }

    async fn many<T>(
        &self,
        operation: Operation,
        count: usize,
        call: impl Future<Output = Vec<Result<T>>> + Send,
    ) -> Vec<Result<T>> {
        match self.fault(operation) {
            None => call.await,
            Some((error, done)) => {
                if done {
                    drop(call.await);
                }
                (0..count).map(|_| Err(error.clone())).collect()
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: CacheStore> CacheStore for FailingStore<S> {
    type Value = S::Value;

    async fn get(&self, key: &str) -> Result<Option<Entry<S::Value>>> {
        self.one(Operation::Get, self.inner.get(key)).await
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
        self.one(Operation::Set, self.inner.set(key, value, options)).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.one(Operation::Remove, self.inner.remove(key)).await
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<S::Value>>>> {
        self.many(Operation::GetMany, keys.len(), self.inner.get_many(keys)).await
    }

    async fn set_many(
        &self,
        entries: Vec<(&str, Option<S::Value>, SetOptions)>,
    ) -> Vec<Result<()>> {
        let count = entries.len();
        self.many(Operation::SetMany, count, self.inner.set_many(entries)).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.one(Operation::RemoveMany, self.inner.remove_many(keys)).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.one(Operation::RemovePrefix, self.inner.remove_prefix(prefix)).await
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.one(Operation::RemoveTagged, self.inner.remove_tagged(tags)).await
    }

    async fn clear(&self) -> Result<()> {
        self.one(Operation::Clear, self.inner.clear()).await
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<S::Value>> {
        self.one(Operation::Claim, self.inner.claim(key, options)).await
    }

    async fn fill(
        &self,
        lease: Lease,
        value: Option<S::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        self.one(Operation::Fill, self.inner.fill(lease, value, options)).await
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        self.one(Operation::Release, self.inner.release(lease)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn attach_near(&self, near: NearTier) {
        self.inner.attach_near(near);
    }
}

impl<S> Clone for FailingStore<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), script: Arc::clone(&self.script) }
    }
}
