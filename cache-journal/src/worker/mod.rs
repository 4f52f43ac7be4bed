//! The one thread that owns the file. Whatever has come in while it was busy goes into the next commit together.

mod state;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use cache_core::{Backlog, Bounds, CacheKey, Codec, Error, ErrorKind, Result, Seq, Write};
use smol_str::SmolStr;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::disk::closed;
use crate::log::row::{self, Letter};
use crate::log::{Contents, Log};
use state::State;

/// So many messages go together at most, and so many bytes, if one has not more.
const TOGETHER: usize = 1024;
const TOGETHER_BYTES: usize = 16 << 20;

/// The longest that a commit waits for those who took part in the one before.
const PATIENCE: Duration = Duration::from_millis(2);

/// What is asked of the thread.
pub(crate) enum Message<K, V> {
    Append(Append<K, V>),
    Done(Vec<(SmolStr, u64)>, oneshot::Sender<Result<()>>),
    Park(Park, oneshot::Sender<Result<()>>),
    Discard(SmolStr, u64, oneshot::Sender<Result<bool>>),
    DeadLetters(usize, oneshot::Sender<Result<Letters>>),
    Seal,
    Close(oneshot::Sender<()>),
}

/// Numbers and letters.
type Letters = Vec<(u64, Vec<u8>)>;

pub(crate) struct Append<K, V> {
    pub(crate) spelled: SmolStr,
    pub(crate) key: K,
    pub(crate) value: Option<V>,
    pub(crate) body: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Result<Seq>>,
    /// The place in the queue, which is free once this is looked at.
    pub(crate) _place: OwnedSemaphorePermit,
}

pub(crate) struct Park {
    pub(crate) spelled: SmolStr,
    pub(crate) seq: u64,
    pub(crate) body: Vec<u8>,
    pub(crate) tries: u32,
    pub(crate) cause: String,
}

/// What the thread and the handle share.
pub(crate) struct Shared<K, V> {
    pub(crate) backlog: Backlog<K, V>,
    pub(crate) keys: Box<dyn Codec<K>>,
    pub(crate) values: Box<dyn Codec<V>>,
    pub(crate) bounds: Bounds,
    pub(crate) most_dead: usize,
    pub(crate) dead: AtomicUsize,
    pub(crate) commits: AtomicU64,
    /// No write is admitted any more.
    pub(crate) sealed: AtomicBool,
}

pub(crate) struct Worker<K, V> {
    log: Log,
    state: State,
    shared: Arc<Shared<K, V>>,
    /// How many took part in the last commit, and how long it took.
    last: (usize, Duration),
}

/// What is told to whom once the commit is over.
enum Told<K, V> {
    Appended(Write<K, V>, usize, oneshot::Sender<Result<Seq>>),
    Unit(oneshot::Sender<Result<()>>),
    Flag(bool, oneshot::Sender<Result<bool>>),
}

impl<K: CacheKey + Clone + 'static, V: Clone + 'static> Worker<K, V> {
    /// Opens the file, and pushes what is in it.
    pub(crate) fn open(path: &Path, shared: Arc<Shared<K, V>>) -> Result<Self> {
        let (log, (state, writes)) = Log::open(path, |contents| {
            let mut writes = Vec::with_capacity(contents.pending.len());
            for (spelled, seq, body) in &contents.pending {
                let (key, value) = shared.decoded(spelled, body)?;
                let write = Write::new(key, value).numbered(Seq::new(*seq));
                writes.push((write, weight(spelled, body)));
            }
            Ok((State::of(contents), writes))
        })?;
        for (write, bytes) in writes {
            shared.backlog.push(write, bytes);
        }
        shared.dead.store(state.dead(), Ordering::Relaxed);
        Ok(Self { log, state, shared, last: (1, Duration::ZERO) })
    }

    /// Serves until it is closed, or the last handle has gone.
    pub(crate) fn serve(mut self, messages: &Receiver<Message<K, V>>) {
        while let Ok(first) = messages.recv() {
            let (batch, closes) = self.gather(first, messages);
            self.commit(batch);
            if let Some(reply) = closes {
                // Closed properly, it need not be repaired when it is opened.
                drop(self);
                let _ = reply.send(());
                return;
            }
        }
    }

    /// The message, all that wait behind it, and, for a moment, those who took part in the last commit: they have
    /// only just been told, and would otherwise miss every other one.
    fn gather(
        &self,
        first: Message<K, V>,
        messages: &Receiver<Message<K, V>>,
    ) -> (Vec<Message<K, V>>, Option<oneshot::Sender<()>>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let until = Instant::now() + (self.last.1 / 4).min(PATIENCE);
        let mut next = Some(first);
        while let Some(message) = next {
            if let Message::Close(reply) = message {
                return (batch, Some(reply));
            }
            bytes += message.weight();
            batch.push(message);
            if batch.len() >= TOGETHER || bytes >= TOGETHER_BYTES {
                break;
            }
            next = match messages.try_recv() {
                Ok(message) => Some(message),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) if batch.len() >= self.last.0 => None,
                Err(TryRecvError::Empty) => {
                    let left = until.saturating_duration_since(Instant::now());
                    messages.recv_timeout(left).ok()
                }
            };
        }
        (batch, None)
    }

    /// Does all of it in one commit, and then tells everybody.
    fn commit(&mut self, batch: Vec<Message<K, V>>) {
        let began = Instant::now();
        let mut told = Vec::with_capacity(batch.len());
        let mut letters = Vec::new();
        let (took_part, mut seals) = (batch.len(), false);
        for message in batch {
            match message {
                Message::Append(append) => told.extend(self.append(append)),
                Message::Done(writes, reply) => {
                    writes.iter().for_each(|(key, seq)| self.state.done(key, *seq));
                    told.push(Told::Unit(reply));
                }
                Message::Park(park, reply) => {
                    if self.state.dead() >= self.shared.most_dead {
                        let full = Error::with_cause(ErrorKind::Full, "dead letters");
                        let _ = reply.send(Err(full));
                    } else {
                        let Park { spelled, seq, body, tries, cause } = &park;
                        let letter = Letter { tries: *tries, key: spelled, cause, body };
                        self.state.park(spelled, *seq, row::letter(letter));
                        told.push(Told::Unit(reply));
                    }
                }
                Message::Discard(key, seq, reply) => {
                    told.push(Told::Flag(self.state.discard(&key, seq), reply));
                }
                Message::DeadLetters(most, reply) => letters.push((most, reply)),
                Message::Seal => seals = true,
                Message::Close(_) => {} // `gather` has it.
            }
        }
        let committed = self.write(!letters.is_empty());
        self.shared.dead.store(self.state.dead(), Ordering::Relaxed);
        self.last = (took_part, began.elapsed());
        for told in told {
            self.tell(told, &committed);
        }
        if seals {
            self.shared.backlog.close();
        }
        for (most, reply) in letters {
            let _ = reply.send(committed.clone().and_then(|()| self.log.letters(most)));
        }
    }

    fn append(&mut self, append: Append<K, V>) -> Option<Told<K, V>> {
        let Append { spelled, key, value, body, reply, _place } = append;
        let bytes = weight(&spelled, &body);
        if let Err(refused) = self.admit(&spelled, &key, bytes) {
            let _ = reply.send(Err(refused));
            return None;
        }
        let seq = self.state.append(spelled, bytes, &body);
        Some(Told::Appended(Write::new(key, value).numbered(Seq::new(seq)), bytes, reply))
    }

    fn admit(&self, spelled: &str, key: &K, bytes: usize) -> Result<()> {
        let Shared { backlog, bounds, sealed, .. } = &*self.shared;
        if sealed.load(Ordering::Acquire) {
            return Err(closed());
        }
        self.state.admit(spelled, bytes, bounds.writes, bounds.bytes)?;
        backlog.admit(key, bytes)
    }

    fn write(&mut self, reads: bool) -> Result<()> {
        let written = self.try_write(reads);
        match &written {
            Ok(()) => self.state.keep(),
            Err(_) => self.state.undo(),
        }
        written
    }

    fn try_write(&mut self, reads: bool) -> Result<()> {
        if self.log.is_broken() && (reads || self.state.changes().is_some()) {
            let Self { log, state, shared, .. } = self;
            // If it can't be restored, it stays broken: what is lost would not be missed any more.
            log.reopen(|contents| restore(state, shared, contents))?;
        }
        if let Some(changes) = self.state.changes() {
            self.log.commit(changes)?;
            self.shared.commits.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A write is in the log now: it goes into the backlog, and is acknowledged.
    fn tell(&self, told: Told<K, V>, committed: &Result<()>) {
        // Who has gone away does not want to know.
        match told {
            Told::Appended(write, bytes, reply) => {
                let seq = write.seq;
                if committed.is_ok() {
                    self.shared.backlog.push(write, bytes);
                }
                let _ = reply.send(committed.clone().map(|()| seq));
            }
            Told::Unit(reply) => {
                let _ = reply.send(committed.clone());
            }
            Told::Flag(flag, reply) => {
                let _ = reply.send(committed.clone().map(|()| flag));
            }
        }
    }
}

/// Sees to it that a file that is opened anew gets back to what was acknowledged: what failed may be in it.
fn restore<K: CacheKey + Clone + 'static, V: Clone + 'static>(
    state: &mut State,
    shared: &Shared<K, V>,
    contents: &Contents,
) -> Result<()> {
    state.restore(contents, |spelled, seq, other| {
        let (key, _) = row::parts(other)?;
        let (last, value) = shared.backlog.pending(spelled)?;
        let value = value.as_ref().map(|value| shared.values.encode(value));
        let value = value.transpose().ok()?;
        (last.get() == seq).then(|| row::body(key, value.as_deref()))
    })
}

impl<K, V> Message<K, V> {
    fn weight(&self) -> usize {
        match self {
            Self::Append(append) => append.body.len(),
            Self::Park(park, _) => park.body.len(),
            _ => 0,
        }
    }
}

impl<K: 'static, V: 'static> Shared<K, V> {
    pub(crate) fn encoded(&self, key: &K, value: Option<&V>) -> Result<Vec<u8>> {
        let key = self.keys.encode(key)?;
        let value = value.map(|value| self.values.encode(value)).transpose()?;
        if u32::try_from(key.len()).is_err() || value.as_ref().is_some_and(|v| v.len() > LARGEST) {
            return Err(Error::with_cause(ErrorKind::TooLarge, "the journal takes up to 1 GiB"));
        }
        Ok(row::body(&key, value.as_deref()))
    }

    pub(crate) fn decoded(&self, spelled: &str, body: &[u8]) -> Result<(K, Option<V>)> {
        let unreadable = |why: &dyn std::fmt::Display| {
            let why = format!(
                "the write of the key {spelled:?} can't be read, and was perhaps written with another codec or \
                 another version of the type: {why}"
            );
            Error::with_cause(ErrorKind::Codec, why)
        };
        let parts = row::parts(body).ok_or_else(|| unreadable(&"it is malformed"))?;
        let key = self.keys.decode(&bytes::Bytes::copy_from_slice(parts.0));
        let value = parts.1.map(|value| self.values.decode(&bytes::Bytes::copy_from_slice(value)));
        let value = value.transpose().map_err(|error| unreadable(&error))?;
        Ok((key.map_err(|error| unreadable(&error))?, value))
    }
}

const LARGEST: usize = 1 << 30;

/// How many bytes a write counts.
pub(crate) fn weight(spelled: &str, body: &[u8]) -> usize {
    spelled.len() + body.len()
}
