//! A process's part in a partition: it waits for the lease, takes over what the owner before has left, and then takes what
//! comes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_core::{CacheKey, Result, Seq, Write};
use futures_util::future::{Either, select};
use redis::{Cmd, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Partition, Settled, Shared, row, unsigned};
use crate::error::{failure, unexpected};
use crate::link::Dialled;

/// All owners of a partition go by the same name: there is one at a time.
const CONSUMER: &[u8] = b"owner";

/// So many writes are taken together.
const TOGETHER: usize = 500;

/// How long the server holds a read that waits, at most.
const BLOCK: Duration = Duration::from_secs(1);

/// How long to wait before asking again for what others have, or what has failed.
const PAUSE: Duration = Duration::from_millis(200);

/// A partition that this process owns.
struct Owned {
    token: u64,
    /// Until then writes may begin to be made. A third of the lease is left then, for them to end.
    until: Instant,
    /// What has a higher number is not in the backlog, nor among the `unfit`. Of what was given out before, the rest is.
    seen: u64,
    /// Where to go on in asking again for what was given out, and perhaps got lost on the way; `None` if nothing has.
    doubt: Option<String>,
    /// Writes that can't be made, and have to become dead letters.
    unfit: Vec<Settled>,
    /// The connection that waits for news.
    waiting: Option<Dialled>,
}

/// What has come of asking for writes.
enum Fetched {
    /// There are more.
    Some,
    All,
    /// None, since the partition is somebody else's by now.
    Lost,
}

/// Before all that was given out.
const BEGINNING: &str = "0-0";

impl<K, V> Shared<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Owns the partition whenever nobody else does, until the journal is closed.
    pub(super) async fn serve(self: Arc<Self>, index: usize, mut closing: watch::Receiver<bool>) {
        let partition = &self.partitions[index];
        loop {
            let own = async {
                let mut owned = self.acquire(partition).await;
                self.work(partition, &mut owned).await;
            };
            let closed = async {
                let _ = closing.wait_for(|closing| *closing).await;
            };
            let closed = matches!(select(pin!(own), pin!(closed)).await, Either::Right(_));
            let token = partition.token.swap(0, Ordering::AcqRel);
            partition.until.clear();
            partition.unsaid.clear();
            // Whoever is the next owner makes them.
            let flying = self.backlog.forget(|write| self.index_of(&write.key.key()) == index);
            if closed {
                // What is being written right now must not land after the next owner's newer writes: it has until the
                // end of the lease.
                if flying == 0 {
                    let _ = self.lease(partition, "release", &self.token(token)).await;
                }
                return;
            }
        }
    }

    async fn acquire(&self, partition: &Partition) -> Owned {
        loop {
            let asked = Instant::now();
            let pause = match self.lease(partition, "acquire", &self.process.to_string()).await {
                Ok((true, token)) => {
                    return Owned {
                        token,
                        until: self.until(asked),
                        seen: 0,
                        doubt: Some(BEGINNING.to_owned()),
                        unfit: Vec::new(),
                        waiting: None,
                    };
                }
                Ok((false, left)) => Duration::from_millis(left + 1),
                Err(_) => PAUSE,
            };
            // Jittered, so that those who wait do not ask in step.
            sleep(pause.min(PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Takes what there is, until the lease is lost, or will soon be. Whatever it waits for then is dropped, and asked for
    /// again by the next owner.
    async fn work(&self, partition: &Partition, owned: &mut Owned) {
        partition.token.store(owned.token, Ordering::Release);
        partition.until.set(owned.until);
        let mut is_ours = true;
        while is_ours {
            let renewed = timeout_at(owned.until, self.renew(partition, owned)).await;
            is_ours = renewed.unwrap_or(false)
                && timeout_at(owned.until, self.turn(partition, owned)).await.unwrap_or(false);
        }
    }

    /// Renews the lease if it is time to, however often it has to ask; `false` if it is somebody else's by now.
    async fn renew(&self, partition: &Partition, owned: &mut Owned) -> bool {
        while Instant::now() >= self.renew_at(owned) {
            let asked = Instant::now();
            match self.lease(partition, "renew", &self.token(owned.token)).await {
                Ok((true, _)) => {
                    owned.until = self.until(asked);
                    partition.until.set(owned.until);
                }
                Ok((false, _)) => return false,
                Err(_) => sleep(PAUSE.min(self.options.lease / 3)).await,
            }
        }
        true
    }

    /// Until when writes may begin under a lease that was asked for, or for its renewal, at this moment.
    fn until(&self, asked: Instant) -> Instant {
        asked + (self.options.lease - self.options.lease / 3)
    }

    fn renew_at(&self, owned: &Owned) -> Instant {
        owned.until - self.options.lease / 3
    }

    /// Takes a page of what there is, and waits if that was all; `false` if the partition is somebody else's by now.
    async fn turn(&self, partition: &Partition, owned: &mut Owned) -> bool {
        let are_more = match self.fetch(partition, owned).await {
            Ok(Fetched::Some) => true,
            Ok(Fetched::All) => false,
            Ok(Fetched::Lost) => return false,
            Err(_) => {
                owned.doubt = Some(BEGINNING.to_owned());
                sleep(PAUSE.min(self.options.lease / 3)).await;
                return true;
            }
        };
        self.park_unfit(partition, owned).await;
        if !self.say_again(partition).await && !are_more {
            let wait = self.renew_at(owned).saturating_duration_since(Instant::now()).min(BLOCK);
            self.wait_for_news(partition, owned, wait.max(Duration::from_millis(1))).await;
        }
        true
    }

    /// Asks for the lease, in the name of this process, or renews it, or gives it back, by its token. Whether it is
    /// ours, and its number, or how long it is not.
    async fn lease(&self, partition: &Partition, what: &str, who: &str) -> Result<(bool, u64)> {
        let life = self.options.lease.as_millis().to_string();
        let arguments = [what.as_bytes(), life.as_bytes(), who.as_bytes()];
        let answer = self.scripts.lease.run(&self.inner, &partition.keys, &arguments).await?;
        let Value::Array(answer) = answer else { return Err(unexpected()) };
        match answer[..] {
            [Value::Int(1), Value::Int(writes), Value::Int(dead)] => {
                partition.writes.store(unsigned(writes), Ordering::Relaxed);
                partition.dead.store(unsigned(dead), Ordering::Relaxed);
                Ok((true, 0))
            }
            [Value::Int(ours), Value::Int(token)] => {
                Ok((ours == 1, u64::try_from(token).unwrap_or(0)))
            }
            _ => Err(unexpected()),
        }
    }

    /// Pushes a page of what is new.
    async fn fetch(&self, partition: &Partition, owned: &mut Owned) -> Result<Fetched> {
        let (token, count) = (self.token(owned.token), TOGETHER.to_string());
        let from = owned.doubt.as_deref().unwrap_or(">");
        let arguments = [token.as_bytes(), CONSUMER, count.as_bytes(), from.as_bytes()];
        let answer = self.scripts.fetch.run(&self.inner, &partition.keys, &arguments).await?;
        let (next, entries): (String, Vec<Entry>) = match answer {
            Value::Nil => return Ok(Fetched::Lost),
            answer => redis::from_redis_value(answer).map_err(|_| unexpected())?,
        };
        let is_all = owned.doubt.is_none() && entries.len() < TOGETHER;
        for (id, key, body, times) in entries {
            let seq = id.split('-').next().and_then(|seq| seq.parse().ok());
            let seq: u64 = seq.ok_or_else(unexpected)?;
            // What is given out for the first time is new whatever its number, which is low after a failover to a
            // server that had not got all and whose clock is behind.
            if seq > owned.seen || owned.doubt.is_none() {
                owned.unfit.extend(self.take(key, seq, &body, times));
                owned.seen = owned.seen.max(seq);
            }
        }
        if owned.doubt.is_some() {
            owned.doubt = Some(next).filter(|next| !next.is_empty());
        }
        Ok(if is_all { Fetched::All } else { Fetched::Some })
    }

    /// Puts a write into the backlog; if it can't be made, returns it with its letter.
    fn take(&self, key: Vec<u8>, seq: u64, body: &[u8], times: u32) -> Option<Settled> {
        // Whoever else writes into the log may write anything.
        let (spelled, decoded) = match std::str::from_utf8(&key) {
            Ok(spelled) => (spelled, self.bodies.decode(spelled, body)),
            Err(error) => ("", Err(row::unreadable("", error))),
        };
        let cause = match decoded {
            Ok((decoded, value)) if times <= self.options.most_deliveries => {
                let write = Write::new(decoded, value).numbered(Seq::new(seq));
                self.backlog.push(write, key.len() + body.len());
                return None;
            }
            Ok(_) => format!("{times} processes have begun it, and none has finished it"),
            Err(error) => error.to_string(),
        };
        let letter = row::letter(times, spelled, &cause, body);
        Some((key, seq, letter))
    }

    /// Makes dead letters of what can't be made. While there is no room for them, they stay in the log, and hold nobody up.
    async fn park_unfit(&self, partition: &Partition, owned: &mut Owned) {
        while let Some(letter) = owned.unfit.last() {
            if self.settle(partition, std::slice::from_ref(letter)).await.is_err() {
                return;
            }
            owned.unfit.pop();
        }
    }

    /// Waits for news on a connection of its own, which it makes if it has none.
    async fn wait_for_news(&self, partition: &Partition, owned: &mut Owned, most: Duration) {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(most.as_millis().to_string());
        let after = format!("{}-0", owned.seen);
        read.arg("STREAMS").arg(partition.keys.log.as_str()).arg(after);
        if owned.waiting.is_none() {
            owned.waiting = self.dial(partition).await.ok();
        }
        let limit = most + self.inner.settings.operation_timeout.max(BLOCK);
        let waited = match &owned.waiting {
            Some(dialled) => timeout(limit, waited(dialled, &read)).await.unwrap_or(false),
            None => false,
        };
        if !waited {
            owned.waiting = None;
            sleep(PAUSE.min(most)).await;
        }
    }

    async fn dial(&self, partition: &Partition) -> Result<Dialled> {
        self.inner.link(&partition.keys.log)?.dial_apart().await
    }
}

/// Whether the server has answered properly.
async fn waited(dialled: &Dialled, read: &Cmd) -> bool {
    let mut connection = dialled.connection.clone();
    let answer = connection.send_packed_command(read).await.and_then(Value::extract_error);
    answer.map_err(|error| failure(&error)).is_ok()
}

/// Id, key, body, and how often it was given out.
type Entry = (String, Vec<u8>, Vec<u8>, u32);
