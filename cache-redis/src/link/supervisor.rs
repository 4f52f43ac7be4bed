//! Keeps a link connected.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cache_core::{Error, ErrorKind, Result};
use redis::Pipeline;
use tokio::time::{sleep, timeout};

use super::{Link, Live, Pending, State};
use crate::prefix;

/// So many pending invalidations are sent together.
const TOGETHER: usize = 256;

impl Link {
    /// Connects for the first time.
    pub(crate) async fn connect_now(self: &Arc<Self>) -> Result<()> {
        let live = self.connect().await?;
        self.publish(live);
        Ok(())
    }

    /// Keeps the link connected until it is aborted.
    pub(crate) async fn supervise(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            if let Ok(live) = self.live() {
                failures = 0;
                let error = self.watch(&live).await;
                self.lose(&live, &error);
            }
            sleep(self.settings.pause(failures)).await;
            failures = failures.saturating_add(1);
            match self.reconnect().await {
                Ok(live) => self.publish(live),
                Err(error) => {
                    self.state.send_replace(State::Down(error));
                }
            }
        }
    }

    /// Connects, and does what is pending before anybody reads.
    async fn reconnect(self: &Arc<Self>) -> Result<Arc<Live>> {
        let live = self.connect().await?;
        self.do_pending(&live).await?;
        Ok(live)
    }

    fn publish(&self, live: Arc<Live>) {
        self.state.send_replace(State::Up(live));
    }

    /// Watches over a connection, and says why it can't be used any more.
    async fn watch(&self, live: &Arc<Live>) -> Error {
        loop {
            // Jittered, so that a fleet does not ask in step.
            let pause = self.settings.probe_every.mul_f64(0.75 + fastrand::f64() / 2.0);
            let _ = timeout(pause, self.alarm.notified()).await;
            if live.gone.load(Ordering::Acquire) {
                return Error::with_cause(ErrorKind::Unavailable, "the connection has ended");
            }
            match &*self.state.borrow() {
                State::Up(up) if Arc::ptr_eq(up, live) => {}
                State::Up(_) => return Error::new(ErrorKind::Unavailable),
                State::Down(error) => return error.clone(),
            }
            if let Err(error) = self.probe(live).await {
                return error;
            }
            // What can't be sent now is tried again with the next probe.
            let _ = self.do_pending(live).await;
        }
    }

    /// Whether the server answers at all.
    async fn probe(&self, live: &Live) -> Result<()> {
        let answer = timeout(self.settings.operation_timeout, live.learn_time()).await;
        answer.unwrap_or_else(|_| {
            Err(Error::with_cause(ErrorKind::Unavailable, "the server does not answer"))
        })
    }

    /// Does what could not be done before, in its order.
    async fn do_pending(&self, live: &Live) -> Result<()> {
        loop {
            let mut pending = self.backlog.oldest(TOGETHER);
            // A prefix takes many commands, so it goes by itself.
            let singles =
                pending.iter().take_while(|(_, one)| !matches!(one, Pending::RemovePrefix(_)));
            match singles.count() {
                0 => {}
                singles => pending.truncate(singles),
            }
            let Some((_, first)) = pending.first() else {
                return Ok(());
            };
            if let Pending::RemovePrefix(prefix) = first {
                let prefix = prefix.clone();
                pending.truncate(1);
                prefix::remove(self, live, &prefix).await?;
            } else {
                let mut commands = Pipeline::new();
                for (_, pending) in &pending {
                    match pending {
                        Pending::Remove(key) => {
                            commands.cmd("UNLINK").arg(key.as_str());
                        }
                        Pending::Release(key, token) => {
                            commands.add_command(self.scripts.release(key, *token).by_code());
                        }
                        Pending::RemovePrefix(_) => {}
                    }
                }
                for answer in self.send_all(live, &commands).await? {
                    self.accepted(live, answer)?;
                }
            }
            for (order, _) in pending {
                self.backlog.done(order);
            }
        }
    }
}
