//! The writes that were acknowledged and are not in the source yet.

mod backlog;
mod letter;
mod memory;
mod seq;

use std::future::Future;
use std::time::Duration;

use crate::{CacheKey, Error, Result, Write};

pub(crate) use backlog::Turn;
pub use backlog::{Backlog, Bounds, Depth, Due, Taken};
pub use letter::DeadLetter;
pub use memory::MemoryJournal;
pub use seq::Seq;

/// Keeps the writes that a [`WriteBehind`](crate::WriteBehind) has acknowledged and not yet made.
///
/// A journal is a **log**, which is as durable as it says, and beside it a [`Backlog`], in which what is
/// in the log waits for its turn. The backlog knows which write of a key is the last, which keys are being
/// written right now, and what is due when, so a journal has only these to do:
///
/// | when | the journal |
/// |---|---|
/// | it is opened | pushes what the log still has, in the order of its numbers, into the backlog |
/// | [`append`](Self::append) | asks the backlog for room ([`Backlog::admit`]), numbers the write, makes it durable, and **then, in the order of the numbers**, [pushes](Backlog::push) it into the backlog; then it returns |
/// | [`done`](Self::done) | removes from the log these writes, and older ones of the same keys, but nothing newer |
/// | [`park`](Self::park) | moves a write from the log to the dead letters, in one step |
///
/// The order matters: two writes of one key that are pushed in another order than they are numbered would reach
/// the source in the wrong one. So a journal numbers, logs and pushes in one place: under a lock, or in
/// the one thread that owns the file.
///
/// It does not remove anything from the backlog; its user does, after `done` and `park` have returned.
///
/// # Journals that processes share
///
/// A write that one process appends may be another's to make. Then the write goes into the backlog of the one
/// that makes it, in the order of the log, and [`pending`](Self::pending), [`drained`](Self::drained) and
/// [`depth`](Self::depth) are overridden to ask the log. What the process is no longer to make, because another
/// has taken over, it takes out of the backlog by [`Backlog::forget`]; what it must not begin any more, though nobody has
/// taken over yet, it says by [`is_ours`](Self::is_ours).
pub trait Journal: Send + Sync + 'static {
    /// The keys.
    type Key: CacheKey + Clone + Send + Sync + 'static;
    /// The values. They are cloned for each write: use an `Arc` for what is costly to clone.
    type Value: Clone + Send + Sync + 'static;

    /// Where what this process has to write waits for its turn.
    fn backlog(&self) -> &Backlog<Self::Key, Self::Value>;

    /// Appends a write. Once it has returned, the write is as durable as the journal promises, and numbered higher
    /// than all earlier writes of the key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`](crate::ErrorKind::Full) at once if there is no room, [`ErrorKind::Closed`](crate::ErrorKind::Closed)
    /// after [`close`](Self::close), [`ErrorKind::Codec`](crate::ErrorKind::Codec) for what can't be encoded: then
    /// nothing was appended. [`ErrorKind::Journal`](crate::ErrorKind::Journal) or
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the log fails: the write was not acknowledged, and may
    /// or may not be made.
    ///
    /// # Cancellation
    ///
    /// The write is appended completely (logged, and in the backlog) or not at all.
    fn append(
        &self,
        key: Self::Key,
        value: Option<Self::Value>,
    ) -> impl Future<Output = Result<Seq>> + Send;

    /// Waits until an [`append`](Self::append) may find room again. It may be wrong: the append is tried, and waited
    /// again.
    fn room(&self) -> impl Future<Output = ()> + Send {
        self.backlog().room()
    }

    /// The last write of the key that spells like this, if it is not in the source yet: its number and its value.
    /// That includes writes from before a restart, and those that are being made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) from a log that has to be asked and does not answer.
    fn pending(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<(Seq, Option<Self::Value>)>>> + Send {
        async { Ok(self.backlog().pending(key)) }
    }

    /// Whether this process may still make a write that it has in its backlog. It is asked directly before the write is
    /// made. A journal that processes share says no from the moment on at which its lease may have ended: what is newer may
    /// be in the source then. The write comes back after a moment, unless it is [forgotten](Backlog::forget).
    fn is_ours(&self, write: &Write<Self::Key, Self::Value>) -> bool {
        let _ = write;
        true
    }

    /// Says that these writes are in the source. Need not be durable: a write that is forgotten to be done is made
    /// again after a restart.
    ///
    /// # Errors
    ///
    /// Those of the log. The writes count as done for this process in any case.
    fn done(
        &self,
        writes: &[Taken<Self::Key, Self::Value>],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Moves a write that the source does not take to the dead letters, with its cause.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`](crate::ErrorKind::Full) if there are too many, otherwise those of the log. The
    /// write then stays in the backlog and is tried again.
    fn park(
        &self,
        write: &Taken<Self::Key, Self::Value>,
        cause: &Error,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The dead letters, oldest first, at most so many. Those that can't be decoded are
    /// [among them](DeadLetter::unreadable).
    ///
    /// # Errors
    ///
    /// Those of the log.
    fn dead_letters(
        &self,
        most: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter<Self::Key, Self::Value>>>> + Send;

    /// Drops the dead letter with this key, as it is spelled, and this number; says whether there was one.
    ///
    /// # Errors
    ///
    /// Those of the log.
    fn discard(&self, key: &str, seq: Seq) -> impl Future<Output = Result<bool>> + Send;

    /// Takes no more writes: [`append`](Self::append) fails with [`ErrorKind::Closed`](crate::ErrorKind::Closed) from now on.
    /// What is in the log is still made. Where others' writes still come into the backlog, it must stay open.
    fn seal(&self) {
        self.backlog().close();
    }

    /// Waits until everything that was appended before is in the source, or parked. What is in the backlog is made
    /// due at once.
    ///
    /// # Errors
    ///
    /// Those of a log that has to be asked.
    fn drained(&self) -> impl Future<Output = Result<()>> + Send {
        async {
            self.backlog().drained().await;
            Ok(())
        }
    }

    /// How much is waiting, as far as can be told without waiting.
    fn depth(&self) -> Depth {
        self.backlog().depth()
    }

    /// How many dead letters there are, as far as can be told without waiting.
    fn dead(&self) -> usize;

    /// Whether an acknowledged write survives the end of this process.
    fn is_durable(&self) -> bool;

    /// Takes no more writes, and lets go of what the journal owns (threads, files, connections), waiting for
    /// at most so long. Nothing is lost that is durable. May be called twice.
    fn close(&self, limit: Duration) -> impl Future<Output = Result<()>> + Send {
        let _ = limit;
        async {
            self.backlog().close();
            Ok(())
        }
    }
}
