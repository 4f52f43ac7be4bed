//! Finds out that a server was emptied, of which pub/sub says nothing.
//!
//! Each listener has a key of its own on every server, and looks now and then whether it is still there. Nobody removes it but who
//! removes everything of the service; and if it is evicted, or lost in a failover, other keys may be so as well.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, Value};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::RedisStore;
use crate::link::Link;

/// How often somebody looks.
const EVERY: Duration = Duration::from_millis(250);

/// So long a key lives after its listener.
const LIFE: Duration = Duration::from_secs(60);

/// So many names are tried at first for a key in one of a node's slots, and whenever somebody looks.
const NAMES: (usize, usize) = (20_000, 256);

/// The keys of one listener.
pub(crate) struct Canaries {
    store: RedisStore,
    stem: String,
    canaries: Vec<Canary>,
}

struct Canary {
    link: Arc<Link>,
    key: String,
    renew: Instant,
}

/// Looks after the keys until it is dropped.
pub(crate) struct Watch(AbortHandle);

impl Canaries {
    /// Puts the keys, which begin with `stem`, where that can be done now.
    pub(crate) async fn put(store: &RedisStore, stem: String) -> Self {
        let mut canaries = Self { store: store.clone(), stem, canaries: Vec::new() };
        canaries.look(NAMES.0).await;
        canaries
    }

    /// Calls `emptied` whenever a server may have been emptied.
    pub(crate) fn watch(mut self, emptied: impl Fn() + Send + 'static) -> Watch {
        let looking = tokio::spawn(async move {
            loop {
                // Jittered, so that a fleet does not look in step.
                sleep(EVERY.mul_f64(0.9 + fastrand::f64() / 10.0)).await;
                if self.look(NAMES.1).await {
                    emptied();
                }
            }
        });
        Watch(looking.abort_handle())
    }

    /// Whether a key is gone, or could not be put before: what happened until now, nobody knows.
    async fn look(&mut self, names: usize) -> bool {
        let Ok(servers) = self.store.0.servers() else {
            return false;
        };
        self.canaries.retain(|canary| servers.iter().any(|link| canary.is_on(link)));
        let gone = join_all(self.canaries.iter_mut().map(Canary::is_gone)).await;
        let mut each = gone.iter();
        self.canaries.retain(|_| each.next() == Some(&false));
        let mut alarm = gone.contains(&true);
        for link in servers {
            if !self.canaries.iter().any(|canary| canary.is_on(&link))
                && let Some(key) = link.key_here(&self.stem, names)
                && let Some(canary) = Canary::put(link, key).await
            {
                self.canaries.push(canary);
                alarm = true;
            }
        }
        alarm
    }
}

impl Canary {
    async fn put(link: Arc<Link>, key: String) -> Option<Self> {
        let mut set = redis::cmd("SET");
        set.arg(&key).arg("").arg("PX").arg(LIFE.as_millis() as u64);
        let renew = Instant::now() + LIFE / 3;
        let answer = ask(&link, &set).await?;
        matches!(answer, Value::Okay).then_some(Self { link, key, renew })
    }

    fn is_on(&self, link: &Arc<Link>) -> bool {
        Arc::ptr_eq(&self.link, link)
    }

    /// Whether the server says that the key is not there. One that does not answer says nothing.
    async fn is_gone(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.renew;
        let mut question = redis::cmd(if due { "PEXPIRE" } else { "GET" });
        question.arg(&self.key);
        if due {
            question.arg(LIFE.as_millis() as u64);
        }
        match ask(&self.link, &question).await {
            None => false,
            Some(Value::Int(1)) => {
                self.renew = now + LIFE / 3;
                false
            }
            Some(Value::BulkString(_)) => false,
            // In a cluster its slot may have moved, with what was changed meanwhile.
            Some(_) => true,
        }
    }
}

async fn ask(link: &Link, command: &Cmd) -> Option<Value> {
    let live = link.live().ok()?;
    link.send(&live, command, link.deadline()).await.ok()
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
