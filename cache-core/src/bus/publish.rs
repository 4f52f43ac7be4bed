//! The tasks that send: changes as they come, with a heartbeat in between; and what has to be settled first.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Bus;
use super::broadcast::Shared;
use super::message::Message;
use crate::{Change, Error, ErrorKind, Result};

/// How long the bus may take for a message.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// How long to wait before a message is sent again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

pub(super) async fn run<B: Bus>(shared: Arc<Shared<B>>) {
    let mut next_beat = Instant::now();
    loop {
        if Instant::now() >= next_beat {
            beat(&shared).await;
            // Jittered, so that a fleet does not beat in step.
            next_beat =
                Instant::now() + shared.settings.heartbeat.mul_f64(0.9 + fastrand::f64() / 10.0);
        }
        if let Some(change) = shared.outbox.pop() {
            send(&shared, change).await;
            continue;
        }
        let (came, wanted) = (pin!(shared.outbox.came()), pin!(shared.beat_now.notified()));
        if let Ok(Either::Right(_)) = timeout_at(next_beat, select(came, wanted)).await {
            next_beat = Instant::now();
        }
    }
}

/// Sends a change, again and again until it has been sent.
async fn send<B: Bus>(shared: &Shared<B>, change: Change) {
    let message = shared.change(change).encode();
    let mut pause = PAUSES.0;
    // The same bytes each time: a listener that has had them knows by the number.
    while let Err(_error) = bounded(shared.bus.publish(message.clone())).await {
        shared.near.count(|counters| {
            counters.publish_failures.fetch_add(1, Relaxed);
        });
        tell_state(shared);
        wait(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    shared.sent();
    shared.near.count(|counters| {
        counters.published.fetch_add(1, Relaxed);
    });
    tell_state(shared);
}

/// Has the far store remove what it was to remove if that is not certain, and announces it then. It is a task of its own:
/// what others have to hear of does not wait for a removal that fails, or takes long.
pub(super) async fn settle<B: Bus>(shared: Arc<Shared<B>>) {
    loop {
        let Some(change) = shared.settle_next() else {
            shared.unsettled.came().await;
            continue;
        };
        let mut pause = PAUSES.0;
        while let Err(error) = shared.near.remove_far(&change).await {
            // What is refused will be refused again. Some of it may have been done.
            if error.kind() != ErrorKind::Unavailable {
                break;
            }
            tell_state(&shared);
            wait(pause).await;
            pause = (pause * 2).min(shared.settings.heartbeat).min(PAUSES.1);
        }
        shared.outbox.push(change);
        shared.settled();
        tell_state(&shared);
    }
}

async fn beat<B: Bus>(shared: &Shared<B>) {
    // The time is taken before it is sent: whatever comes in before it comes back is older than that.
    let Some(now) = shared.near.now() else {
        return;
    };
    if let Some(beat) = shared.beat(now) {
        send_beat(shared, beat).await;
    }
}

async fn send_beat<B: Bus>(shared: &Shared<B>, beat: Message) {
    if bounded(shared.bus.publish(beat.encode())).await.is_err() {
        shared.near.count(|counters| {
            counters.publish_failures.fetch_add(1, Relaxed);
        });
    }
}

fn tell_state<B: Bus>(shared: &Shared<B>) {
    let (waiting, overflows) = shared.waiting();
    shared.near.count(|counters| {
        counters.pending.store(waiting as u64, Relaxed);
        counters.overflows.store(overflows, Relaxed);
    });
}

async fn wait(pause: Duration) {
    sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
}

async fn bounded(answer: impl Future<Output = Result<()>>) -> Result<()> {
    let late = |late| Err(Error::with_cause(ErrorKind::Unavailable, late));
    timeout(LIMIT, answer).await.unwrap_or_else(late)
}
