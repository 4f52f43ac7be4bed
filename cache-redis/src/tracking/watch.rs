//! What is done with the news.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::{Change, Error, ErrorKind, Moment, NearTier, Resync};
use futures_util::future::{Either, select};
use redis::Value;
use smol_str::SmolStr;
use tokio::time::{Instant, sleep, timeout_at};

use super::Fallback;
use super::ears::{Ears, Reach, accepted};
use super::switch::Switch;
use crate::RedisStore;
use crate::error::failure;
use crate::listener::{Listener, Push, Pushes};

/// Who listens for a near tier.
pub(super) struct Watch {
    pub(super) store: RedisStore,
    /// What the server has before the names of the tiers' keys, or tags.
    pub(super) prefix: String,
    pub(super) of: Of,
    /// Whether to hear of keys that were read here, rather than of all with the prefix.
    pub(super) by_key: bool,
    pub(super) probe_every: Duration,
    pub(super) trust: Duration,
}

/// What the near tier has copies of.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Entries,
    Marks,
}

/// Why tracking has ended.
pub(super) enum End {
    /// The server, or the user's permissions, don't have it.
    Refused(Error),
    Other(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Tracks until the task is aborted, or something else has taken its place.
pub(super) async fn run(
    watch: Watch,
    near: NearTier,
    mut fallback: Option<Fallback>,
    switch: Option<Arc<Switch>>,
) {
    near.copy_only_reads(watch.by_key);
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let mut end = watch.session(&near, switch.as_deref()).await;
        near.distrust();
        if let (End::Refused(error), Some(switch)) = (&end, &switch)
            && let Some(fall_back) = fallback.take_if(|_| !switch.is_decided())
        {
            let instead = near.clone().since(&format!("tracking was refused: {error}"));
            instead.kept_by("something else");
            match fall_back(instead) {
                Ok(keeper) => {
                    near.copy_only_reads(false);
                    switch.fall_back(keeper);
                    return;
                }
                // It will not do better the next time.
                Err(failed) => end = End::Other(failed),
            }
        }
        let (End::Refused(error) | End::Other(error)) = &end;
        near.kept_by(&format!("{}, which has failed: {error}", watch.name()));
        failures = if began.elapsed() > watch.trust { 0 } else { failures + 1 };
        sleep(watch.store.0.settings.pause(failures).max(Duration::from_millis(5))).await;
    }
}

impl Watch {
    /// What it is called where somebody asks what keeps the tier coherent.
    pub(super) fn name(&self) -> &'static str {
        if self.by_key { "tracking by key" } else { "tracking" }
    }

    /// Tracks until that ends.
    async fn session(&self, near: &NearTier, switch: Option<&Switch>) -> End {
        match self.track(near, switch).await {
            Ok(()) => End::Other(Error::with_cause(
                ErrorKind::Unavailable,
                "the connections have changed",
            )),
            Err(end) => end,
        }
    }

    async fn track(&self, near: &NearTier, switch: Option<&Switch>) -> Result<(), End> {
        let (ears, mut pushes) = self.begin(near).await?;
        if let Some(switch) = switch {
            switch.stay();
        }
        near.kept_by(self.name());
        let mut known = None;
        let mut next_probe = Instant::now();
        loop {
            match timeout_at(next_probe, pushes.next()).await {
                Ok(push) => self.heard(near, push?, known).await?,
                Err(_) => {
                    // Whatever was changed before the servers are asked comes before their answers.
                    let now = near.now();
                    let reach = ears.reach(self)?;
                    if matches!(reach, Reach::Others) {
                        return Ok(());
                    }
                    self.probe(near, &ears, &mut pushes, known).await?;
                    if let Reach::Unknown(error) = reach {
                        // What is near stays for as long as it was trusted, and no longer.
                        let why = "a connection of the store is down";
                        near.kept_by(&format!("{}, while {why}: {error}", self.name()));
                    } else if let Some(now) = now {
                        near.trust(now, self.trust);
                        known = Some(now);
                    }
                    next_probe =
                        Instant::now() + self.probe_every.mul_f64(0.9 + fastrand::f64() / 10.0);
                }
            }
        }
    }

    /// Asks for the news of all keys with the prefix.
    pub(super) async fn arm(&self, listener: &Listener) -> Result<(), End> {
        let mut command = redis::cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&self.prefix);
        match listener.ask(&command, self.store.0.settings.operation_timeout).await? {
            Value::ServerError(error) => Err(End::Refused(failure(&error.into()).error)),
            _ => Ok(()),
        }
    }

    /// Asks every server whether it is there, and hears what it says meanwhile.
    async fn probe(
        &self,
        near: &NearTier,
        ears: &Ears,
        pushes: &mut Pushes,
        before: Option<Moment>,
    ) -> Result<(), End> {
        let asked = Instant::now();
        let hello = redis::cmd("HELLO");
        let mut answers = pin!(ears.ask(&hello, self));
        let answers = loop {
            match select(answers.as_mut(), pin!(pushes.next())).await {
                Either::Left((answers, _)) => break answers,
                Either::Right((push, _)) => self.heard(near, push?, before).await?,
            }
        };
        for answer in answers {
            if is_replica(&accepted(answer?)?) {
                let why = "the server has become a replica";
                return Err(End::Other(Error::with_cause(ErrorKind::Unavailable, why)));
            }
        }
        while let Some(push) = pushes.now()? {
            self.heard(near, push, before).await?;
        }
        near.lag(asked.elapsed());
        Ok(())
    }

    pub(super) async fn heard(
        &self,
        near: &NearTier,
        push: Push,
        known: Option<Moment>,
    ) -> Result<(), End> {
        let reason = match push {
            Push::Invalidated(keys) => {
                let names: Vec<_> = keys.iter().filter_map(|key| self.own(key)).collect();
                if !names.is_empty() {
                    let change = match self.of {
                        Of::Entries => Change::Keys(names),
                        Of::Marks => Change::Tags(names),
                    };
                    near.forget(&change).await?;
                }
                return Ok(());
            }
            Push::Flushed => Resync::Flushed,
            Push::Missed => Resync::Lag,
            Push::Message(_) => return Ok(()),
        };
        near.resync(reason).await?;
        if let Some(known) = known {
            near.trust(known, self.trust);
        }
        Ok(())
    }

    /// The key as the tiers spell it, or the tag.
    fn own(&self, key: &Bytes) -> Option<SmolStr> {
        let key = std::str::from_utf8(key).ok()?;
        key.strip_prefix(&self.prefix).map(SmolStr::new)
    }
}

/// Whether the answer to `HELLO` is that of a replica, which hears of changes late.
fn is_replica(answer: &Value) -> bool {
    let is = |value: &Value, texts: &[&str]| match value {
        Value::BulkString(text) => texts.iter().any(|one| one.as_bytes() == text),
        Value::SimpleString(text) => texts.contains(&text.as_str()),
        _ => false,
    };
    let Value::Map(facts) = answer else {
        return false;
    };
    facts.iter().any(|(fact, value)| is(fact, &["role"]) && is(value, &["replica", "slave"]))
}
