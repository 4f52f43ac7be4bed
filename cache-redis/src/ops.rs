//! The operations on one key. Each is one round trip, and a second one where a cluster redirects it.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    Claim, ClaimOptions, Entry, Error, ErrorKind, Fill, Lease, Result, SetOptions, Version,
};
use redis::Value;

use crate::error::unexpected;
use crate::gather;
use crate::inner::Inner;
use crate::link::{Live, Pending, is_redirection};
use crate::route::Route;
use crate::slot::{self, Slot};
use crate::unique::unique;

/// How long those who wait for somebody else's load sleep between two questions, on average.
const POLL: Duration = Duration::from_millis(20);

impl Inner {
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry<Bytes>>> {
        if self.settings.bare {
            return self.get_bare(key).await;
        }
        let mut full = String::with_capacity(self.settings.prefix.len() + key.len());
        full.push_str(&self.settings.prefix);
        full.push_str(key);
        let route = self.route(&full)?;
        let answer = gather::read(&route, full).await?;
        if is_redirection(&answer.value)
            && let Some(route) = self.redirected(&route, &self.full(key), &answer.value)
        {
            // In a box, so that the future of a read stays small.
            return Box::pin(self.get_there(route?, key)).await;
        }
        self.entry(&route, answer.value, answer.now)
    }

    async fn get_there(&self, route: Route<'_>, key: &str) -> Result<Option<Entry<Bytes>>> {
        let mut command = redis::cmd("GET");
        command.arg(&*self.full(key));
        let value = route.send(command, route.link.deadline()).await?;
        let now = route.live.clock.now();
        self.entry(&route, value, now)
    }

    /// What a slot holds at this time of the server.
    pub(crate) fn entry(
        &self,
        route: &Route<'_>,
        value: Value,
        now: u64,
    ) -> Result<Option<Entry<Bytes>>> {
        match value {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(self.decoded(bytes.into(), now)),
            Value::ServerError(error) if error.code() == "WRONGTYPE" => {
                self.undecodable.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            other => route.accepted(other).and(Err(unexpected())),
        }
    }

    fn decoded(&self, bytes: Bytes, now: u64) -> Option<Entry<Bytes>> {
        match slot::read(bytes, now) {
            Slot::Entry(entry) => Some(entry),
            Slot::Empty => None,
            Slot::Foreign => {
                self.undecodable.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    pub(crate) async fn set(
        &self,
        key: &str,
        value: Option<Bytes>,
        options: &SetOptions,
    ) -> Result<()> {
        self.check(value.as_ref(), options)?;
        let full = self.full(key);
        let sent = if self.settings.bare {
            self.set_bare(&full, value.as_ref(), options).await
        } else {
            let (value, mut options) = (value.as_ref(), Cow::Borrowed(options));
            let removal = self.spare(&full, &mut options);
            let set = |live: &Live| self.scripts.set(&full, value, &options, self.not_after(live));
            let set = self.run(&full, set).await.and_then(in_time);
            set.inspect(|()| self.spare_made(removal, &options))
        };
        // It may have been written: nobody is to find it, nor what it was to replace. (Who drops it wants neither.)
        self.owing_one(|| Pending::Remove(full)).settle(sent)
    }

    /// Before a write: has the removal that is pending for its key spare it. Returns the number of that removal if it can
    /// do so only once the write has been made.
    ///
    /// A version of its own is one that nobody has, so it spares nothing that is there already. One that is given may
    /// be that of what is to be removed.
    pub(crate) fn spare(&self, full: &str, options: &mut Cow<'_, SetOptions>) -> Option<u64> {
        let removal = self.backlog.removal_of(full).filter(|_| !self.settings.bare)?;
        if options.version().is_some() {
            return Some(removal);
        }
        let version = slot::new_version();
        self.backlog.spare(removal, version);
        *options = Cow::Owned(options.as_ref().clone().with_version(version));
        None
    }

    /// After a write: the same for what was returned then.
    pub(crate) fn spare_made(&self, removal: Option<u64>, options: &SetOptions) {
        if let (Some(removal), Some(version)) = (removal, options.version()) {
            self.backlog.spare(removal, slot::kept(version));
        }
    }

    /// The server's time after which a write has been given up. A server that was only slow must not do it
    /// then: there may be newer values by now, or an invalidation that made up for it.
    pub(crate) fn not_after(&self, live: &Live) -> u64 {
        let timeout = self.settings.operation_timeout.as_micros();
        live.clock.now().saturating_add(u64::try_from(timeout).unwrap_or(u64::MAX))
    }

    pub(crate) async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<Bytes>> {
        if self.settings.bare {
            return Ok(match self.get_bare(key).await? {
                Some(entry) if options.seen() != Some(Version::UNKNOWN) => Claim::Found(entry),
                _ => Claim::Granted(Lease::new(key, 0)),
            });
        }
        let full = self.full(key);
        let token = unique().max(1);
        // If it has been granted, nobody knows.
        let owed = self.owing_one(|| Pending::Release(full.clone(), token));
        let answer = self.run(&full, |_| self.scripts.claim(&full, token, &options)).await;
        let answer = owed.settle(answer)?;
        let Value::Array(answer) = answer else {
            return Err(unexpected());
        };
        match &answer[..] {
            [Value::Int(0)] => Ok(Claim::Granted(Lease::new(key, token))),
            [Value::Int(1), Value::Int(now), Value::BulkString(bytes)] => {
                let now = u64::try_from(*now).unwrap_or(0);
                let entry = self.decoded(Bytes::copy_from_slice(bytes), now);
                entry.map(Claim::Found).ok_or_else(unexpected)
            }
            [Value::Int(2), Value::Int(left)] => {
                let left = Duration::from_micros(u64::try_from(*left).unwrap_or(0));
                Ok(Claim::Held { retry_in: left.clamp(Duration::from_millis(1), POLL) })
            }
            _ => Err(unexpected()),
        }
    }

    pub(crate) async fn fill(
        &self,
        lease: Lease,
        value: Option<Bytes>,
        options: SetOptions,
    ) -> Result<Fill> {
        if self.settings.bare {
            let key = lease.key();
            return self.set(key, value, &options).await.map(|()| Fill::Stored);
        }
        if let Err(invalid) = self.check(value.as_ref(), &options) {
            // A lease that can't be given back ends by itself; what is wrong with the value is the news.
            let _ = self.release(&lease).await;
            return Err(invalid);
        }
        let full = self.full(lease.key());
        let value = value.as_ref();
        let owed = self.owing_one(|| Pending::Release(full.clone(), lease.token()));
        let answer = self.run(&full, |_| self.scripts.fill(&full, &lease, value, &options)).await;
        match owed.settle(answer)? {
            Value::Int(1) => Ok(Fill::Stored),
            Value::Int(0) => Ok(Fill::Refused),
            _ => Err(unexpected()),
        }
    }

    pub(crate) async fn release(&self, lease: &Lease) -> Result<bool> {
        if self.settings.bare {
            return Ok(true);
        }
        let full = self.full(lease.key());
        let owed = self.owing_one(|| Pending::Release(full.clone(), lease.token()));
        let released = self.run(&full, |_| self.scripts.release(&full, lease.token())).await;
        match owed.settle(released)? {
            Value::Int(held) => Ok(held == 1),
            _ => Err(unexpected()),
        }
    }
}

/// Whether a write came in time.
pub(crate) fn in_time(answer: Value) -> Result<()> {
    match answer {
        Value::Int(1) => Ok(()),
        Value::Int(0) => Err(Error::with_cause(
            ErrorKind::Unavailable,
            "the write came too late, or the server's clock has been set",
        )),
        _ => Err(unexpected()),
    }
}
