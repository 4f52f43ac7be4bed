//! One load in progress that callers share.

use std::collections::HashMap;
use std::collections::hash_map::{Entry as MapEntry, RandomState};
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::waits::Node;
use crate::{Error, Lease, Outcome, Result};

/// What a request, or a load that many requests share, ends with.
#[derive(Clone)]
pub(crate) struct Landing<V> {
    pub(crate) result: Result<Option<V>>,
    /// What it was for the caller that began the flight.
    pub(crate) outcome: Outcome,
}

impl<V> Landing<V> {
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            result: Err(error),
            outcome: Outcome::Failed,
        }
    }

    /// What it is for those who joined later.
    pub(crate) fn shared(self) -> Self {
        let outcome = if self.result.is_ok() {
            Outcome::Coalesced
        } else {
            Outcome::Failed
        };
        Self { outcome, ..self }
    }
}

/// The loads in progress of one cache, at most one per key.
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
/// A revoked flight still lands, for those who joined before; whoever comes later begins a new one.
pub(crate) struct Flights<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    hasher: RandomState,
    /// Takes the leases that nobody is left to use.
    orphaned: Box<dyn Fn(Lease) + Send + Sync>,
}

type Shard<V> = HashMap<SmolStr, Arc<Flight<V>>>;

pub(crate) struct Flight<V> {
    // Locked after the shard, never before.
    state: Mutex<State<V>>,
    changed: Notify,
    began: Instant,
    /// The load, in the graph of who waits for whom.
    node: Arc<Node>,
}

struct State<V> {
    stage: Stage<V>,
    followers: usize,
    lease: Option<Lease>,
    revoked: bool,
    filling: bool,
}

enum Stage<V> {
    Led,
    Vacant,
    // In an `Arc`, because cloning a value is the user's code, which is not to run under the lock.
    Landed(Arc<Landing<V>>),
}

/// A place on a flight.
pub(crate) enum Seat<V> {
    Lead(Lead<V>),
    Follow(Follow<V>),
}

impl<V> Flights<V> {
    pub(crate) fn new(orphaned: impl Fn(Lease) + Send + Sync + 'static) -> Self {
        const SHARDS: usize = 16;
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            orphaned: Box::new(orphaned),
        }
    }

    /// Leads a new flight, or one whose leader has gone; follows any other.
    pub(crate) fn join(self: &Arc<Self>, key: &SmolStr) -> Seat<V> {
        let mut shard = self.shard(key);
        let flight = match shard.entry(key.clone()) {
            MapEntry::Occupied(slot) => slot.into_mut(),
            MapEntry::Vacant(slot) => slot.insert(Arc::new(Flight::new())),
        };
        let mut state = flight.lock();
        let place = Place {
            flights: Arc::clone(self),
            flight: Arc::clone(flight),
            key: key.clone(),
        };
        if matches!(state.stage, Stage::Vacant) {
            state.stage = Stage::Led;
            Seat::Lead(Lead(place))
        } else {
            state.followers += 1;
            Seat::Follow(Follow(place))
        }
    }

    /// Cuts the flight of `key` off from the store. What is returned is in the middle of its fill.
    pub(crate) fn revoke(&self, key: &str) -> Option<Arc<Flight<V>>> {
        self.shard(key).remove(key)?.revoke()
    }

    /// As [`revoke`](Self::revoke), for all keys with this prefix.
    pub(crate) fn revoke_prefix(&self, prefix: &str) -> Vec<Arc<Flight<V>>> {
        let mut filling = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let revoked = shard.extract_if(|key, _| key.starts_with(prefix));
            filling.extend(revoked.filter_map(|(_, flight)| flight.revoke()));
        }
        filling
    }

    /// How many keys are being loaded.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard<V>> {
        let hash = self.hasher.hash_one(key) as usize;
        lock(&self.shards[hash % self.shards.len()])
    }
}

impl<V> Flight<V> {
    fn new() -> Self {
        Self {
            state: Mutex::new(State {
                stage: Stage::Vacant,
                followers: 0,
                lease: None,
                revoked: false,
                filling: false,
            }),
            changed: Notify::new(),
            began: Instant::now(),
            node: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        lock(&self.state)
    }

    fn revoke(self: Arc<Self>) -> Option<Arc<Self>> {
        let mut state = self.lock();
        state.revoked = true;
        let filling = state.filling;
        drop(state);
        filling.then_some(self)
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

struct Place<V> {
    flights: Arc<Flights<V>>,
    flight: Arc<Flight<V>>,
    key: SmolStr,
}

impl<V> Place<V> {
    /// Changes the state; the flight ends when nobody is left to land it.
    fn leave(&self, change: impl FnOnce(&mut State<V>)) {
        let mut shard = self.flights.shard(&self.key);
        let mut state = self.flight.lock();
        change(&mut state);
        let over = match state.stage {
            Stage::Led => false,
            Stage::Vacant => state.followers == 0,
            Stage::Landed(_) => !state.filling,
        };
        let orphan = if over { state.lease.take() } else { None };
        drop(state);
        if over
            && shard
                .get(&self.key)
                .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
        {
            shard.remove(&self.key);
        }
        drop(shard);
        self.flight.changed.notify_waiters();
        if let Some(lease) = orphan {
            (self.flights.orphaned)(lease);
        }
    }
}

/// The duty to land a flight. Dropping it vacates the lead.
pub(crate) struct Lead<V>(Place<V>);

impl<V> Lead<V> {
    pub(crate) fn key(&self) -> &SmolStr {
        &self.0.key
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.flight.node
    }

    /// Another seat on the flight that this leads.
    pub(crate) fn follow(&self) -> Follow<V> {
        self.0.flight.lock().followers += 1;
        let Place {
            flights,
            flight,
            key,
        } = &self.0;
        Follow(Place {
            flights: Arc::clone(flights),
            flight: Arc::clone(flight),
            key: key.clone(),
        })
    }

    /// Keeps the lease with the flight, so that it passes on with the lead.
    pub(crate) fn hold(&self, lease: Lease) {
        self.0.flight.lock().lease = Some(lease);
    }

    pub(crate) fn has_lease(&self) -> bool {
        self.0.flight.lock().lease.is_some()
    }

    /// The lease, for using it up.
    pub(crate) fn take_lease(&self) -> Option<Lease> {
        self.0.flight.lock().lease.take()
    }

    /// Says that the fill begins; `false` if the flight has been revoked and must not fill.
    pub(crate) fn begin_fill(&self) -> bool {
        let mut state = self.0.flight.lock();
        state.filling = !state.revoked;
        state.filling
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.0.flight.lock().revoked
    }

    /// Gives everybody the result. The flight ends when the lead is dropped; until then newcomers
    /// get the result as well.
    pub(crate) fn land(&self, landing: Landing<V>) {
        self.0.flight.lock().stage = Stage::Landed(Arc::new(landing));
        self.0.flight.changed.notify_waiters();
    }
}

impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        self.0.leave(|state| {
            state.filling = false;
            if let Stage::Led = state.stage {
                state.stage = Stage::Vacant;
            }
        });
    }
}

/// A share in the result of a flight.
pub(crate) struct Follow<V>(Place<V>);

/// What a follower ends up with.
pub(crate) enum Followed<V> {
    Landed(Landing<V>),
    /// The leader has gone, and this caller leads now.
    Lead(Lead<V>),
}

impl<V: Clone> Follow<V> {
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.flight.node
    }

    /// Waits for the result, or for the lead.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost: a lead that has been offered goes to the next.
    pub(crate) async fn wait(&self) -> Followed<V> {
        let landed = self.0.flight.wait(|state| match &state.stage {
            Stage::Led => None,
            Stage::Landed(landing) => Some(Some(Arc::clone(landing))),
            Stage::Vacant => {
                state.stage = Stage::Led;
                Some(None)
            }
        });
        match landed.await {
            Some(landing) => Followed::Landed(Landing::clone(&landing)),
            None => {
                let Place {
                    flights,
                    flight,
                    key,
                } = &self.0;
                let (flights, flight) = (Arc::clone(flights), Arc::clone(flight));
                Followed::Lead(Lead(Place {
                    flights,
                    flight,
                    key: key.clone(),
                }))
            }
        }
    }

    /// How long ago the flight began.
    pub(crate) fn age(&self) -> Duration {
        self.0.flight.began.elapsed()
    }

    /// Makes room for a new flight, because this one should have ended long ago.
    pub(crate) fn give_up(&self) {
        let mut shard = self.0.flights.shard(&self.0.key);
        if shard
            .get(&self.0.key)
            .is_some_and(|flight| Arc::ptr_eq(flight, &self.0.flight))
        {
            shard.remove(&self.0.key);
        }
        self.0.flight.lock().revoked = true;
    }
}

impl<V> Drop for Follow<V> {
    fn drop(&mut self) {
        self.0.leave(|state| state.followers -= 1);
    }
}

/// A lock without poison: nothing of the user's runs under it, and every state is a valid one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
