//! Connections that hear what the server says by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cache_core::{Error, ErrorKind, Result};
use redis::{Cmd, PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::failure;
use crate::link::{Dialled, Link, dial};

/// So many pushes wait for whoever takes them. More are not kept, and missed.
const WAITING: usize = 1024;

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// A message of a channel.
    Message(Bytes),
    /// These keys have changed.
    Invalidated(Vec<Bytes>),
    /// All keys may have changed.
    Flushed,
    /// There was more than could be kept.
    Missed,
}

/// What comes in on some connections, in its order for each of them.
pub(crate) struct Pushes {
    coming: mpsc::Receiver<Push>,
    ear: Ear,
}

/// Where pushes go in. It never waits.
#[derive(Clone)]
struct Ear {
    state: Arc<State>,
    sender: mpsc::Sender<Push>,
}

#[derive(Default)]
struct State {
    missed: AtomicBool,
    ended: AtomicBool,
}

impl Ear {
    fn hear(&self, heard: Heard) {
        let push = match heard {
            Heard::Push(push) => push,
            Heard::End => {
                self.state.ended.store(true, Ordering::Release);
                // Wakes whoever waits; if there is no room, he is awake.
                Push::Missed
            }
        };
        if self.sender.try_send(push).is_err() {
            self.state.missed.store(true, Ordering::Release);
        }
    }
}

/// What servers say, by the way, on the connections by which a store reads.
#[derive(Default)]
pub(crate) struct News(Mutex<Vec<Ear>>);

impl News {
    /// What is said from now on.
    pub(crate) fn subscribe(&self) -> Pushes {
        let pushes = Pushes::new();
        let mut ears = self.lock();
        ears.retain(|ear| !ear.sender.is_closed());
        ears.push(pushes.ear.clone());
        pushes
    }

    pub(crate) fn hear(&self, push: PushInfo) {
        if let Some(heard) = read(push) {
            self.lock().iter().for_each(|ear| ear.hear(heard.clone()));
        }
    }

    // Nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Vec<Ear>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that listens.
pub(crate) struct Listener(Dialled);

impl Pushes {
    pub(crate) fn new() -> Self {
        let (sender, coming) = mpsc::channel(WAITING);
        Self { coming, ear: Ear { state: Arc::default(), sender } }
    }

    /// Opens another connection to the server of a link, whose pushes come in here.
    pub(crate) async fn listen(&self, link: &Link) -> Result<Listener> {
        let ear = self.ear.clone();
        let pushed = move |push: PushInfo| {
            if let Some(heard) = read(push) {
                ear.hear(heard);
            }
        };
        let within = link.settings.connect_timeout;
        let dialled = timeout(within, async {
            let address = link.place.find().await?;
            dial(&link.settings, &address, &link.settings.login, pushed).await
        });
        let late = |_| Err(unavailable(&format!("no connection within {within:?}")));
        Ok(Listener(dialled.await.unwrap_or_else(late)?))
    }

    /// Has it say that all keys may have changed.
    pub(crate) fn flushed(&self) -> impl Fn() + Send + 'static {
        let ear = self.ear.clone();
        move || ear.hear(Heard::Push(Push::Flushed))
    }

    /// The next push. No push is lost when it is dropped.
    ///
    /// # Errors
    ///
    /// One of the connections has ended.
    pub(crate) async fn next(&mut self) -> Result<Push> {
        if let Some(push) = self.before()? {
            return Ok(push);
        }
        let push = self.coming.recv().await;
        self.before()?.or(push).ok_or_else(|| unavailable("nobody listens"))
    }

    /// The next push, if there is one by now.
    pub(crate) fn now(&mut self) -> Result<Option<Push>> {
        if let Some(push) = self.before()? {
            return Ok(Some(push));
        }
        Ok(self.coming.try_recv().ok())
    }

    /// What is more important than the next push.
    fn before(&self) -> Result<Option<Push>> {
        if self.ear.state.ended.load(Ordering::Acquire) {
            return Err(unavailable("the connection has ended"));
        }
        Ok(self.ear.state.missed.swap(false, Ordering::AcqRel).then_some(Push::Missed))
    }
}

impl Listener {
    /// Sends a command, and returns its answer, which may be an error of the server's.
    pub(crate) async fn ask(&self, command: &Cmd, within: std::time::Duration) -> Result<Value> {
        let mut connection = self.0.connection.clone();
        match timeout(within, connection.send_packed_command(command)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure(&error).error),
            Err(_) => Err(unavailable("the server did not answer in time")),
        }
    }

    /// Begins to hear the messages of a channel.
    pub(crate) async fn subscribe(&self, channel: &str, within: std::time::Duration) -> Result<()> {
        let mut connection = self.0.connection.clone();
        match timeout(within, connection.subscribe(channel)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failure(&error).error),
            Err(_) => Err(unavailable("the server did not answer in time")),
        }
    }
}

fn unavailable(why: &str) -> Error {
    Error::with_cause(ErrorKind::Unavailable, why)
}

/// What a push says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Push(Push),
    /// No more will come.
    End,
}

/// Reads a push; what nobody has asked for is none.
fn read(push: PushInfo) -> Option<Heard> {
    let mut data = push.data.into_iter();
    let push = match push.kind {
        PushKind::Message | PushKind::SMessage => match data.nth(1) {
            Some(Value::BulkString(message)) => Push::Message(message.into()),
            _ => return None,
        },
        PushKind::Invalidate => match data.next() {
            Some(Value::Array(keys)) => {
                let keys = keys.into_iter().filter_map(|key| match key {
                    Value::BulkString(key) => Some(Bytes::from(key)),
                    _ => None,
                });
                Push::Invalidated(keys.collect())
            }
            // Nil is everything, and what is not understood may be.
            _ => Push::Flushed,
        },
        // A node says by itself that it sends no more of a channel whose slot has moved.
        PushKind::Disconnection | PushKind::SUnsubscribe => return Some(Heard::End),
        _ => return None,
    };
    Some(Heard::Push(push))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(kind: PushKind, data: Vec<Value>) -> Option<Push> {
        match read(PushInfo { kind, data })? {
            Heard::Push(push) => Some(push),
            Heard::End => panic!("it has not ended"),
        }
    }

    #[test]
    fn a_flush_is_told_from_keys() {
        let keys = Value::Array(vec![Value::BulkString(b"a".to_vec()), Value::Nil]);
        let expected = Push::Invalidated(vec![Bytes::from_static(b"a")]);
        assert_eq!(push(PushKind::Invalidate, vec![keys]), Some(expected));
        for data in [vec![Value::Nil], vec![], vec![Value::Int(1)]] {
            assert_eq!(push(PushKind::Invalidate, data), Some(Push::Flushed));
        }
    }

    #[test]
    fn what_nobody_has_asked_for_is_ignored() {
        assert_eq!(push(PushKind::Other("news".to_owned()), vec![Value::Int(1)]), None);
        assert_eq!(push(PushKind::Message, vec![Value::Int(1)]), None);
    }
}
