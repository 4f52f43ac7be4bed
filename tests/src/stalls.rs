use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long this process had to wait for its turn: what it is to do within some time, it may do that much later.
#[derive(Clone, Debug)]
pub struct Stalls(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    longest: Duration,
    last: Instant,
}

impl Stalls {
    /// Begins to look, until the last handle is dropped.
    #[must_use]
    pub fn watch() -> Self {
        let seen = Seen { longest: Duration::ZERO, last: Instant::now() };
        let stalls = Self(Arc::new(Mutex::new(seen)));
        let watched = Arc::downgrade(&stalls.0);
        std::thread::spawn(move || {
            while let Some(seen) = watched.upgrade() {
                drop(Self(seen).look());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        stalls
    }

    /// The longest time until now.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.look().longest
    }

    fn look(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.longest = seen.longest.max(seen.last.elapsed());
        seen.last = Instant::now();
        seen
    }
}
