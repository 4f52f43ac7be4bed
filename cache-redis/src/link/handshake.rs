//! From nothing to a connection that is known to work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::{ClaimOptions, Error, ErrorKind, Lease, Result, SetOptions};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, Pipeline, PushInfo, PushKind, Value};
use tokio::time::timeout;

use super::{Link, Live, ServerClock};
use crate::error::{failure, refuses_writes_only, unexpected};
use crate::gather::Gather;

/// How many commands the client takes before senders wait, which they do within their deadline.
const QUEUE: usize = 1024;

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

    async fn shake_hands(self: &Arc<Self>) -> Result<Arc<Live>> {
        let origin = Instant::now();
        let gone = Arc::new(AtomicBool::new(false));
        let connection = self.open(Arc::clone(&gone)).await?;
        let live = Live {
            connection,
            clock: ServerClock::new(origin),
            gather: Gather::default(),
            timeouts: AtomicU32::new(0),
            gone,
        };
        live.learn_time().await?;
        self.probe_permissions(&live).await?;
        Ok(Arc::new(live))
    }

    /// TCP, then `HELLO` with user and password, and `SELECT`.
    async fn open(self: &Arc<Self>, gone: Arc<AtomicBool>) -> Result<MultiplexedConnection> {
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(
            TcpKeepalive::new()
                .with_time(Duration::from_secs(10))
                .with_interval(Duration::from_secs(3)),
        );
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(Duration::from_secs(5));

        let link = Arc::downgrade(self);
        let ended = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                gone.store(true, Ordering::Release);
                if let Some(link) = link.upgrade() {
                    link.alarm.notify_one();
                }
            }
            Ok::<_, std::convert::Infallible>(())
        };
        // Deadlines are kept here, around everything; the client's own would only be in the way.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_write_backpressure_boundary(64 * 1024)
            .set_push_sender(ended);
        let info = self.settings.server.clone().set_tcp_settings(tcp);
        let client = Client::open(info).map_err(|error| failure(&error).error)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        connection.await.map_err(|error| failure(&error).error)
    }

    /// Does everything once, on a key of its own, so that a missing permission, a replica or a node of
    /// a cluster is found out now. It also makes the scripts known.
    async fn probe_permissions(&self, live: &Live) -> Result<()> {
        let key = format!("{}probe-{:016x}", self.settings.prefix, fastrand::u64(..));
        let mut commands = Pipeline::new();
        let second = Duration::from_secs(1);
        if self.settings.bare {
            commands.cmd("SET").arg(&key).arg("").arg("PX").arg(1000);
            commands.cmd("MULTI");
            commands.cmd("PTTL").arg(&key);
            commands.cmd("EXEC");
        } else {
            for code in self.scripts.codes() {
                commands.cmd("SCRIPT").arg("LOAD").arg(code);
            }
            let (token, options) = (fastrand::u64(..), SetOptions::ttl(second));
            let lease = Lease::new(&key, token);
            let value = Some(Bytes::new());
            for call in [
                self.scripts.claim(&key, token, &ClaimOptions::new(second)),
                self.scripts.fill(&key, &lease, value.clone(), &options),
                self.scripts.set(&key, value, &options, u64::MAX),
                self.scripts.release(&key, token),
            ] {
                commands.add_command(call.by_digest());
            }
        }
        commands.cmd("GET").arg(&key);
        commands.cmd("MGET").arg(&key);
        commands.cmd("UNLINK").arg(&key);
        let pattern = format!("{}*", crate::prefix::escaped(&key));
        commands.cmd("SCAN").arg(0).arg("MATCH").arg(pattern).arg("COUNT").arg(1);

        let count = commands.len();
        let mut connection = live.connection.clone();
        let answers = connection.send_packed_commands(&commands, 0, count).await;
        for answer in answers.map_err(|error| failure(&error).error)? {
            match answer.extract_error() {
                Err(error) if !refuses_writes_only(&error) => return Err(failure(&error).error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Live {
    /// Asks for the server's time, which also shows that the server is there.
    pub(super) async fn learn_time(&self) -> Result<()> {
        let asked = Instant::now();
        let mut connection = self.connection.clone();
        let answer = connection.send_packed_command(&redis::cmd("TIME")).await;
        let answer = answer.and_then(Value::extract_error);
        let answer = answer.map_err(|error| failure(&error).error)?;
        let time: (u64, u64) = redis::from_redis_value(answer).map_err(|_| unexpected())?;
        self.clock.observed(asked, time.0 * 1_000_000 + time.1);
        Ok(())
    }
}
