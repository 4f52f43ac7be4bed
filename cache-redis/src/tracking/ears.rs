//! The connections on which a server tells what has changed.

use std::sync::{Arc, Weak};

use cache_core::{Error, ErrorKind, Result};
use futures_util::future::{join_all, try_join_all};
use redis::{Cmd, Value};
use tokio::time::timeout;

use super::watch::{End, Watch};
use crate::error::failure;
use crate::link::{Link, Live};
use crate::listener::{Listener, Pushes};

/// Where news comes from, for as long as none of it changes.
pub(super) enum Ears {
    /// A connection to each server, for nothing but news of all keys with a prefix, and those by which the store read then.
    Apart(Vec<(Arc<Link>, Listener)>, Vec<Weak<Live>>),
    /// Those by which the store reads, for news of what was read.
    Reading(Vec<Arc<Live>>),
}

/// Whether news comes from where the store reads.
pub(super) enum Reach {
    All,
    /// Nobody knows: a connection is down, and the next one may be to another server.
    Unknown(Error),
    /// It has other connections by now.
    Others,
}

impl Ears {
    /// Listens, and says where the news comes in. From then on every change is heard of.
    pub(super) async fn open(watch: &Watch) -> Result<(Self, Pushes), End> {
        let store = &watch.store.0;
        if watch.by_key {
            let Some(news) = &store.news else {
                return Err(End::Other(Error::new(ErrorKind::InvalidOption)));
            };
            // Before the connections are looked at: what ends after that is heard of.
            let pushes = news.subscribe();
            let reading = store.lives()?;
            match reading.iter().find_map(|live| live.untracked.as_ref()) {
                Some(error) => Err(End::Refused(error.clone())),
                None => Ok((Self::Reading(reading), pushes)),
            }
        } else {
            let pushes = Pushes::new();
            let listening = store.servers()?.into_iter().map(|link| async {
                let listener = pushes.listen(&link).await?;
                Ok::<_, Error>((link, listener))
            });
            let listeners = try_join_all(listening).await?;
            for (_, listener) in &listeners {
                watch.arm(listener).await?;
            }
            let (lives, _) = store.lives_if_any();
            let reading = lives.iter().map(Arc::downgrade).collect();
            Ok((Self::Apart(listeners, reading), pushes))
        }
    }

    /// Whether these are still all of the store's. One that was made since is heard of, too, but what an older one was told
    /// to remember is forgotten. And where somebody listens apart, it may be to another server, by a name that has moved.
    pub(super) fn reach(&self, watch: &Watch) -> Result<Reach> {
        let store = &watch.store.0;
        let (same, down) = match self {
            Self::Apart(listeners, reading) => {
                let (lives, down) = store.lives_if_any();
                let known = |live| reading.iter().any(|one| one.as_ptr() == Arc::as_ptr(live));
                let listening = listeners.iter().map(|(link, _)| link);
                (same(listening, &store.servers()?) && lives.iter().all(known), down)
            }
            Self::Reading(reading) => (same(reading.iter(), &store.lives()?), None),
        };
        Ok(match down {
            _ if !same => Reach::Others,
            None => Reach::All,
            Some(error) => Reach::Unknown(error),
        })
    }

    /// Asks on each of them. What a server has said before its answer has come in before that.
    pub(super) async fn ask(&self, question: &Cmd, watch: &Watch) -> Vec<Result<Value>> {
        match self {
            Self::Apart(listeners, _) => {
                let asked = listeners.iter().map(|(_, one)| one.ask(question, watch.trust));
                join_all(asked).await
            }
            Self::Reading(reading) => {
                let asked = reading.iter().map(|live| async {
                    let late = |late| Err(Error::with_cause(ErrorKind::Unavailable, late));
                    timeout(watch.trust, live.ask(question)).await.unwrap_or_else(late)
                });
                join_all(asked).await
            }
        }
    }
}

fn same<'a, T: 'a>(ours: impl ExactSizeIterator<Item = &'a Arc<T>>, theirs: &[Arc<T>]) -> bool {
    ours.len() == theirs.len() && ours.into_iter().all(|one| is_among(one, theirs))
}

fn is_among<T>(one: &Arc<T>, others: &[Arc<T>]) -> bool {
    others.iter().any(|other| Arc::ptr_eq(one, other))
}

/// What the server has answered, an error of its own as one.
pub(super) fn accepted(answer: Value) -> Result<Value> {
    match answer {
        Value::ServerError(error) => Err(failure(&error.into()).error),
        answer => Ok(answer),
    }
}
