use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use cache_core::{
    Backlog, CacheKey, Codec, DeadLetter, Error, ErrorKind, Journal, Result, Seq, Taken, Write,
};
use smol_str::SmolStr;
use tokio::sync::{Semaphore, oneshot};

use crate::DiskBuilder;
use crate::log::row;
use crate::worker::{Append, Message, Park, Shared};

/// A journal in a file on this machine. What it has acknowledged survives `kill -9`, and a crash of the machine
/// as far as the disk keeps its word. See the [crate](crate) for what exactly is promised.
///
/// ```
/// use cache_core::Journal;
/// use cache_journal::DiskJournal;
/// use cache_serde::Json;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("orders.journal");
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let journal = DiskJournal::open(&path, Json::new()).await?;
/// let seq = journal.append(7_u64, Some("two of them".to_owned())).await?; // on the disk now
/// # journal.close(std::time::Duration::from_secs(60)).await?;
/// # let path2 = path.clone();
/// drop(journal); // or the process ends, however it ends
/// # let path = path2;
///
/// let journal: DiskJournal<u64, String> = DiskJournal::open(&path, Json::new()).await?;
/// assert_eq!(journal.pending("7").await?, Some((seq, Some("two of them".to_owned()))));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
///
/// A file belongs to one journal at a time: a second one, in this process or another, is refused when it is
/// opened. (A small file beside it, `orders.journal.lock` here, sees to that, and stays.) When the journal is dropped, its thread writes what it was given, and closes the file then;
/// [`close`](Journal::close) waits for that.
pub struct DiskJournal<K, V> {
    shared: Arc<Shared<K, V>>,
    messages: Sender<Message<K, V>>,
    /// How many writes may be on their way to the thread.
    queue: Arc<Semaphore>,
    path: PathBuf,
}

impl<K, V> DiskJournal<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Opens the journal in this file, or begins one, with the default options.
    ///
    /// # Errors
    ///
    /// As [`DiskBuilder::open`].
    pub async fn open(path: impl AsRef<Path>, codec: impl Codec<K> + Codec<V>) -> Result<Self> {
        Self::builder(codec).open(path).await
    }

    /// A journal with more options. The codec spells keys and values in the file.
    pub fn builder(codec: impl Codec<K> + Codec<V>) -> DiskBuilder<K, V> {
        DiskBuilder::new(codec)
    }

    pub(crate) fn new(
        shared: Arc<Shared<K, V>>,
        messages: Sender<Message<K, V>>,
        queue: usize,
        path: PathBuf,
    ) -> Self {
        Self { shared, messages, queue: Arc::new(Semaphore::new(queue)), path }
    }

    /// How many commits there were, each of which was one `fsync`. Fewer than there were writes, if
    /// these came together.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T>>) -> Message<K, V>,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    fn letter(&self, seq: u64, letter: &[u8]) -> DeadLetter<K, V> {
        let seq = Seq::new(seq);
        let Some(letter) = row::read_letter(letter) else {
            let why = Error::with_cause(ErrorKind::Journal, "the dead letter is malformed");
            return DeadLetter::unreadable("", seq, 0, "nobody knows", &why);
        };
        match self.shared.decoded(letter.key, letter.body) {
            Ok((key, value)) => {
                let write = Write::new(key, value).numbered(seq);
                DeadLetter::new(write, letter.tries, letter.cause)
            }
            Err(why) => DeadLetter::unreadable(letter.key, seq, letter.tries, letter.cause, &why),
        }
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed)
}

#[deny(clippy::missing_trait_methods)]
impl<K, V> Journal for DiskJournal<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    type Key = K;
    type Value = V;

    fn backlog(&self) -> &Backlog<K, V> {
        &self.shared.backlog
    }

    async fn append(&self, key: K, value: Option<V>) -> Result<Seq> {
        if self.shared.sealed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let spelled = SmolStr::new(&*key.key());
        let body = self.shared.encoded(&key, value.as_ref())?;
        // Who is refused anyway need not wait for the thread, which asks once more.
        self.shared.backlog.admit(&key, crate::worker::weight(&spelled, &body))?;
        let place = Arc::clone(&self.queue).acquire_owned().await.map_err(|_| closed())?;
        self.ask(|reply| {
            Message::Append(Append { spelled, key, value, body, reply, _place: place })
        })
        .await
    }

    async fn room(&self) {
        self.shared.backlog.room().await;
    }

    async fn pending(&self, key: &str) -> Result<Option<(Seq, Option<V>)>> {
        Ok(self.shared.backlog.pending(key))
    }

    /// Nobody else has the file.
    fn is_ours(&self, _write: &Write<K, V>) -> bool {
        true
    }

    async fn done(&self, writes: &[Taken<K, V>]) -> Result<()> {
        let name =
            |taken: &Taken<K, V>| (SmolStr::new(&*taken.write.key.key()), taken.write.seq.get());
        let writes = writes.iter().map(name).collect();
        self.ask(|reply| Message::Done(writes, reply)).await
    }

    async fn park(&self, taken: &Taken<K, V>, cause: &Error) -> Result<()> {
        let write = &taken.write;
        let park = Park {
            spelled: SmolStr::new(&*write.key.key()),
            seq: write.seq.get(),
            body: self.shared.encoded(&write.key, write.value.as_ref())?,
            tries: taken.tries(),
            cause: cause.to_string(),
        };
        self.ask(|reply| Message::Park(park, reply)).await
    }

    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter<K, V>>> {
        let letters = self.ask(|reply| Message::DeadLetters(most, reply)).await?;
        Ok(letters.iter().map(|(seq, letter)| self.letter(*seq, letter)).collect())
    }

    async fn discard(&self, key: &str, seq: Seq) -> Result<bool> {
        let key = SmolStr::new(key);
        self.ask(|reply| Message::Discard(key, seq.get(), reply)).await
    }

    /// The backlog is closed only behind what the thread is committing: who empties it goes away when it is closed and
    /// empty, and that comes into it yet.
    fn seal(&self) {
        self.shared.sealed.store(true, Ordering::Release);
        if self.messages.send(Message::Seal).is_err() {
            self.shared.backlog.close();
        }
    }

    async fn drained(&self) -> Result<()> {
        // Once this is answered, what the thread was committing is in the backlog, or has failed.
        let _ = self.ask(|reply| Message::Done(Vec::new(), reply)).await;
        self.shared.backlog.drained().await;
        Ok(())
    }

    fn depth(&self) -> cache_core::Depth {
        self.shared.backlog.depth()
    }

    fn dead(&self) -> usize {
        self.shared.dead.load(Ordering::Relaxed)
    }

    fn is_durable(&self) -> bool {
        true
    }

    async fn close(&self, limit: Duration) -> Result<()> {
        self.shared.backlog.close();
        let (reply, answer) = oneshot::channel();
        if self.messages.send(Message::Close(reply)).is_err() {
            return Ok(()); // It is closed.
        }
        match tokio::time::timeout(limit, answer).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let why = format!("{}: not closed within {limit:?}", self.path.display());
                Err(Error::with_cause(ErrorKind::Journal, why))
            }
        }
    }
}

impl<K, V> fmt::Debug for DiskJournal<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskJournal")
            .field("path", &self.path)
            .field("backlog", &self.shared.backlog)
            .field("dead", &self.shared.dead)
            .finish_non_exhaustive()
    }
}
