//! The task that listens.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::message::{Body, Message, Unreadable};
use super::peers::{Peers, Told};
use super::shared::{Shared, Way};
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
        let ended = listen(&shared).await;
        shared.near.distrust();
        // It is begun again in any case; what it was is for whoever looks.
        shared.failed(Way::In, ended.err());
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
    // Whatever is heard was published after this.
    let Some(known) = shared.near.now() else {
        return Ok(());
    };
    let mut subscription = timeout(LIMIT, shared.bus.subscribe()).await.unwrap_or_else(late)?;
    let mut ear = Ear::new(shared, known);
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
    /// All that was published before this has been heard, or is known to be missing.
    known: Moment,
    /// The moment since which the near tier is trusted.
    trusted: Option<Moment>,
    /// When the own heartbeat was heard.
    heard_own: Instant,
    looked: Instant,
}

impl<'a, B: Bus> Ear<'a, B> {
    fn new(shared: &'a Shared<B>, known: Moment) -> Self {
        let now = Instant::now();
        // The first heartbeat is heard at once.
        shared.beat_now.notify_one();
        Self {
            shared,
            peers: Peers::new(shared.settings.heartbeat),
            own: Peers::new(shared.settings.heartbeat),
            begun: false,
            known,
            trusted: None,
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
        let publishers = if own { &mut self.own } else { &mut self.peers };
        let told = publishers.heard(&message, now, self.known);
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
            (Body::Heartbeat { beat, .. }, true) => self.heard_itself(*beat, quiet_until).await?,
            (Body::Change(change), false) => self.shared.near.forget(change).await?,
            (Body::Unknown, _) => self.missed(Resync::Unknown).await?,
            _ => {}
        }
        // Only now that it is done as it says.
        self.trust(false);
        Ok(())
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
        self.known = sent;
        self.shared.failed(Way::In, None);
        Ok(())
    }

    /// Lets the near tier answer until the trust in the publisher of whom the least is known is over: in itself, whose heartbeats
    /// show that messages arrive, or in another, who may have something to say and can't.
    fn trust(&mut self, closed: bool) {
        if !self.begun {
            return;
        }
        let known = self.peers.known().map_or(self.known, |known| known.min(self.known));
        if closed || self.trusted != Some(known) {
            self.trusted = Some(known);
            self.shared.near.trust(known, self.shared.settings.trusts());
        }
    }

    /// Something may be missing. What is copied from now on is not affected.
    async fn missed(&mut self, reason: Resync) -> Result<()> {
        if !self.begun {
            return Ok(());
        }
        self.shared.near.resync(reason).await?;
        self.trust(true);
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
        self.shared.slowest(self.peers.slowest());
        let too_long = self.shared.settings.trusts().saturating_mul(2);
        if now.saturating_duration_since(self.heard_own) > too_long {
            return Err(Error::with_cause(ErrorKind::Unavailable, "nothing comes back"));
        }
        if self.peers.silent(now) {
            self.missed(Resync::Silent).await?;
        }
        Ok(())
    }
}
