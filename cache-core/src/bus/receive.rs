//! The task that listens.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::message::{Body, Message, Unreadable};
use super::peers::{Peers, Told};
use super::shared::Shared;
use super::{Bus, Delivery, Subscription};
use crate::{Error, ErrorKind, Moment, Result, Resync};

/// How long the bus may take to subscribe.
const LIMIT: Duration = Duration::from_secs(5);

/// How long to wait before another attempt to subscribe, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

pub(super) async fn run<B: Bus>(shared: Arc<Shared<B>>) {
    let mut pause = PAUSES.0;
    loop {
        let began = Instant::now();
        // Why it has ended does not matter: it is begun again.
        let _ = listen(&shared).await;
        shared.near.distrust();
        if began.elapsed() > shared.settings.trusts() {
            pause = PAUSES.0;
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Listens until the subscription ends, or nothing is heard.
async fn listen<B: Bus>(shared: &Shared<B>) -> Result<()> {
    let late = |late| Err(Error::with_cause(ErrorKind::Unavailable, late));
    let mut subscription = timeout(LIMIT, shared.bus.subscribe()).await.unwrap_or_else(late)?;
    let mut ear = Ear::new(shared);
    // Meanwhile everybody else is heard of, so that nobody is a newcomer afterwards.
    let quiet_until = Instant::now() + shared.settings.heartbeat.mul_f64(1.2);
    loop {
        let tick = ear.next_look();
        match timeout_at(tick, subscription.next()).await {
            Ok(Ok(Delivery::Message(bytes))) => ear.hear(&bytes, quiet_until).await?,
            Ok(Ok(Delivery::Missed)) => ear.missed(Resync::Lag).await?,
            Ok(Ok(Delivery::Flushed)) => ear.missed(Resync::Flushed).await?,
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        ear.look().await?;
    }
}

/// One subscription.
struct Ear<'a, B> {
    shared: &'a Shared<B>,
    peers: Peers,
    /// These tiers' own messages come in as well, and are missing if others' are.
    own: Peers,
    /// Whether the near tier has been emptied since the subscription began, and may be used.
    begun: bool,
    /// The moment up to which everything is known.
    known: Option<Moment>,
    /// When the own heartbeat was heard.
    heard_own: Instant,
    looked: Instant,
}

impl<'a, B: Bus> Ear<'a, B> {
    fn new(shared: &'a Shared<B>) -> Self {
        let now = Instant::now();
        // The first heartbeat is heard at once.
        shared.beat_now.notify_one();
        Self {
            shared,
            peers: Peers::default(),
            own: Peers::default(),
            begun: false,
            known: None,
            heard_own: now,
            looked: now,
        }
    }

    async fn hear(&mut self, bytes: &[u8], quiet_until: Instant) -> Result<()> {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(unreadable) => {
                self.shared.near.undecodable();
                // Somebody else's bytes say nothing; if they were a message once, its number is missing.
                return match unreadable {
                    Unreadable::Foreign => Ok(()),
                    Unreadable::OtherVersion => self.missed(Resync::Unknown).await,
                };
            }
        };
        let now = Instant::now();
        let own = message.publisher == self.shared.own;
        let told =
            if own { self.own.heard(&message, now) } else { self.peers.heard(&message, now) };
        match (told, own) {
            (Told::Complete, _) | (Told::Missing(Resync::Newcomer, _), true) => {}
            (Told::Missing(reason, missing), _) => {
                self.shared.near.count(|counters| {
                    counters.missing.fetch_add(missing, Relaxed);
                });
                self.missed(reason).await?;
            }
        }
        match (&message.body, own) {
            (Body::Heartbeat { beat, .. }, true) => self.heard_itself(*beat, quiet_until).await,
            (Body::Change(change), false) => self.shared.near.forget(change).await,
            (Body::Unknown, _) => self.missed(Resync::Unknown).await,
            _ => Ok(()),
        }
    }

    /// Everything that was published before the beat was sent has been heard by now, or is known to be missing.
    async fn heard_itself(&mut self, beat: u64, quiet_until: Instant) -> Result<()> {
        let Some(sent) = self.shared.came_back(beat) else {
            return Ok(());
        };
        let now = Instant::now();
        self.heard_own = now;
        if let Some(moment) = self.shared.near.now() {
            self.shared.near.lag(moment.since(sent));
        }
        if !self.begun {
            if now < quiet_until {
                return Ok(());
            }
            // Only now: what was copied before the subscription was there is gone.
            self.shared.near.resync(Resync::Connected).await?;
            self.begun = true;
        }
        self.known = Some(sent);
        self.shared.near.trust(sent, self.shared.settings.trusts());
        Ok(())
    }

    /// Something may be missing. What is copied from now on is not affected.
    async fn missed(&self, reason: Resync) -> Result<()> {
        if !self.begun {
            return Ok(());
        }
        self.shared.near.resync(reason).await?;
        if let Some(known) = self.known {
            self.shared.near.trust(known, self.shared.settings.trusts());
        }
        Ok(())
    }

    fn next_look(&self) -> Instant {
        self.looked + self.shared.settings.heartbeat
    }

    /// Looks after those who have not been heard.
    async fn look(&mut self) -> Result<()> {
        let now = Instant::now();
        if now < self.next_look() {
            return Ok(());
        }
        self.looked = now;
        self.shared.near.count(|counters| {
            counters.peers.store(self.peers.len() as u64, Relaxed);
        });
        self.shared.describe();
        if now.saturating_duration_since(self.heard_own) > self.shared.settings.trusts() * 2 {
            return Err(Error::with_cause(ErrorKind::Unavailable, "nothing comes back"));
        }
        if self.peers.silent(now) {
            self.missed(Resync::Silent).await?;
        }
        Ok(())
    }
}
