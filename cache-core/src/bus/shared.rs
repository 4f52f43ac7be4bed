//! What the tasks of a [`Broadcast`](super::Broadcast) share.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Bus;
use super::broadcast::Settings;
use super::message::{Body, Message};
use super::outbox::{Outbox, Outgoing};
use super::unsettled::Unsettled;
use crate::unique::unique;
use crate::{Error, Moment, NearTier};

pub(super) struct Shared<B> {
    pub(super) bus: B,
    pub(super) near: NearTier,
    pub(super) settings: Settings,
    /// Of these tiers, until they end: nobody else's, also not after a fork or a restart.
    pub(super) own: u64,
    pub(super) outbox: Outbox,
    pub(super) unsettled: Unsettled,
    state: Mutex<State>,
    /// A heartbeat is wanted before its time.
    pub(super) beat_now: Notify,
    /// The last handle to the tiers is gone.
    pub(super) ended: Notify,
    /// Something has been sent, or settled.
    went_on: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last change.
    number: u64,
    /// The last change, while it is not known whether it has been sent.
    sending: Option<Sending>,
    /// What has been put into the outbox up to here has been sent.
    sent: u64,
    /// The beats of which it is known when they were sent, the oldest first.
    beats: VecDeque<(u64, Moment)>,
    last_beat: u64,
    /// What the near tier was told to be kept by.
    described: String,
    /// Why the last attempt to listen, and to publish, has failed.
    failures: [Option<String>; 2],
    /// How often the slowest of the others beats.
    slowest: Duration,
}

/// Where something fails.
#[derive(Clone, Copy)]
pub(super) enum Way {
    In,
    Out,
}

#[derive(Debug)]
struct Sending {
    bytes: Bytes,
    count: usize,
    /// As [`Outgoing::last`].
    last: u64,
}

impl<B: Bus> Shared<B> {
    pub(super) fn new(bus: B, near: NearTier, settings: Settings) -> Self {
        Self {
            bus,
            near,
            settings,
            own: unique(),
            outbox: Outbox::new(settings.max_pending),
            unsettled: Unsettled::new(settings.max_pending),
            state: Mutex::default(),
            beat_now: Notify::new(),
            ended: Notify::new(),
            went_on: Notify::new(),
        }
    }

    /// Takes note of why the bus fails, or that it does not.
    pub(super) fn failed(&self, way: Way, failure: Option<Error>) {
        let mut state = self.lock();
        let before = &mut state.failures[way as usize];
        if before.is_none() && failure.is_none() {
            return;
        }
        *before = failure.map(|error| error.to_string());
        drop(state);
        self.describe();
    }

    /// Takes note of how often the slowest of the others beats.
    pub(super) fn slowest(&self, beat: Duration) {
        self.lock().slowest = beat;
        self.describe();
    }

    /// Says what the bus is and what is not as it should be, if it was something else before.
    pub(super) fn describe(&self) {
        let mut described = self.bus.describe();
        let mut state = self.lock();
        if state.slowest >= self.settings.trusts() {
            let slowest = state.slowest;
            described += &format!(
                ", where somebody beats every {slowest:?}, which is longer than is trusted"
            );
        }
        // That nothing comes back may be for what can't be sent.
        for (why, way) in state.failures.iter().zip(["to listen", "to publish"]) {
            if let Some(why) = why {
                described += &format!("; failed {way}: {why}");
            }
        }
        if state.described != described {
            self.near.kept_by(&described);
            state.described = described;
        }
    }

    /// The message of the next change, which has a number from now on. It is the same, byte by byte, until it has been
    /// [`sent`](Self::sent).
    pub(super) fn next_message(&self) -> Option<Bytes> {
        let mut state = self.lock();
        if let Some(sending) = &state.sending {
            return Some(sending.bytes.clone());
        }
        let Outgoing { change, last, .. } = self.outbox.pop()?;
        state.number += 1;
        let count = change.count();
        let message =
            Message { publisher: self.own, number: state.number, body: Body::Change(change) };
        let bytes = message.encode();
        state.sending = Some(Sending { bytes: bytes.clone(), count, last });
        Some(bytes)
    }

    pub(super) fn sent(&self) {
        let mut state = self.lock();
        if let Some(sending) = state.sending.take() {
            state.sent = sending.last;
        }
        drop(state);
        self.went_on();
    }

    /// Has those who wait for what is pending look again.
    pub(super) fn went_on(&self) {
        self.went_on.notify_waiters();
    }

    /// A heartbeat that is sent `now`; none while it is not known whether the last change has been sent.
    pub(super) fn beat(&self, now: Moment) -> Option<Message> {
        let mut state = self.lock();
        if state.sending.is_some() {
            return None;
        }
        state.last_beat += 1;
        let beat = state.last_beat;
        // More than a few are never on their way, unless none comes back.
        if state.beats.len() >= 64 {
            state.beats.pop_front();
        }
        state.beats.push_back((beat, now));
        let body = Body::Heartbeat { beat, every: self.settings.heartbeat };
        Some(Message { publisher: self.own, number: state.number, body })
    }

    /// When the beat was sent that has come back.
    pub(super) fn came_back(&self, beat: u64) -> Option<Moment> {
        let mut state = self.lock();
        let (_, sent) = *state.beats.iter().find(|(number, _)| *number == beat)?;
        state.beats.retain(|(number, _)| *number > beat);
        Some(sent)
    }

    /// How many changes wait or are in hand, and how often there were too many.
    pub(super) fn waiting(&self) -> (usize, u64) {
        let state = self.lock();
        let in_hand = state.sending.as_ref().map_or(0, |sending| sending.count);
        let ((announced, some), (unsettled, more)) = (self.outbox.state(), self.unsettled.state());
        (announced + unsettled + in_hand, some + more)
    }

    pub(super) fn tell_state(&self) {
        let (waiting, overflows) = self.waiting();
        self.near.count(|counters| {
            counters.pending.store(waiting as u64, Relaxed);
            counters.overflows.store(overflows, Relaxed);
        });
    }

    /// How many changes have come, for [`has_sent`](Self::has_sent).
    pub(super) fn come(&self) -> u64 {
        self.outbox.come()
    }

    /// Whether the first so many changes have been sent.
    pub(super) fn has_sent(&self, come: u64) -> bool {
        self.lock().sent >= come
    }

    /// Waits until all that has come until now is settled and has been sent; says how much waits if that takes longer.
    pub(super) async fn flush(&self, limit: Duration) -> usize {
        let come = self.unsettled.come();
        let flushed = timeout(limit, async {
            self.until(|| !self.unsettled.has_any_of(come)).await;
            // With what was announced when it was settled.
            let come = self.come();
            self.until(|| self.has_sent(come)).await;
        });
        if flushed.await.is_ok() { 0 } else { self.waiting().0 }
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            // Listening begins before looking, so that nothing falls in between.
            let mut went_on = pin!(self.went_on.notified());
            went_on.as_mut().enable();
            if condition() {
                return;
            }
            went_on.await;
        }
    }

    /// The last message; none if not all has been said, so that others find out by the silence.
    pub(super) fn end(&self) -> Option<Message> {
        let (waiting, _) = self.waiting();
        let number = self.lock().number;
        (waiting == 0).then_some(Message { publisher: self.own, number, body: Body::End })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
