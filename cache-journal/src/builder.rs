use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::thread;

use cache_core::{Backlog, Bounds, CacheKey, Codec, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::DiskJournal;
use crate::worker::{Shared, Worker};

/// So many writes may be on their way to the thread; further ones wait for that.
const QUEUE: usize = 4096;

/// The options of a [`DiskJournal`]; [`DiskJournal::builder`] begins one.
///
/// ```
/// use cache_core::{Bounds, Journal};
/// use cache_journal::DiskJournal;
/// use cache_serde::Json;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("orders.journal");
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let journal: DiskJournal<u64, String> = DiskJournal::builder(Json::new())
///     .bounds(Bounds { writes: 1_000_000, bytes: 1 << 30 })
///     .most_dead_letters(100)
///     .open(&path)
///     .await?;
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[must_use = "a builder does nothing until `open` is called"]
pub struct DiskBuilder<K, V> {
    keys: Box<dyn Codec<K>>,
    values: Box<dyn Codec<V>>,
    bounds: Bounds,
    most_dead: usize,
}

impl<K, V> DiskBuilder<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(codec: impl Codec<K> + Codec<V>) -> Self {
        let codec = Arc::new(codec);
        Self {
            keys: Box::new(Arc::clone(&codec)),
            values: Box::new(codec),
            bounds: Bounds::default(),
            most_dead: 10_000,
        }
    }

    /// How many writes wait in the journal at most, and how many bytes of them (keys and encoded values); 100,000 of
    /// whatever size by default. The file takes a few times as much.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// How many dead letters are kept, 10,000 by default. When there are more, further ones stay in the journal and
    /// are tried again.
    pub fn most_dead_letters(mut self, most: usize) -> Self {
        self.most_dead = most;
        self
    }

    /// Opens the journal in this file, or begins one. All of the file is checked, and what it has is in the backlog
    /// when this returns.
    ///
    /// It takes a thread of its own, which does all input and output.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Journal`], with the path and the reason: the file is in use by another journal, is damaged, is of a
    /// newer version, is no journal at all, or can't be read or made. [`ErrorKind::Codec`] if it has a write that
    /// can't be decoded. The file is as it was then.
    ///
    /// # Cancellation
    ///
    /// The file is closed.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<DiskJournal<K, V>> {
        let path = path.as_ref().to_owned();
        let shared = Arc::new(Shared {
            backlog: Backlog::new(self.bounds),
            keys: self.keys,
            values: self.values,
            bounds: self.bounds,
            most_dead: self.most_dead,
            dead: AtomicUsize::new(0),
            commits: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
        });
        let (opened, is_open) = oneshot::channel();
        let (sender, messages) = mpsc::channel();
        let thread = {
            let (path, shared) = (path.clone(), Arc::clone(&shared));
            move || match Worker::open(&path, shared) {
                Ok(worker) => {
                    if opened.send(Ok(())).is_ok() {
                        worker.serve(&messages);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            }
        };
        let failed =
            |why: &dyn fmt::Display| Error::with_cause(ErrorKind::Journal, why.to_string());
        let spawned = thread::Builder::new().name("cache-journal".to_owned()).spawn(thread);
        spawned.map_err(|error| failed(&error))?;
        is_open.await.map_err(|_| failed(&"a codec panicked"))??;
        Ok(DiskJournal::new(shared, sender, QUEUE, path))
    }
}

impl<K, V> fmt::Debug for DiskBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskBuilder")
            .field("bounds", &self.bounds)
            .field("most_dead_letters", &self.most_dead)
            .finish_non_exhaustive()
    }
}
