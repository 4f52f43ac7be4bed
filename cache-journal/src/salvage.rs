use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use cache_core::{Backlog, Bounds, CacheKey, Codec, DeadLetter, Result, Seq, Write};

use crate::log::{self, row};
use crate::worker::Shared;

/// What could still be read of a journal. [`salvage`] makes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Salvaged<K, V> {
    /// The writes that are not in the source, in the order of their numbers.
    pub writes: Vec<Write<K, V>>,
    /// The writes that had been given up.
    pub dead_letters: Vec<DeadLetter<K, V>>,
    /// How many of both could not be decoded.
    pub unreadable: usize,
    /// Why not everything could be read, if so. There may be more writes than these then.
    pub incomplete: Option<String>,
}

/// Reads what can still be read of a journal that can't be opened: because it is damaged, or has a write that its
/// codec does not know. The file is not changed, and must not be in use, for which it is locked as a journal locks it: by
/// a file beside it.
///
/// This blocks its thread, so call it where that does not matter: in a program of its own, say.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("orders.journal");
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use cache_core::Journal;
/// # let journal = cache_journal::DiskJournal::open(&path, cache_serde::Json::new()).await?;
/// # journal.append(7_u64, Some("seven".to_owned())).await?;
/// # journal.close(std::time::Duration::from_secs(60)).await?;
/// let salvaged = cache_journal::salvage::<u64, String>(&path, cache_serde::Json::new())?;
/// for write in salvaged.writes {
///     println!("{} is to be {:?}", write.key, write.value);
/// }
/// # assert!(salvaged.incomplete.is_none());
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// [`ErrorKind::Journal`](cache_core::ErrorKind::Journal) if nothing can be read at all, or the file is in use.
pub fn salvage<K, V>(
    path: impl AsRef<Path>,
    codec: impl Codec<K> + Codec<V>,
) -> Result<Salvaged<K, V>>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let (contents, incomplete) = log::rescue(path.as_ref())?;
    let codec = Arc::new(codec);
    let shared = Shared {
        backlog: Backlog::<K, V>::new(Bounds::default()),
        keys: Box::new(Arc::clone(&codec)),
        values: Box::new(codec),
        bounds: Bounds::default(),
        most_dead: 0,
        dead: AtomicUsize::new(0),
        commits: AtomicU64::new(0),
        sealed: AtomicBool::new(false),
    };
    let mut salvaged =
        Salvaged { writes: Vec::new(), dead_letters: Vec::new(), unreadable: 0, incomplete };
    for (spelled, seq, body) in &contents.pending {
        match shared.decoded(spelled, body) {
            Ok((key, value)) => {
                salvaged.writes.push(Write::new(key, value).numbered(Seq::new(*seq)));
            }
            Err(_) => salvaged.unreadable += 1,
        }
    }
    for (seq, letter) in &contents.dead {
        let letter = row::read_letter(letter);
        let letter = letter.and_then(|l| Some((shared.decoded(l.key, l.body).ok()?, l)));
        match letter {
            Some(((key, value), letter)) => {
                let write = Write::new(key, value).numbered(Seq::new(*seq));
                salvaged.dead_letters.push(DeadLetter::new(write, letter.tries, letter.cause));
            }
            None => salvaged.unreadable += 1,
        }
    }
    Ok(salvaged)
}
