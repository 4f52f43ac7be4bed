use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Builder;

use super::subject::{Comparable, Subject};
use crate::{CacheStore, Error};

/// How long a promise may take, above what its lifetimes need.
const LIMIT: Duration = Duration::from_secs(60);

/// Checks every promise, each on a subject of its own, and returns those that are broken.
///
/// ```
/// use cache_core::Clock;
/// use cache_core::testing::{ModelStore, Subject, violations};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let broken = violations(|| async {
///     let (clock, hands) = Clock::manual();
///     Subject::new(ModelStore::<u64>::new(clock)).manual_clock(hands)
/// });
/// assert!(broken.await.is_empty());
/// # });
/// ```
pub async fn violations<S: Comparable, Fut>(subject: impl Fn() -> Fut) -> Vec<Violation>
where
    Fut: Future<Output = Subject<S>>,
{
    let mut violations = Vec::new();
    for promise in promises() {
        violations.extend(promise.check(subject().await).await.err());
    }
    violations
}

/// Every promise that the kit checks.
///
/// ```
/// use cache_core::testing::{ModelStore, promises};
///
/// let promises = promises::<ModelStore<u64>>();
/// assert!(promises.iter().any(|promise| promise.name() == "set_replaces_the_value"));
/// ```
#[must_use]
pub fn promises<S: Comparable>() -> Vec<Promise<S>> {
    super::promises::all()
}

/// One promise of [`CacheStore`], and the test of it.
///
/// ```
/// use cache_core::Clock;
/// use cache_core::testing::{ModelStore, Subject, promises};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// for promise in promises() {
///     let (clock, hands) = Clock::manual();
///     let subject = Subject::new(ModelStore::<u64>::new(clock)).manual_clock(hands);
///     assert_eq!(promise.check(subject).await, Ok(()), "{}", promise.name());
/// }
/// # });
/// ```
pub struct Promise<S: CacheStore> {
    name: &'static str,
    test: fn(Subject<S>) -> BoxFuture<'static, Kept>,
}

impl<S: Comparable> Promise<S> {
    pub(super) fn new(
        name: &'static str,
        test: fn(Subject<S>) -> BoxFuture<'static, Kept>,
    ) -> Self {
        Self { name, test }
    }

    /// The name of the promise, and of its test.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the subject keeps the promise. Afterwards its store is cleared, if it can be.
    ///
    /// # Errors
    ///
    /// What is broken. A store that panics, or that does not answer within a minute, breaks the
    /// promise as well.
    ///
    /// # Cancellation
    ///
    /// Entries may stay in the store.
    pub async fn check(&self, subject: Subject<S>) -> Result<(), Violation> {
        let limit = LIMIT + subject.units(100).min(LIMIT * 10);
        let store = subject.handle();
        let test = AssertUnwindSafe((self.test)(subject)).catch_unwind();
        let message = match tokio::time::timeout(limit, test).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(Broken(message)))) => Some(message),
            Ok(Err(panic)) => Some(format!("the store panicked: {}", panic_message(&*panic))),
            Err(_) => Some(format!("the store did not answer within {limit:?}")),
        };
        if store.capabilities().prefix {
            // Only tidies up, so a store that can't do it has a test of its own to fail.
            let tidied = AssertUnwindSafe(store.clear()).catch_unwind();
            let _ = tokio::time::timeout(LIMIT, tidied).await;
        }
        message.map_or(Ok(()), |message| Err(Violation { promise: self.name, message }))
    }
}

impl<S: CacheStore> fmt::Debug for Promise<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A promise that a store does not keep, and how that showed.
///
/// ```
/// use cache_core::Clock;
/// use cache_core::testing::{FailingStore, ModelStore, Operation, Subject, violations};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let broken = violations(|| async {
///     let (clock, hands) = Clock::manual();
///     let store = FailingStore::new(ModelStore::<u64>::new(clock));
///     store.fail(Operation::Set, cache_core::ErrorKind::Store);
///     Subject::new(store).manual_clock(hands)
/// });
/// assert!(broken.await.iter().any(|violation| violation.promise() == "set_replaces_the_value"));
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    promise: &'static str,
    message: String,
}

impl Violation {
    /// The name of the promise.
    #[must_use]
    pub fn promise(&self) -> &'static str {
        self.promise
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store breaks the promise `{}`: {}", self.promise, self.message)
    }
}

impl std::error::Error for Violation {}

/// The body of a test that `store_conformance!` makes.
#[doc(hidden)]
#[track_caller]
pub fn assert_kept<S: Comparable, Fut>(name: &str, subject: impl FnOnce() -> Fut)
where
    Fut: Future<Output = Subject<S>>,
{
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime for the test: {error}"));
    let promise = promises().into_iter().find(|promise| promise.name() == name);
    let promise = promise.unwrap_or_else(|| panic!("`{name}` is not among the promises"));
    let outcome = runtime.block_on(async { promise.check(subject().await).await });
    runtime.shutdown_background();
    if let Err(violation) = outcome {
        panic!("{violation}");
    }
}

/// What the test of a promise returns.
pub(super) type Kept<T = ()> = Result<T, Broken>;

/// How it showed that a promise is broken.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self(format!("the store returned an error: {error}"))
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
