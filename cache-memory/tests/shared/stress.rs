use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use cache_core::{CacheStore, Claim, ClaimOptions, SetOptions};

use super::{get, now, store};
use crate::Store;

const KEYS: [&str; 4] = ["a:1", "a:2", "b:1", "b:2"];
const ROUNDS: u64 = 4_000;

/// A key's source of truth: it only counts up, so an old value is a smaller one.
#[derive(Default)]
struct Source {
    value: AtomicU64,
    /// What the store must not fall behind: set when an invalidation or a write has returned.
    published: AtomicU64,
}

/// One owner per key changes the source and then invalidates or writes the entry. Loaders read the
/// source under a lease and fill; readers look; somebody clears now and then.
#[test]
fn nothing_older_than_a_finished_removal_or_write_is_ever_seen() {
    let (store, _) = store(1_000);
    check(&store);
}

#[test]
fn the_same_holds_while_entries_are_evicted() {
    let (store, _) = store(2);
    check(&store);
}

fn check(store: &Store<u64>) {
    let sources: [Source; 4] = Default::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let owners: Vec<_> = KEYS
            .iter()
            .zip(&sources)
            .map(|(key, source)| scope.spawn(|| own(store, key, source)))
            .collect();
        for worker in 0..3 {
            let (sources, done) = (&sources, &done);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(worker);
                while !done.load(SeqCst) {
                    let at = rng.usize(..KEYS.len());
                    match rng.u8(..64) {
                        0 => now(store.clear()).unwrap(),
                        1 => store.purge_expired(),
                        2..=40 => load(store, KEYS[at], &sources[at], &mut rng),
                        _ => look(store, KEYS[at], &sources[at]),
                    }
                }
            });
        }
        let ended: Vec<_> = owners.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, SeqCst);
        ended.into_iter().for_each(|owner| owner.unwrap());
    });
}

fn own(store: &Store<u64>, key: &'static str, source: &Source) {
    for value in 1..=ROUNDS {
        source.value.store(value, SeqCst);
        match value % 8 {
            0 => now(store.set(key, Some(value), SetOptions::forever())).unwrap(),
            // The owner of the other key with this prefix is not surprised by a removal.
            1 => now(store.remove_prefix(&key[..2])).unwrap(),
            2 => now(store.remove_many(&[key])).unwrap(),
            _ => now(store.remove(key)).unwrap(),
        }
        source.published.store(value, SeqCst);
        look(store, key, source);
    }
}

fn load(store: &Store<u64>, key: &str, source: &Source, rng: &mut fastrand::Rng) {
    let mut options = ClaimOptions::new(Duration::MAX);
    if let Some(entry) = now(store.get(key)).unwrap().filter(|_| rng.bool()) {
        options = options.refreshing(entry.version());
    }
    let Claim::Granted(lease) = now(store.claim(key, options)).unwrap() else {
        return;
    };
    let value = source.value.load(SeqCst);
    if rng.bool() {
        thread::yield_now();
    }
    if rng.u8(..8) == 0 {
        now(store.release(lease)).unwrap();
    } else {
        let _ = now(store.fill(lease, Some(value), SetOptions::forever())).unwrap();
    }
}

fn look(store: &Store<u64>, key: &str, source: &Source) {
    let least = source.published.load(SeqCst);
    if let Some(value) = get(store, key) {
        assert!(value >= least, "{key}: {value} after {least} had been published");
    }
}
