//! What every store of this crate promises: the same tests for each engine.

mod evictions;
mod leases;
mod lifetimes;
mod model;
mod stress;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use cache_core::{CacheStore, CacheStoreExt, Clock, ManualClock, SetOptions};

use crate::Store;

/// The output of a future of these stores, which are done when first polled.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a memory store never waits"),
    }
}

/// A store of this capacity, and the hands of its clock.
pub(crate) fn store(capacity: usize) -> (Store<u64>, ManualClock) {
    let (clock, hands) = Clock::manual();
    let store = Store::builder().capacity(capacity).clock(clock).build();
    (store.expect("valid options"), hands)
}

pub(crate) fn get<S: CacheStore<Value = u64>>(store: &S, key: &str) -> Option<u64> {
    now(store.value(key)).expect("memory does not fail")
}

pub(crate) fn set<S: CacheStore<Value = u64>>(store: &S, key: &str, value: u64) {
    now(store.set(key, Some(value), SetOptions::forever())).expect("a valid lifetime");
}
