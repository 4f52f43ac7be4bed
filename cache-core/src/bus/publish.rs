//! The task that sends: changes as they come, with a heartbeat in between.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Bus;
use super::shared::{Shared, Way};
use crate::{Error, ErrorKind, Result};

/// How long the bus may take for a message.
const LIMIT: Duration = Duration::from_secs(1);

/// How long what waits when the tiers end may take.
const ENDING: Duration = Duration::from_secs(5);

/// How long to wait before something is tried again, at first and at most.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Sends until the tiers end, and then what waits.
pub(super) async fn run<B: Bus>(shared: Arc<Shared<B>>) {
    select(pin!(announce(&shared)), pin!(shared.ended.notified())).await;
    let _ = timeout(ENDING, finish(&shared)).await;
}

async fn announce<B: Bus>(shared: &Shared<B>) {
    let mut next_beat = Instant::now();
    loop {
        if Instant::now() >= next_beat {
            // It says that its publisher has said all: what came before it goes before it.
            let come = shared.come();
            while !shared.has_sent(come)
                && let Some(message) = shared.next_message()
            {
                send(shared, message).await;
            }
            beat(shared).await;
            // Jittered, so that a fleet does not beat in step.
            next_beat =
                Instant::now() + shared.settings.heartbeat.mul_f64(0.9 + fastrand::f64() / 10.0);
        }
        if let Some(message) = shared.next_message() {
            send(shared, message).await;
            continue;
        }
        let (came, wanted) = (pin!(shared.outbox.came()), pin!(shared.beat_now.notified()));
        if let Ok(Either::Right(_)) = timeout_at(next_beat, select(came, wanted)).await {
            next_beat = Instant::now();
        }
    }
}

/// The message that was being sent is sent once more: who has had it knows by its number.
async fn finish<B: Bus>(shared: &Shared<B>) {
    while let Some(message) = shared.next_message() {
        send(shared, message).await;
    }
    if let Some(end) = shared.end() {
        let _ = bounded(shared.bus.publish(end.encode())).await;
    }
}

/// Sends a change, again and again until it has been sent.
async fn send<B: Bus>(shared: &Shared<B>, message: Bytes) {
    let mut pause = PAUSES.0;
    // The same bytes each time: a listener that has had them knows by the number.
    while !publish(shared, message.clone()).await {
        shared.tell_state();
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    shared.sent();
    shared.near.count(|counters| {
        counters.published.fetch_add(1, Relaxed);
    });
    shared.tell_state();
}

async fn beat<B: Bus>(shared: &Shared<B>) {
    // The time is taken before it is sent: whatever comes in before it comes back is older than that.
    let Some(now) = shared.near.now() else {
        return;
    };
    if let Some(beat) = shared.beat(now) {
        publish(shared, beat.encode()).await;
    }
}

/// Whether it has been sent.
async fn publish<B: Bus>(shared: &Shared<B>, message: Bytes) -> bool {
    let failure = bounded(shared.bus.publish(message)).await.err();
    let sent = failure.is_none();
    if !sent {
        shared.near.count(|counters| {
            counters.publish_failures.fetch_add(1, Relaxed);
        });
    }
    shared.failed(Way::Out, failure);
    sent
}

/// So that a fleet does not do it in step.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

async fn bounded(answer: impl Future<Output = Result<()>>) -> Result<()> {
    let late = |late| Err(Error::with_cause(ErrorKind::Unavailable, late));
    timeout(LIMIT, answer).await.unwrap_or_else(late)
}
