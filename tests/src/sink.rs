use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_core::{BatchLoader, BatchWriter, Failure, Loader, Write, Writer};
use tokio::sync::watch;
use tokio::time::Instant;

/// A source of truth that can be written, under a test's control. A batch is written completely or not at all.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    held: watch::Sender<bool>,
    writing: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    rows: HashMap<String, u64>,
    applied: Vec<Write<String, u64>>,
    attempts: Vec<Attempt>,
    poison: HashSet<String>,
    fault: Option<SinkFault>,
    in_flight: HashMap<String, usize>,
    most_at_once: usize,
    loads: usize,
}

/// What goes wrong with each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFault {
    /// It is refused.
    Refuse,
    /// It is refused for good.
    RefuseForGood,
    /// It is made, but its answer is lost.
    LoseAnswer,
    /// It is lost, and nobody can tell.
    LoseRequest,
    /// The writer panics.
    Panic,
}

/// A batch that was to be written.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it began.
    pub at: Instant,
    /// Its keys.
    pub keys: Vec<String>,
}

/// The sink's own error.
#[derive(Debug, PartialEq, Eq)]
pub struct SinkError(pub SinkFault);

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sink fails by {:?}", self.0)
    }
}

impl Error for SinkError {}

impl Default for Sink {
    fn default() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            held: watch::Sender::new(false),
            writing: watch::Sender::new(0),
        }))
    }
}

impl Sink {
    /// A sink with these rows.
    #[must_use]
    pub fn with(rows: &[(&str, u64)]) -> Self {
        let sink = Self::default();
        sink.state().rows = rows.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        sink
    }

    /// From now on, writes go wrong like this, or not.
    pub fn fail(&self, fault: Option<SinkFault>) {
        self.state().fault = fault;
    }

    /// Refuses every batch that has this key.
    pub fn poison(&self, key: &str) {
        self.state().poison.insert(key.to_owned());
    }

    /// Takes all keys again.
    pub fn cure(&self) {
        self.state().poison.clear();
    }

    /// From now on, writes wait before they are made.
    pub fn hold(&self) {
        self.0.held.send_replace(true);
    }

    /// Lets the waiting writes go on, and those to come.
    pub fn release(&self) {
        self.0.held.send_replace(false);
    }

    /// Waits until so many batches are being written.
    pub async fn writing(&self, batches: usize) {
        let _ = self.0.writing.subscribe().wait_for(|writing| *writing == batches).await;
    }

    /// What is under a key.
    #[must_use]
    pub fn row(&self, key: &str) -> Option<u64> {
        self.state().rows.get(key).copied()
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.state().rows.len()
    }

    /// Changes a row, past all caches.
    pub fn set(&self, key: &str, value: u64) {
        self.state().rows.insert(key.to_owned(), value);
    }

    /// All writes that were made, in their order.
    #[must_use]
    pub fn applied(&self) -> Vec<Write<String, u64>> {
        self.state().applied.clone()
    }

    /// All batches that were to be written.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        self.state().attempts.clone()
    }

    /// How many keys have been asked for.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.state().loads
    }

    /// How many writes of one key were under way at the same time, at most.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn began(&self, writes: &[Write<String, u64>]) -> impl Drop + use<> {
        struct Writing(Sink, Vec<String>);
        impl Drop for Writing {
            fn drop(&mut self) {
                let mut state = self.0.state();
                for key in &self.1 {
                    if let Some(writing) = state.in_flight.get_mut(key) {
                        *writing -= 1;
                    }
                }
                drop(state);
                self.0.0.writing.send_modify(|writing| *writing -= 1);
            }
        }
        let keys: Vec<String> = writes.iter().map(|write| write.key.clone()).collect();
        let mut state = self.state();
        for key in &keys {
            let writing = state.in_flight.entry(key.clone()).or_default();
            *writing += 1;
            let most = (*writing).max(state.most_at_once);
            state.most_at_once = most;
        }
        state.attempts.push(Attempt { at: Instant::now(), keys: keys.clone() });
        drop(state);
        self.0.writing.send_modify(|writing| *writing += 1);
        Writing(self.clone(), keys)
    }
}

impl Writer<String, u64> for Sink {
    type Error = SinkError;

    async fn write(&self, write: Write<String, u64>) -> Result<(), SinkError> {
        self.write_many(vec![write]).await
    }

    fn failure(&self, error: &SinkError) -> Failure {
        match error.0 {
            SinkFault::Refuse | SinkFault::Panic => Failure::NotWritten,
            SinkFault::RefuseForGood => Failure::Permanent,
            SinkFault::LoseAnswer | SinkFault::LoseRequest => Failure::Unknown,
        }
    }
}

impl BatchWriter<String, u64> for Sink {
    async fn write_many(&self, writes: Vec<Write<String, u64>>) -> Result<(), SinkError> {
        let _writing = self.began(&writes);
        let _ = self.0.held.subscribe().wait_for(|held| !held).await;
        let mut state = self.state();
        let fault = state.fault;
        assert_ne!(fault, Some(SinkFault::Panic), "the sink has lost its mind");
        if let Some(fault) = fault.filter(|fault| *fault != SinkFault::LoseAnswer) {
            return Err(SinkError(fault));
        }
        if writes.iter().any(|write| state.poison.contains(&write.key)) {
            return Err(SinkError(SinkFault::Refuse));
        }
        for write in writes {
            match write.value {
                Some(value) => state.rows.insert(write.key.clone(), value),
                None => state.rows.remove(&write.key),
            };
            state.applied.push(write);
        }
        fault.map_or(Ok(()), |fault| Err(SinkError(fault)))
    }
}

impl Loader<String> for Sink {
    type Value = u64;
    type Error = SinkError;

    async fn load(&self, key: String) -> Result<Option<u64>, SinkError> {
        let mut state = self.state();
        state.loads += 1;
        Ok(state.rows.get(&key).copied())
    }
}

impl BatchLoader<String> for Sink {
    async fn load_many(&self, keys: Vec<String>) -> Result<Vec<(String, u64)>, SinkError> {
        let mut state = self.state();
        state.loads += keys.len();
        Ok(keys.into_iter().filter_map(|key| Some((key.clone(), *state.rows.get(&key)?))).collect())
    }
}
