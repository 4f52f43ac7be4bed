//! The task that has the far store remove what it may still have, until that is certain.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::Bus;
use super::publish::{PAUSES, jittered};
use super::shared::Shared;
use super::unsettled::One;
use crate::{ErrorKind, Result};

/// So many are tried at the same time.
const AT_ONCE: usize = 256;

/// It is a task of its own, and tries each by itself: neither what others have to hear of nor another removal waits for one that
/// fails, or takes long.
pub(super) async fn run<B: Bus>(shared: Arc<Shared<B>>) {
    let mut trying = FuturesUnordered::new();
    loop {
        while trying.len() < AT_ONCE
            && let Some(one) = shared.unsettled.next(Instant::now())
        {
            trying.push(remove(&shared, one));
        }
        // One that is answered makes room for those that are due.
        let due = shared.unsettled.next_due().filter(|_| trying.len() < AT_ONCE);
        let came = pin!(async {
            match due {
                Some(due) => drop(timeout_at(due, shared.unsettled.came()).await),
                None => shared.unsettled.came().await,
            }
        });
        if trying.is_empty() {
            came.await;
        } else if let Either::Left((Some((one, removed)), _)) = select(trying.next(), came).await {
            tried(&shared, one, removed);
        }
    }
}

async fn remove<B: Bus>(shared: &Shared<B>, one: One) -> (One, Result<()>) {
    let removed = shared.near.remove_far(&one.change).await;
    (one, removed)
}

fn tried<B: Bus>(shared: &Shared<B>, one: One, removed: Result<()>) {
    match removed {
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            let pause = PAUSES.0.saturating_mul(1 << one.failures.min(16)).min(PAUSES.1);
            shared.unsettled.failed(one, Instant::now() + jittered(pause));
        }
        removed => {
            if removed.is_err() {
                // What is refused will be refused again. Some of it may have been done.
                shared.near.count(|counters| {
                    counters.given_up.fetch_add(1, Relaxed);
                });
            }
            // Others may have copied the old value again since the first announcement.
            shared.outbox.push(one.change.clone());
            shared.unsettled.done(one);
            shared.went_on();
        }
    }
    shared.tell_state();
}
