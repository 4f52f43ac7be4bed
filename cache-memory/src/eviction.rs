use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use smol_str::SmolStr;

/// Why a store dropped an entry that nobody had removed or replaced.
///
/// ```
/// # #[cfg(feature = "quick-cache")] {
/// use cache_core::{CacheStore, SetOptions};
/// use cache_memory::{EvictionCause, MemoryStore};
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let pushed_out = Arc::new(AtomicU64::new(0));
/// let counter = Arc::clone(&pushed_out);
/// let store = MemoryStore::builder()
///     .capacity(32)
///     .on_evict(move |_key, _value, cause| {
///         if cause == EvictionCause::Capacity {
///             counter.fetch_add(1, Ordering::Relaxed);
///         }
///     })
///     .build()?;
/// for i in 0..100 {
///     store.set(&i.to_string(), Some(i), SetOptions::forever()).await?;
/// }
/// assert_eq!(pushed_out.load(Ordering::Relaxed), 68);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionCause {
    /// There was no room for it, or it was too heavy to be taken in at all.
    Capacity,
    /// It had expired, and was met by a read or a purge.
    Expired,
    /// It was not read for as long as `idle` says.
    Idle,
}

/// What a user wants to be told about evictions.
pub(crate) type OnEvict<V> = dyn Fn(&str, Option<&V>, EvictionCause) + Send + Sync;

/// Evictions on their way to the user's callback.
///
/// Engines report from inside their locks, so reports are queued there and delivered when the
/// operation has let go of everything.
pub struct Evictions<V> {
    queue: Mutex<Vec<Eviction<V>>>,
    /// Whether the queue has something, so that asking costs a load.
    pending: AtomicBool,
    callback: Box<OnEvict<V>>,
}

struct Eviction<V> {
    key: SmolStr,
    value: Option<V>,
    cause: EvictionCause,
}

impl<V> Evictions<V> {
    pub(crate) fn new(callback: Box<OnEvict<V>>) -> Self {
        Self { queue: Mutex::default(), pending: AtomicBool::new(false), callback }
    }

    pub(crate) fn push(&self, key: SmolStr, value: Option<V>, cause: EvictionCause) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(Eviction { key, value, cause });
        self.pending.store(true, Ordering::Release);
    }

    /// Tells the callback what has been queued so far. To be called with no lock held.
    ///
    /// What the callback's own use of the store evicts waits for the next operation: it is told
    /// neither from inside the callback, which might never end, nor in a loop after it.
    #[inline]
    pub(crate) fn deliver(&self) {
        if self.pending.load(Ordering::Acquire) {
            self.deliver_pending();
        }
    }

    #[cold]
    fn deliver_pending(&self) {
        let Some(_delivering) = Delivering::enter(std::ptr::from_ref(self).addr()) else {
            return;
        };
        let evictions = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            self.pending.store(false, Ordering::Release);
            std::mem::take(&mut *queue)
        };
        for Eviction { key, value, cause } in evictions {
            // The panic has been reported by the panic hook. The operation that happened to evict
            // has succeeded and has nothing to do with it.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                (self.callback)(&key, value.as_ref(), cause);
            }));
        }
    }
}

/// Marks that this thread is inside the callback of a store.
struct Delivering(usize);

thread_local! {
    /// By store: the callback of one may well use another.
    static DELIVERING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Delivering {
    fn enter(store: usize) -> Option<Self> {
        DELIVERING.with_borrow_mut(|stores| {
            (!stores.contains(&store)).then(|| {
                stores.push(store);
                Self(store)
            })
        })
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        DELIVERING.with_borrow_mut(|stores| stores.retain(|store| *store != self.0));
    }
}
