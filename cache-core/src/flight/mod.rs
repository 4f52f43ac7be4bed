//! One load in progress that callers share.

mod seats;

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::waits::Node;
use crate::{Error, Freshness, Lease, Outcome, Reading, Result};

pub(crate) use seats::{Follow, Followed, Lead, Seat, Takes};

/// What a request, or a load that many requests share, ends with.
#[derive(Clone)]
pub(crate) struct Landing<V> {
    pub(crate) result: Result<Option<V>>,
    /// What it was for the caller that began the flight.
    pub(crate) outcome: Outcome,
    /// What a value is worth.
    pub(crate) freshness: Freshness,
}

impl<V> Landing<V> {
    pub(crate) fn failed(error: Error) -> Self {
        Self { result: Err(error), outcome: Outcome::Failed, freshness: Freshness::Fresh }
    }

    /// The value, with what it is worth.
    pub(crate) fn reading(self) -> Result<Reading<V>> {
        self.result.map(|value| Reading::new(value, self.freshness))
    }

    /// What it is for those who joined later.
    pub(crate) fn shared(self) -> Self {
        let outcome = if self.result.is_ok() { Outcome::Coalesced } else { Outcome::Failed };
        Self { outcome, ..self }
    }
}

/// The loads in progress of one cache, at most one per key that can be joined; one that was revoked
/// may still be under way beside it.
///
/// # A flight's life
///
/// The first caller to [`join`](Self::join) leads, the others follow. The leader
/// [lands](Lead::land) the flight, which gives the result to all. A leader that goes away without
/// landing (cancelled, or its task died) leaves the lead vacant, and a follower, if there is one,
/// takes it over, together with the lease on the key. When the last one has gone the flight leaves
/// no trace.
///
/// # Why nothing invalidated is kept
///
/// `invalidate` *revokes* the flight and then removes the entry. A flight that has been revoked before
/// its [fill began](Lead::begin_fill) does not fill at all; while a fill is going on, `invalidate` waits
/// for it where the store itself does not fence it. So whatever order they come in, the removal is last.
///
/// # Why nothing invalidated is shared
///
/// A flight lands for everybody who joined [before the store was asked](Lead::ask) for the right to
/// load: what they get was read after they came. Who joins later gets the result only once it is
/// [settled](Lead::settle) that nothing has taken the lease away meanwhile, from whatever process,
/// and asks again otherwise; and so does who joins while the store is being asked for its verdict, which may
/// be older than he is. A load that began while the store failed has no verdict. Who has found the store working asks
/// again, since he may have come after a removal by another process; only those who have found it failing share the load.
/// In this process a revoked flight is not joined at all, and `invalidate` revokes once more after the removal, because a
/// flight may have begun in between and found what was about to be removed.
pub(crate) struct Flights<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    hasher: RandomState,
    /// Takes the leases that nobody is left to use.
    orphaned: Box<dyn Fn(Lease) + Send + Sync>,
}

struct Shard<V> {
    /// The flights that can be joined.
    current: HashMap<SmolStr, Arc<Flight<V>>, RandomState>,
    /// Those that are filling, revoked or not: of one key there may be several.
    filling: HashMap<SmolStr, Vec<Arc<Flight<V>>>, RandomState>,
}

pub(crate) struct Flight<V> {
    // Locked after the shard, never before.
    state: Mutex<State<V>>,
    changed: Notify,
    /// The load, in the graph of who waits for whom.
    node: Arc<Node>,
}

struct State<V> {
    stage: Stage<V>,
    followers: usize,
    lease: Option<Lease>,
    /// Since when this leader leads.
    led_since: Instant,
    /// How many have joined, ever, and how many of them before the store was asked.
    joined: u64,
    early: u64,
    /// How many of them before the store was asked whether the lease has held.
    in_time: u64,
    revoked: bool,
    filling: bool,
}

enum Stage<V> {
    Led,
    Vacant,
    // In an `Arc`, because cloning a value is the user's code, which is not to run under the lock.
    Landed(Arc<Landing<V>>, Settled),
}

/// Whether the result is good for those who joined late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The store has not answered yet.
    Open,
    /// The lease held until the result was stored, or there is nothing to fence.
    Good,
    /// The store failed when the load began, so nobody will ever know.
    Blind,
    /// The key has been invalidated during the load, or nobody knows.
    Lost,
}

impl<V> Flights<V> {
    pub(crate) fn new(orphaned: impl Fn(Lease) + Send + Sync + 'static) -> Self {
        const SHARDS: usize = 16;
        let shard =
            |_| Mutex::new(Shard { current: HashMap::default(), filling: HashMap::default() });
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            hasher: RandomState::default(),
            orphaned: Box::new(orphaned),
        }
    }

    /// Leads a new flight, or one whose leader has gone; follows any other.
    pub(crate) fn join(self: &Arc<Self>, key: &SmolStr, takes: Takes) -> Seat<V> {
        let mut shard = self.shard(key);
        let flight = match shard.current.entry(key.clone()) {
            MapEntry::Occupied(slot) => slot.into_mut(),
            MapEntry::Vacant(slot) => slot.insert(Arc::new(Flight::new())),
        };
        if flight.is_lost() {
            *flight = Arc::new(Flight::new());
        }
        flight.join(self, key, takes)
    }

    /// Cuts the flight of `key` off from the store and from newcomers. What is returned is in the middle of a fill.
    pub(crate) fn revoke(&self, key: &str) -> Vec<Arc<Flight<V>>> {
        let mut shard = self.shard(key);
        // A map without entries would hash the key all the same, and most writes find nobody loading.
        if !shard.current.is_empty()
            && let Some(flight) = shard.current.remove(key)
        {
            flight.lock().revoked = true;
        }
        revoked(shard.filling.get(key))
    }

    /// As [`revoke`](Self::revoke), for all keys with this prefix.
    pub(crate) fn revoke_prefix(&self, prefix: &str) -> Vec<Arc<Flight<V>>> {
        let mut filling = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            for (_, flight) in shard.current.extract_if(|key, _| key.starts_with(prefix)) {
                flight.lock().revoked = true;
            }
            let these = shard.filling.iter().filter(|(key, _)| key.starts_with(prefix));
            filling.extend(revoked(these.map(|(_, flights)| flights)));
        }
        filling
    }

    /// How many keys are being loaded.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).current.len()).sum()
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard<V>> {
        let hash = self.hasher.hash_one(key) as usize;
        lock(&self.shards[hash % self.shards.len()])
    }
}

impl<V> Shard<V> {
    /// Nobody has to wait for this fill any more.
    fn fill_ended(&mut self, key: &str, flight: &Arc<Flight<V>>) {
        if let Some(flights) = self.filling.get_mut(key) {
            flights.retain(|filling| !Arc::ptr_eq(filling, flight));
            if flights.is_empty() {
                self.filling.remove(key);
            }
        }
    }

    /// Makes room for a new flight, if this one can still be joined.
    fn forget(&mut self, key: &str, flight: &Arc<Flight<V>>) {
        if self.current.get(key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            self.current.remove(key);
        }
    }
}

impl<V> Flight<V> {
    fn new() -> Self {
        Self {
            state: Mutex::new(State {
                stage: Stage::Vacant,
                followers: 0,
                lease: None,
                led_since: Instant::now(),
                joined: 0,
                early: 0,
                in_time: u64::MAX,
                revoked: false,
                filling: false,
            }),
            changed: Notify::new(),
            node: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        lock(&self.state)
    }

    /// Whether its result is of no use to anybody who comes now.
    fn is_lost(&self) -> bool {
        let state = self.lock();
        match state.stage {
            Stage::Landed(_, Settled::Lost | Settled::Blind) => true,
            Stage::Landed(_, Settled::Good) => state.joined >= state.in_time,
            _ => false,
        }
    }

    /// Waits until the state gives an answer.
    async fn wait<T>(&self, mut answer: impl FnMut(&mut State<V>) -> Option<T>) -> T {
        loop {
            // Listening begins before looking, so that no change falls in between.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(answer) = answer(&mut self.lock()) {
                return answer;
            }
            changed.await;
        }
    }

    /// Waits until no fill is going on.
    pub(crate) async fn filled(&self) {
        self.wait(|state| (!state.filling).then_some(())).await;
    }
}

/// These flights, which are filling; they are revoked.
fn revoked<'a, V: 'a>(
    filling: impl IntoIterator<Item = &'a Vec<Arc<Flight<V>>>>,
) -> Vec<Arc<Flight<V>>> {
    let revoked = filling.into_iter().flatten().map(|flight| {
        flight.lock().revoked = true;
        Arc::clone(flight)
    });
    revoked.collect()
}

/// A lock without poison: nothing of the user's runs under it, and every state is a valid one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
