use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Backlog, Bounds, DeadLetter, Journal, Seq, Taken};
use crate::{CacheKey, Error, ErrorKind, Result};

/// How many dead letters are kept, by default.
const DEAD_LETTERS: usize = 10_000;

/// A journal in memory, for tests, and for writes that may be lost: whatever is not in the source when the process
/// ends is gone.
///
/// ```
/// use cache_core::{Bounds, Journal, MemoryJournal};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let journal = MemoryJournal::new(Bounds { writes: 2, ..Bounds::default() });
/// journal.append(1_u64, Some("a")).await?;
/// journal.append(2, Some("b")).await?;
/// assert!(journal.append(3, Some("c")).await.is_err()); // it is full
/// journal.append(2, None).await?; // instead of the one before
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub struct MemoryJournal<K, V> {
    backlog: Backlog<K, V>,
    seqs: AtomicU64,
    dead: Mutex<VecDeque<DeadLetter<K, V>>>,
    most_dead: usize,
    weigh: Weigh<K, V>,
}

type Weigh<K, V> = Option<Box<dyn Fn(&K, Option<&V>) -> usize + Send + Sync>>;

impl<K: CacheKey + Clone, V: Clone> MemoryJournal<K, V> {
    /// An empty journal.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            backlog: Backlog::new(bounds),
            seqs: AtomicU64::new(0),
            dead: Mutex::default(),
            most_dead: DEAD_LETTERS,
            weigh: None,
        }
    }

    /// Counts the bytes of writes, of which it otherwise knows none.
    #[must_use]
    pub fn weigh(
        mut self,
        weigh: impl Fn(&K, Option<&V>) -> usize + Send + Sync + 'static,
    ) -> Self {
        self.weigh = Some(Box::new(weigh));
        self
    }

    /// Keeps so many dead letters, instead of 10,000. When there are more, further ones stay in the journal and are
    /// tried again.
    #[must_use]
    pub fn most_dead_letters(mut self, most: usize) -> Self {
        self.most_dead = most;
        self
    }

    fn dead(&self) -> MutexGuard<'_, VecDeque<DeadLetter<K, V>>> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Journal for MemoryJournal<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    type Key = K;
    type Value = V;

    fn backlog(&self) -> &Backlog<K, V> {
        &self.backlog
    }

    async fn append(&self, key: K, value: Option<V>) -> Result<Seq> {
        let bytes = self.weigh.as_ref().map_or(0, |weigh| weigh(&key, value.as_ref()));
        let next = || Seq::new(self.seqs.fetch_add(1, Ordering::Relaxed) + 1);
        self.backlog.push_next(key, value, bytes, next)
    }

    async fn done(&self, _: &[Taken<K, V>]) -> Result<()> {
        Ok(())
    }

    async fn park(&self, taken: &Taken<K, V>, cause: &Error) -> Result<()> {
        let mut dead = self.dead();
        if dead.len() >= self.most_dead {
            return Err(Error::with_cause(ErrorKind::Full, "dead letters"));
        }
        dead.push_back(DeadLetter::new(taken.write.clone(), taken.tries(), cause.to_string()));
        Ok(())
    }

    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter<K, V>>> {
        Ok(self.dead().iter().take(most).cloned().collect())
    }

    async fn discard(&self, key: &str, seq: Seq) -> Result<bool> {
        let mut dead = self.dead();
        let at = dead.iter().position(|letter| letter.seq == seq && letter.key == key);
        Ok(at.is_some_and(|at| dead.remove(at).is_some()))
    }

    fn dead(&self) -> usize {
        Self::dead(self).len()
    }

    fn is_durable(&self) -> bool {
        false
    }
}

impl<K, V> fmt::Debug for MemoryJournal<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryJournal").field("backlog", &self.backlog).finish_non_exhaustive()
    }
}
