//! The conformance kit for stores, and scripted stores for the tests of what stands on them.
//!
//! # Test your own store in ten lines
//!
//! [`store_conformance!`](crate::store_conformance) makes a module with one test per promise of
//! [`CacheStore`](crate::CacheStore), so a failing test names the promise that is broken:
//! `map::a_fill_after_a_removal_is_refused ... FAILED`.
//!
//! ```
//! # use cache_core::{CacheStore, Clock, Entry, Moment, Result, SetOptions};
//! # use std::{collections::HashMap, sync::Mutex};
//! # pub struct MapStore(Clock, Mutex<HashMap<String, (Option<u32>, SetOptions, Moment)>>);
//! # impl MapStore { fn new(clock: Clock) -> Self { Self(clock, Mutex::default()) } }
//! # impl CacheStore for MapStore {
//! #     type Value = u32;
//! #     async fn get(&self, key: &str) -> Result<Option<Entry<u32>>> {
//! #         let map = self.1.lock().unwrap();
//! #         Ok(map.get(key).and_then(|(value, options, at)| {
//! #             Entry::aged(*value, options, self.0.now().since(*at))
//! #         }))
//! #     }
//! #     async fn set(&self, key: &str, value: Option<u32>, options: SetOptions) -> Result<()> {
//! #         options.check()?;
//! #         self.1.lock().unwrap().insert(key.to_owned(), (value, options, self.0.now()));
//! #         Ok(())
//! #     }
//! #     async fn remove(&self, key: &str) -> Result<()> {
//! #         self.1.lock().unwrap().remove(key);
//! #         Ok(())
//! #     }
//! # }
//! // tests/conformance.rs
//! use cache_core::testing::Subject;
//!
//! cache_core::store_conformance!(map, {
//!     let (clock, hands) = Clock::manual();
//!     Subject::new(MapStore::new(clock)).manual_clock(hands)
//! });
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # let broken = runtime.block_on(cache_core::testing::violations(|| async {
//! #     let (clock, hands) = Clock::manual();
//! #     Subject::new(MapStore::new(clock)).manual_clock(hands)
//! # }));
//! # assert!(broken.is_empty(), "{broken:?}");
//! ```
//!
//! It takes `cache-core` with the feature `testing` among the `[dev-dependencies]`, and nothing else.
//!
//! # What the kit asks of a store
//!
//! - A **store of its own** for every test: the expression is evaluated once per test, within a
//!   multi-threaded tokio runtime, and may `.await`. Tests run at the same time, and some of them
//!   `clear`. So what several stores share, a server say, goes into a namespace per test:
//!   `Subject::new(server.namespaced(&fresh_name()))`. See [`fresh_name`].
//! - **Room** for a hundred entries; a store that forgets sooner fails.
//! - **Time**: either hands to move its clock with ([`Subject::manual_clock`],
//!   [`Subject::advance_with`]), or the kit waits for real, with wide margins
//!   ([`Subject::real_time`]).
//! - **Values**: of a type that is a [`Sample`], or made by a closure ([`Subject::with_samples`]).
//! - **Tags**, of a store whose entries have some: the function of key and value that tells them
//!   ([`Subject::tagged_by`]). Without it the kit tests only that entries without a tag stay.
//!
//! What a store does not claim in its [`Capabilities`](crate::Capabilities) is tested to behave as
//! the default does (every claim is granted, `remove_prefix` is `Unsupported`, ...). No test is skipped.
//!
//! # Other tests
//!
//! [`FailingStore`], [`SlowStore`] and [`RecordingStore`] wrap any store, to test what stands on it;
//! [`ModelStore`] is the simplest store that keeps every promise. [`violations`] runs the kit within
//! another test and returns what is broken; [`promises`] lists what there is.

mod fakes;
mod model;
mod promises;
mod run;
mod sample;
mod subject;

pub use fakes::{Call, FailingStore, Gate, Operation, RecordingStore, SlowStore};
pub use model::ModelStore;
pub use run::{Promise, Violation, promises, violations};
pub use sample::Sample;
pub use subject::{Comparable, Subject, fresh_name};

#[doc(hidden)]
pub use run::assert_kept;

/// Makes a module of tests, one for each promise of [`CacheStore`](crate::CacheStore).
///
/// It takes the name of the module and an expression for a [`Subject`](crate::testing::Subject),
/// which is evaluated for each test anew and may `.await`. See [`testing`](crate::testing).
///
/// ```
/// use cache_core::Clock;
/// use cache_core::testing::{ModelStore, Subject};
///
/// cache_core::store_conformance!(model, {
///     let (clock, hands) = Clock::manual();
///     Subject::new(ModelStore::<String>::new(clock)).manual_clock(hands)
/// });
/// ```
#[macro_export]
macro_rules! store_conformance {
    ($module:ident, $subject:expr $(,)?) => {
        #[cfg(test)]
        mod $module {
            #[allow(unused_imports, reason = "the expression may name what stands around it")]
            use super::*;

            $crate::__store_promises! { [$crate::__store_conformance_tests] $subject }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_conformance_tests {
    ([$($promise:ident)+] $subject:expr) => {
        $(
            #[test]
            fn $promise() {
                $crate::testing::assert_kept(stringify!($promise), || async { $subject });
            }
        )+
    };
}
