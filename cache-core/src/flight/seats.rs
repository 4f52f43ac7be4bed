//! The places on a flight: one leads, the others follow.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use tokio::time::Instant;

use super::{Flight, Flights, Landing, Settled, Stage, State};
use crate::Lease;
use crate::waits::Node;

/// A place on a flight.
pub(crate) enum Seat<V> {
    Lead(Lead<V>),
    Follow(Follow<V>),
}

/// The duty to land a flight. Dropping it vacates the lead.
pub(crate) struct Lead<V>(Place<V>);

/// A share in the result of a flight.
pub(crate) struct Follow<V> {
    place: Place<V>,
    /// How many had joined before.
    seat: u64,
    takes: Takes,
}

/// Which result is good for a follower who has joined late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Any: he has come before the flight began.
    Any,
    /// One that no lease has fenced, too: the store fails for him as well.
    Blind,
    /// One whose lease has held.
    Fenced,
}

/// What a follower ends up with.
pub(crate) enum Followed<V> {
    Landed(Landing<V>),
    /// The leader has gone, and this caller leads now.
    Lead(Lead<V>),
    /// The result is not for this caller, who has to ask the store again. The next flight's is.
    Again,
}

struct Place<V> {
    flights: Arc<Flights<V>>,
    flight: Arc<Flight<V>>,
    key: SmolStr,
}

impl<V> Flight<V> {
    pub(super) fn join(
        self: &Arc<Self>,
        flights: &Arc<Flights<V>>,
        key: &SmolStr,
        takes: Takes,
    ) -> Seat<V> {
        let place =
            Place { flights: Arc::clone(flights), flight: Arc::clone(self), key: key.clone() };
        let mut state = self.lock();
        if state.take_lead() {
            Seat::Lead(Lead(place))
        } else {
            let seat = state.board();
            Seat::Follow(Follow { place, seat, takes })
        }
    }
}

impl<V> State<V> {
    fn take_lead(&mut self) -> bool {
        let vacant = matches!(self.stage, Stage::Vacant);
        if vacant {
            self.stage = Stage::Led;
            self.led_since = Instant::now();
        }
        vacant
    }

    fn board(&mut self) -> u64 {
        self.followers += 1;
        self.joined += 1;
        self.joined - 1
    }
}

impl<V> Lead<V> {
    pub(crate) fn key(&self) -> &SmolStr {
        &self.0.key
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.flight.node
    }

    /// A seat on the flight for who has brought it about.
    pub(crate) fn follow(&self) -> Follow<V> {
        let seat = self.0.flight.lock().board();
        Follow { place: self.0.clone(), seat, takes: Takes::Any }
    }

    /// Says that what is read from now on is good for all who have joined so far; see [`Flights`].
    pub(crate) fn ask(&self) {
        let mut state = self.0.flight.lock();
        state.early = state.joined;
    }

    /// Keeps the lease with the flight, so that it passes on with the lead.
    pub(crate) fn hold(&self, lease: Lease) {
        self.0.flight.lock().lease = Some(lease);
    }

    /// The lease; it stays with the flight until it is [used up](Self::used_lease).
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.0.flight.lock().lease.clone()
    }

    pub(crate) fn used_lease(&self) {
        self.0.flight.lock().lease = None;
    }

    /// Says that the fill begins; `false` if the flight has been revoked and must not fill.
    pub(crate) fn begin_fill(&self) -> bool {
        let Place { flights, flight, key } = &self.0;
        let mut shard = flights.shard(key);
        let mut state = flight.lock();
        state.filling = !state.revoked;
        if state.filling {
            shard.filling.entry(key.clone()).or_default().push(Arc::clone(flight));
        }
        state.filling
    }

    /// Says that the store is asked for its verdict on the lease, which is for those who have joined so far.
    pub(crate) fn ask_verdict(&self) {
        let mut state = self.0.flight.lock();
        state.in_time = state.joined;
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.0.flight.lock().revoked
    }

    /// Gives the result to those who joined in time, and to the others once it is settled.
    pub(crate) fn land(&self, landing: Landing<V>, settled: Settled) {
        let mut state = self.0.flight.lock();
        if landing.result.is_err() {
            // An error is nothing that could be invalidated.
            state.in_time = u64::MAX;
        }
        state.stage = Stage::Landed(Arc::new(landing), settled);
        drop(state);
        self.0.flight.changed.notify_waiters();
    }

    /// Says whether the result is good for those who joined late.
    pub(crate) fn settle(&self, how: Settled) {
        if let Stage::Landed(_, settled) = &mut self.0.flight.lock().stage {
            *settled = how;
        }
        self.0.flight.changed.notify_waiters();
    }
}

impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        self.0.leave(|state| {
            state.filling = false;
            match &mut state.stage {
                Stage::Landed(_, settled @ Settled::Open) => *settled = Settled::Lost,
                stage @ Stage::Led => *stage = Stage::Vacant,
                Stage::Landed(..) | Stage::Vacant => {}
            }
        });
    }
}

impl<V: Clone> Follow<V> {
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.place.flight.node
    }

    /// Waits for the result, or for the lead.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost: a lead that has been offered goes to the next.
    pub(crate) async fn wait(&self) -> Followed<V> {
        enum Seen<V> {
            Landed(Arc<Landing<V>>),
            Lead,
            Again,
        }
        let seen = self.place.flight.wait(|state| match &state.stage {
            Stage::Led => None,
            // A revoked flight is nobody's business any more: there may be a new one.
            Stage::Vacant if state.revoked => Some(Seen::Again),
            Stage::Vacant => state.take_lead().then_some(Seen::Lead),
            Stage::Landed(landing, settled) => {
                let good = match settled {
                    _ if self.takes == Takes::Any || self.seat < state.early => true,
                    Settled::Open => return None,
                    Settled::Good => self.seat < state.in_time,
                    Settled::Blind => self.takes == Takes::Blind,
                    Settled::Lost => false,
                };
                Some(if good { Seen::Landed(Arc::clone(landing)) } else { Seen::Again })
            }
        });
        match seen.await {
            Seen::Landed(landing) => Followed::Landed(Landing::clone(&landing)),
            Seen::Lead => Followed::Lead(Lead(self.place.clone())),
            Seen::Again => Followed::Again,
        }
    }

    /// For how long the present leader has been leading.
    pub(crate) fn age(&self) -> Duration {
        self.place.flight.lock().led_since.elapsed()
    }

    /// Makes room for a new flight, because this one should have ended long ago.
    pub(crate) fn give_up(&self) {
        let Place { flights, flight, key } = &self.place;
        flights.shard(key).forget(key, flight);
        flight.lock().revoked = true;
    }
}

impl<V> Drop for Follow<V> {
    fn drop(&mut self) {
        self.place.leave(|state| state.followers -= 1);
    }
}

impl<V> Place<V> {
    /// Changes the state; the flight ends when nobody is left to land it.
    fn leave(&self, change: impl FnOnce(&mut State<V>)) {
        let Self { flights, flight, key } = self;
        let mut shard = flights.shard(key);
        let mut state = flight.lock();
        let was_filling = state.filling;
        change(&mut state);
        let over = match state.stage {
            Stage::Led => false,
            Stage::Vacant => state.followers == 0,
            Stage::Landed(_, settled) => settled != Settled::Open && !state.filling,
        };
        let orphan = if over { state.lease.take() } else { None };
        let filled = was_filling && !state.filling;
        drop(state);
        if filled {
            shard.fill_ended(key, flight);
        }
        if over {
            shard.forget(key, flight);
        }
        drop(shard);
        flight.changed.notify_waiters();
        if let Some(lease) = orphan {
            (flights.orphaned)(lease);
        }
    }
}

impl<V> Clone for Place<V> {
    fn clone(&self) -> Self {
        let Self { flights, flight, key } = self;
        Self { flights: Arc::clone(flights), flight: Arc::clone(flight), key: key.clone() }
    }
}
