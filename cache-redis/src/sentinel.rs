//! Sentinels, which know where the server is that takes writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cache_core::{Error, ErrorKind, Result};
use redis::{ProtocolVersion, Value};
use tokio::time::timeout;

use crate::error::{failure, unexpected};
use crate::link::dial;
use crate::settings::{Address, Servers, Settings};

/// The Sentinels of a store. They are asked whenever a connection is made.
pub(crate) struct Sentinels {
    settings: Arc<Settings>,
    /// The one that has answered last.
    first: AtomicUsize,
}

impl Sentinels {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, first: AtomicUsize::new(0) }
    }

    /// Where the server is: asks one after the other, the one first that has answered last. One that hangs
    /// takes its part of the time for connecting, and no more.
    pub(crate) async fn ask(&self) -> Result<Address> {
        let Servers::Sentinels(sentinels, name) = &self.settings.servers else {
            return Err(unexpected());
        };
        let turns = u32::try_from(sentinels.len()).unwrap_or(u32::MAX).saturating_add(1);
        let limit = self.settings.connect_timeout / turns;
        let first = self.first.load(Ordering::Relaxed);
        let mut why = Error::new(ErrorKind::Unavailable);
        for turn in 0..sentinels.len() {
            let number = (first + turn) % sentinels.len();
            let sentinel = &sentinels[number];
            match timeout(limit, self.ask_one(sentinel, name)).await {
                Ok(Ok(server)) => {
                    self.first.store(number, Ordering::Relaxed);
                    return Ok(server);
                }
                Ok(Err(error)) => why = error,
                Err(_) => {
                    let late = format!("no answer from the Sentinel {sentinel} within {limit:?}");
                    why = Error::with_cause(ErrorKind::Unavailable, late);
                }
            }
        }
        Err(why)
    }

    async fn ask_one(&self, sentinel: &Address, name: &str) -> Result<Address> {
        let login = self.settings.sentinel_login.clone().set_protocol(ProtocolVersion::RESP3);
        let dialled = dial(&self.settings, sentinel, &login, |_| {}).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let mut connection = dialled.connection.clone();
        let answer = connection.send_packed_command(&command).await;
        let answer = answer.and_then(Value::extract_error);
        match answer.map_err(|error| failure(&error).error)? {
            Value::Nil => Err(Error::with_cause(
                ErrorKind::Unavailable,
                format!("the Sentinel {sentinel} knows no server of the name {name}"),
            )),
            answer => {
                let (host, port): (String, u16) =
                    redis::from_redis_value(answer).map_err(|_| unexpected())?;
                Ok(Address::Tcp(host.into(), port))
            }
        }
    }
}
