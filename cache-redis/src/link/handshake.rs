//! From nothing to a connection that is known to work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::{ClaimOptions, Error, ErrorKind, Lease, Result, SetOptions, Version};
use redis::{Pipeline, PushInfo, PushKind, RedisError, ServerErrorKind, Value};
use tokio::time::timeout;

#[cfg(feature = "journal")]
use super::Dialled;
use super::{Link, Live, ServerClock, dial};
use crate::error::{IN_CLUSTER, failure, refuses_writes_only, unexpected};
use crate::gather::Gather;
use crate::unique::unique;

/// So many names are tried for a key that is in one of the slots of a node.
const NAMES: usize = 20_000;

impl Link {
    /// Makes a connection, and finds out whether all that the store needs is there.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Arc<Live>> {
        let within = self.settings.connect_timeout;
        let connected = timeout(within, self.shake_hands()).await;
        connected.unwrap_or_else(|_| {
            Err(Error::with_cause(
                ErrorKind::Unavailable,
                format!("no connection within {within:?}"),
            ))
        })
    }

    #[cfg(feature = "journal")]
    /// A further connection, for reads that wait: they would hold up whatever is behind them.
    pub(crate) async fn dial_apart(&self) -> Result<Dialled> {
        let dialled = async {
            let address = self.place.find().await?;
            dial(&self.settings, &address, &self.settings.login, |_| {}).await
        };
        let dialled = timeout(self.settings.connect_timeout, dialled).await;
        dialled.unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable)))
    }

    async fn shake_hands(self: &Arc<Self>) -> Result<Arc<Live>> {
        let origin = Instant::now();
        let gone = Arc::new(AtomicBool::new(false));
        let ended = {
            let (link, gone) = (Arc::downgrade(self), Arc::clone(&gone));
            let news = self.news.clone();
            move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    gone.store(true, Ordering::Release);
                    if let Some(link) = link.upgrade() {
                        link.alarm.notify_one();
                    }
                }
                if let Some(news) = &news {
                    news.hear(push);
                }
            }
        };
        let address = self.place.find().await?;
        let dialled = dial(&self.settings, &address, &self.settings.login, ended).await?;
        let mut live = Live {
            dialled,
            clock: ServerClock::new(origin),
            gather: Gather::default(),
            timeouts: AtomicU32::new(0),
            gone,
            untracked: None,
        };
        self.identify(&live).await?;
        live.learn_time().await?;
        self.probe_permissions(&live).await?;
        if self.news.is_some() {
            live.untracked = live.track().await?;
        }
        Ok(Arc::new(live))
    }

    /// Whether this is the kind of server that was meant.
    async fn identify(&self, live: &Live) -> Result<()> {
        let refused = |why: String| Err(Error::with_cause(ErrorKind::Store, why));
        let Value::Map(facts) = live.ask(&redis::cmd("HELLO")).await? else {
            return Err(unexpected());
        };
        let fact = |name: &str| {
            facts.iter().find_map(|(key, value)| match value {
                _ if !is(key, name) => None,
                Value::BulkString(value) => Some(String::from_utf8_lossy(value).into_owned()),
                Value::SimpleString(value) => Some(value.clone()),
                _ => None,
            })
        };
        let version = fact("version").unwrap_or_default();
        let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
        if let (Some(major), Some(minor)) = (numbers.next(), numbers.next())
            && (major, minor) < (6, 2)
        {
            return refused(format!("the server has version {version}, and 6.2 is needed"));
        }
        match (fact("mode").as_deref(), self.place.is_in_cluster()) {
            (Some("cluster"), false) => return refused(IN_CLUSTER.to_owned()),
            (Some("sentinel"), _) => {
                return refused(
                    "the server is a Sentinel; name it by a URL that begins with \
                     `redis+sentinel://`, with the feature `sentinel` of cache-redis"
                        .to_owned(),
                );
            }
            (Some("standalone"), true) => {
                return refused("the server is not in a Redis Cluster any more".to_owned());
            }
            _ => {}
        }
        match fact("role").as_deref() {
            // It may be promoted at any time.
            Some("replica" | "slave") => Err(Error::with_cause(
                ErrorKind::Unavailable,
                "the server is a replica, which takes no writes",
            )),
            _ => Ok(()),
        }
    }

    /// Does everything once, on a key of its own, so that a missing permission is found out now. It also
    /// makes the scripts known.
    async fn probe_permissions(&self, live: &Live) -> Result<()> {
        let key = self.key_to_probe();
        let mut commands = Pipeline::new();
        let second = Duration::from_secs(1);
        if self.place.is_in_cluster() {
            commands.cmd("ASKING");
        }
        if self.settings.bare {
            commands.cmd("SET").arg(&key).arg("").arg("PX").arg(1000);
            commands.cmd("MULTI");
            commands.cmd("PTTL").arg(&key);
            commands.cmd("EXEC");
        } else {
            for code in self.scripts.codes() {
                commands.cmd("SCRIPT").arg("LOAD").arg(code);
            }
            let (token, options) = (unique(), SetOptions::ttl(second));
            let lease = Lease::new(&key, token);
            let value = Bytes::new();
            for call in [
                self.scripts.claim(&key, token, &ClaimOptions::new(second)),
                self.scripts.fill(&key, &lease, Some(&value), &options),
                self.scripts.set(&key, Some(&value), &options, u64::MAX),
                self.scripts.release(&key, token),
            ] {
                commands.add_command(call.by_digest());
            }
        }
        commands.cmd("GET").arg(&key);
        commands.cmd("MGET").arg(&key);
        commands.cmd("UNLINK").arg(&key);
        if !self.settings.bare {
            commands.add_command(self.scripts.remove_unless(&key, Version::new(1)).by_digest());
        }
        let pattern = format!("{}*", crate::prefix::escaped(&key));
        commands.cmd("SCAN").arg(0).arg("MATCH").arg(pattern).arg("COUNT").arg(1);

        let count = commands.len();
        let mut connection = live.dialled.connection.clone();
        let answers = connection.send_packed_commands(&commands, 0, count).await;
        for answer in answers.map_err(|error| failure(&error).error)? {
            match answer.extract_error() {
                Err(error) if refuses_writes_only(&error) || self.is_elsewhere(&error) => {}
                Err(error) => return Err(failure(&error).error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// A key of nobody's; in a cluster, one in a slot of this node, if there is any. (A service's name with
    /// a hash tag has all its keys in one slot.)
    fn key_to_probe(&self) -> String {
        let stem = format!("{}probe-", self.settings.prefix);
        self.key_here(&stem, NAMES).unwrap_or(stem)
    }

    /// A key of nobody's that begins with `stem`; in a cluster, one in a slot of this node, if one is found among so many.
    pub(crate) fn key_here(&self, stem: &str, names: usize) -> Option<String> {
        let mut names_of_its_own = fastrand::Rng::with_seed(unique());
        let key = |_| format!("{stem}{:016x}", names_of_its_own.u64(..));
        (0..names).map(key).find(|key| self.place.serves(key))
    }

    /// Whether this is only about where a slot is, of which permissions don't depend.
    fn is_elsewhere(&self, error: &RedisError) -> bool {
        use ServerErrorKind::{Ask, ClusterDown, ExecAbort, Moved, TryAgain};
        self.place.is_in_cluster()
            && matches!(
                error.kind(),
                redis::ErrorKind::Server(Ask | ClusterDown | ExecAbort | Moved | TryAgain)
            )
    }
}

impl Live {
    /// Asks for the server's time, which also shows that the server is there.
    pub(super) async fn learn_time(&self) -> Result<()> {
        let asked = Instant::now();
        let answer = self.ask(&redis::cmd("TIME")).await?;
        let time: (u64, u64) = redis::from_redis_value(answer).map_err(|_| unexpected())?;
        self.clock.observed(asked, time.0.saturating_mul(1_000_000).saturating_add(time.1));
        Ok(())
    }

    /// Has the server tell of changes of what is read here, or say why it does not.
    async fn track(&self) -> Result<Option<Error>> {
        let mut track = redis::cmd("CLIENT");
        track.arg("TRACKING").arg("ON");
        let mut connection = self.dialled.connection.clone();
        match connection.send_packed_command(&track).await {
            Ok(Value::ServerError(error)) => Ok(Some(failure(&error.into()).error)),
            Ok(_) => Ok(None),
            Err(error) => Err(failure(&error).error),
        }
    }

    pub(crate) async fn ask(&self, command: &redis::Cmd) -> Result<Value> {
        let mut connection = self.dialled.connection.clone();
        let answer = connection.send_packed_command(command).await;
        answer.and_then(Value::extract_error).map_err(|error| failure(&error).error)
    }
}

fn is(value: &Value, text: &str) -> bool {
    match value {
        Value::BulkString(value) => value == text.as_bytes(),
        Value::SimpleString(value) => value == text,
        _ => false,
    }
}
