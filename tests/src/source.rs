use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A source of truth under a test's control: it counts what it is asked, and its answers can be held
/// back after they have been read.
#[derive(Debug)]
pub struct Source {
    values: Mutex<HashMap<String, u64>>,
    questions: Mutex<Vec<Vec<String>>>,
    fails: AtomicBool,
    panics: AtomicBool,
    held: watch::Sender<bool>,
    running: watch::Sender<usize>,
    most_running: AtomicUsize,
}

/// The source's own error.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceDown(pub u32);

impl fmt::Display for SourceDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the source is down, code {}", self.0)
    }
}

impl Error for SourceDown {}

impl Default for Source {
    fn default() -> Self {
        Self {
            values: Mutex::default(),
            questions: Mutex::default(),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            held: watch::Sender::new(false),
            running: watch::Sender::new(0),
            most_running: AtomicUsize::new(0),
        }
    }
}

impl Source {
    /// A source with these values.
    #[must_use]
    pub fn with(values: &[(&str, u64)]) -> Arc<Self> {
        let source = Self::default();
        for (key, value) in values {
            source.put(key, *value);
        }
        Arc::new(source)
    }

    /// Changes a value.
    pub fn put(&self, key: &str, value: u64) {
        lock(&self.values).insert(key.to_owned(), value);
    }

    /// Takes a value away.
    pub fn remove(&self, key: &str) {
        lock(&self.values).remove(key);
    }

    /// What it has, without being counted.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<u64> {
        lock(&self.values).get(key).copied()
    }

    /// From now on, loads read their answer and then wait.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets the waiting loads go on, and those to come.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Whether loads fail.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// Whether loads panic.
    pub fn panic(&self, panics: bool) {
        self.panics.store(panics, Ordering::SeqCst);
    }

    /// Waits until so many loads are under way.
    pub async fn running(&self, loads: usize) {
        let _ = self.running.subscribe().wait_for(|running| *running == loads).await;
    }

    /// The most loads that were ever under way together.
    pub fn most_running(&self) -> usize {
        self.most_running.load(Ordering::SeqCst)
    }

    /// How many questions have been asked.
    pub fn loads(&self) -> usize {
        lock(&self.questions).len()
    }

    /// Forgets the questions so far.
    pub fn forget_questions(&self) {
        lock(&self.questions).clear();
    }

    /// The keys of each question.
    pub fn questions(&self) -> Vec<Vec<String>> {
        lock(&self.questions).clone()
    }

    /// Answers for one key.
    ///
    /// # Errors
    ///
    /// [`SourceDown`] while it [fails](Self::fail).
    ///
    /// # Panics
    ///
    /// While it [panics](Self::panic).
    pub async fn load(&self, key: &str) -> Result<Option<u64>, SourceDown> {
        let answer = self.load_many(vec![key.to_owned()]).await?;
        Ok(answer.into_iter().next().map(|(_, value)| value))
    }

    /// Answers for many keys, in an order of its own.
    ///
    /// # Errors
    ///
    /// [`SourceDown`] while it [fails](Self::fail).
    ///
    /// # Panics
    ///
    /// While it [panics](Self::panic).
    pub async fn load_many(&self, keys: Vec<String>) -> Result<Vec<(String, u64)>, SourceDown> {
        let _running = self.began();
        let answer: Vec<_> = {
            let values = lock(&self.values);
            let found = keys.iter().rev().filter_map(|key| Some((key.clone(), *values.get(key)?)));
            found.collect()
        };
        lock(&self.questions).push(keys);
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        assert!(!self.panics.load(Ordering::SeqCst), "the source has lost its mind");
        if self.fails.load(Ordering::SeqCst) { Err(SourceDown(7)) } else { Ok(answer) }
    }

    fn began(&self) -> impl Drop + use<'_> {
        struct Running<'a>(&'a Source);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.running.send_modify(|running| *running -= 1);
            }
        }
        self.running.send_modify(|running| *running += 1);
        self.most_running.fetch_max(*self.running.borrow(), Ordering::SeqCst);
        Running(self)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
