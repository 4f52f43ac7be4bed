//! Keeps a link connected.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cache_core::{Error, ErrorKind, Result};
use tokio::time::{sleep, timeout};

use super::{Link, Live, State};

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
                    self.place.doubt();
                }
            }
        }
    }

    /// Connects, and does what is pending before anybody reads.
    async fn reconnect(self: &Arc<Self>) -> Result<Arc<Live>> {
        let live = self.connect().await?;
        self.do_pending(&live, &|key| self.place.serves(key)).await?;
        if self.place.is_in_cluster() {
            self.do_prefixes(&live).await?;
        }
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
            let _ = self.do_pending(live, &|key| self.place.serves(key)).await;
        }
    }

    /// Whether the server answers at all.
    async fn probe(&self, live: &Live) -> Result<()> {
        let answer = timeout(self.settings.operation_timeout, live.learn_time()).await;
        answer.unwrap_or_else(|_| {
            Err(Error::with_cause(ErrorKind::Unavailable, "the server does not answer"))
        })
    }
}
