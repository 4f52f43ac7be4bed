//! One connection to the server, under supervision.
//!
//! `supervisor.rs` connects and watches; this file sends. Whoever sends never waits for a connection:
//! it is there, or the answer is an error at once.

mod clock;
mod dial;
mod handshake;
mod pending;
mod place;
mod replay;
mod supervisor;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cache_core::{Error, ErrorKind, Result};
use redis::{Cmd, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Timeout, timeout_at};

pub(crate) use clock::ServerClock;
pub(crate) use dial::{Dialled, dial};
pub(crate) use pending::{Backlog, Kept, Pending};
pub(crate) use place::Place;

use crate::error::{failure, failure_in_cluster, unexpected};
use crate::gather::Gather;
use crate::listener::News;
use crate::scripts::Scripts;
use crate::settings::Settings;

/// So many calls in a row without an answer in time, and the connection is given up.
const TIMEOUTS: u32 = 16;

/// What all links of a store share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) in_flight: Arc<Semaphore>,
    /// Where what the servers say by the way is told, of a store whose reads they track.
    pub(crate) news: Option<Arc<News>>,
    /// On which the store was made, and whose tasks and timers all are: those of a caller's may stop at any time.
    pub(crate) runtime: Handle,
}

/// A connection, or the reason why there is none.
pub(crate) struct Link {
    pub(crate) settings: Arc<Settings>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) backlog: Arc<Backlog>,
    in_flight: Arc<Semaphore>,
    news: Option<Arc<News>>,
    pub(crate) runtime: Handle,
    /// Where the server is.
    pub(crate) place: Place,
    state: watch::Sender<State>,
    /// Wakes the supervisor.
    alarm: Notify,
}

enum State {
    Down(Error),
    Up(Arc<Live>),
}

/// A connection that has been made; not the same one after a reconnect.
pub(crate) struct Live {
    dialled: Dialled,
    pub(crate) clock: ServerClock,
    pub(crate) gather: Gather,
    /// Calls in a row that had no answer in time.
    timeouts: AtomicU32,
    /// Set when the client says that the connection has ended.
    gone: Arc<AtomicBool>,
    /// Why the server does not tell of changes of what is read here, if it was asked to and refuses.
    pub(crate) untracked: Option<Error>,
}

impl Link {
    pub(crate) fn new(shared: Shared, place: Place) -> Arc<Self> {
        let none = Error::with_cause(ErrorKind::Unavailable, "not yet connected");
        Arc::new(Self {
            settings: shared.settings,
            scripts: shared.scripts,
            backlog: shared.backlog,
            in_flight: shared.in_flight,
            news: shared.news,
            runtime: shared.runtime,
            place,
            state: watch::Sender::new(State::Down(none)),
            alarm: Notify::new(),
        })
    }

    /// The connection.
    ///
    /// # Errors
    ///
    /// Why there is none, at once.
    pub(crate) fn live(&self) -> Result<Arc<Live>> {
        match &*self.state.borrow() {
            State::Up(live) => Ok(Arc::clone(live)),
            State::Down(error) => Err(error.clone()),
        }
    }

    /// Waits until there is a connection.
    pub(crate) async fn connected(&self) {
        let mut states = self.state.subscribe();
        // The sender is in `self`, so it can't end meanwhile.
        let _ = states.wait_for(|state| matches!(state, State::Up(_))).await;
    }

    /// When an operation that begins now has to have ended.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.operation_timeout
    }

    /// Sends one command, and returns its answer; an error of the server's is an answer here.
    pub(crate) async fn send(
        &self,
        live: &Live,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Value> {
        let _room = self.room()?;
        let mut connection = live.dialled.connection.clone();
        // Pinned where it is: what the client is made of takes a kilobyte, which would be moved with it.
        let answer = pin!(connection.send_packed_command(command));
        let answer = self.within(deadline, answer);
        self.answered(live, answer.await)
    }

    /// Sends many commands together, and returns their answers.
    pub(crate) async fn send_all(
        &self,
        live: &Live,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>> {
        let _room = self.room()?;
        let mut connection = live.dialled.connection.clone();
        let count = commands.len();
        let answers = pin!(connection.send_packed_commands(commands, 0, count));
        let answers = self.within(deadline, answers);
        let values = self.answered(live, answers.await)?;
        if values.len() == count { Ok(values) } else { Err(unexpected()) }
    }

    /// The answer, unless it is an error.
    pub(crate) fn accepted(&self, live: &Live, value: Value) -> Result<Value> {
        match value {
            Value::ServerError(error) => Err(self.failed(live, &error.into())),
            value => Ok(value),
        }
    }

    /// Has the supervisor look after what is pending.
    pub(crate) fn wake(&self) {
        self.alarm.notify_one();
    }

    /// Room for one more operation in flight, if there is any.
    fn room(&self) -> Result<SemaphorePermit<'_>> {
        self.in_flight.try_acquire().map_err(|_| {
            Error::with_cause(ErrorKind::Unavailable, "too many operations are in flight")
        })
    }

    /// With a timer of the store's own runtime.
    fn within<F: Future>(&self, deadline: Instant, answer: F) -> Timeout<F> {
        let _entered = self.runtime.enter();
        timeout_at(deadline, answer)
    }

    /// What has been answered before the deadline.
    fn answered<T>(&self, live: &Live, answer: Result<RedisResult<T>, Elapsed>) -> Result<T> {
        match answer {
            Ok(Ok(value)) => {
                live.timeouts.store(0, Ordering::Relaxed);
                Ok(value)
            }
            Ok(Err(error)) => Err(self.failed(live, &error)),
            Err(_) => Err(self.timed_out(live)),
        }
    }

    /// Judges an error, and gives the connection up if it has to be.
    pub(crate) fn failed(&self, live: &Live, error: &RedisError) -> Error {
        let failure = if self.place.is_in_cluster() {
            if matches!(error.code(), Some("CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" | "READONLY"))
            {
                self.place.doubt();
            }
            failure_in_cluster(error)
        } else {
            failure(error)
        };
        if failure.lost {
            self.lose(live, &failure.error);
        }
        failure.error
    }

    fn timed_out(&self, live: &Live) -> Error {
        let error = Error::with_cause(ErrorKind::Unavailable, "the server did not answer in time");
        if live.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS {
            self.lose(live, &error);
        } else {
            // The supervisor finds out whether that was the server or the operation.
            self.alarm.notify_one();
        }
        error
    }

    /// Goes down, if this is still the connection.
    fn lose(&self, live: &Live, error: &Error) {
        let lost = self.state.send_if_modified(|state| match state {
            State::Up(up) if std::ptr::eq(&**up, live) => {
                *state = State::Down(error.clone());
                true
            }
            _ => false,
        });
        if lost {
            self.alarm.notify_one();
            self.place.doubt();
        }
    }
}

/// Whether the server does not know a script.
pub(crate) fn is_no_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// Whether a node of a cluster says that a key is somewhere else.
pub(crate) fn is_redirection(value: &Value) -> bool {
    use ServerErrorKind::{Ask, Moved};
    matches!(value, Value::ServerError(error) if matches!(error.kind(), Some(Moved | Ask)))
}
