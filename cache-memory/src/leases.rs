use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use cache_core::Moment;
use smol_str::SmolStr;

use crate::hash::KeyHash;

const STRIPES: usize = 64;

/// A stripe with fewer leases than this is not worth sweeping.
const FEW: usize = 64;

/// The leases of a store, beside its engine: in there they would take room, could be evicted, and
/// would tell the engine that their keys are popular.
///
/// The lock of a key's stripe orders all mutations of that key, so that an entry and its lease
/// change together. Reads take no lock.
pub(crate) struct Leases {
    stripes: Box<[Stripe]>,
    hasher: KeyHash,
}

/// A cache line each, so that writers of different stripes do not disturb one another.
#[derive(Default)]
#[repr(align(64))]
struct Stripe(Mutex<Marks>);

impl Leases {
    pub(crate) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
            hasher: KeyHash::default(),
        }
    }

    pub(crate) fn lock(&self, key: &str) -> MutexGuard<'_, Marks> {
        lock(self.stripe(key))
    }

    /// The stripe, unless somebody is changing one of its keys.
    pub(crate) fn try_lock(&self, key: &str) -> Option<MutexGuard<'_, Marks>> {
        match self.stripe(key).0.try_lock() {
            Ok(marks) => Some(marks),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// All stripes, always in the same order, so that two of these calls can't block each other.
    pub(crate) fn lock_all(&self) -> Vec<MutexGuard<'_, Marks>> {
        self.stripes.iter().map(lock).collect()
    }

    /// Forgets the leases that have ended.
    pub(crate) fn sweep(&self, now: Moment) {
        self.stripes.iter().for_each(|stripe| lock(stripe).sweep(now));
    }

    fn stripe(&self, key: &str) -> &Stripe {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }
}

// No code of users runs while a stripe is locked, and a mark is written in one step: a poisoned
// stripe is as good as any other.
fn lock(stripe: &Stripe) -> MutexGuard<'_, Marks> {
    stripe.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The leases on the keys of one stripe.
#[derive(Default)]
pub(crate) struct Marks {
    marks: HashMap<SmolStr, Mark, KeyHash>,
    /// When there are this many, those that have ended are swept.
    sweep_at: usize,
}

struct Mark {
    token: u64,
    until: Moment,
}

impl Marks {
    /// Marks the key as leased, or says how long somebody else's lease still lasts.
    pub(crate) fn grant(
        &mut self,
        key: &str,
        token: u64,
        life: Duration,
        now: Moment,
    ) -> Result<(), Duration> {
        if let Some(mark) = self.marks.get(key).filter(|mark| now < mark.until) {
            return Err(mark.until.since(now));
        }
        if self.marks.len() >= self.sweep_at.max(FEW) {
            self.sweep(now);
        }
        self.marks.insert(SmolStr::new(key), Mark { token, until: now.plus(life) });
        Ok(())
    }

    /// Takes the lease of a key away, whoever has it.
    pub(crate) fn revoke(&mut self, key: &str) {
        if !self.marks.is_empty() {
            self.marks.remove(key);
        }
    }

    pub(crate) fn revoke_prefix(&mut self, prefix: &str) {
        self.marks.retain(|key, _| !key.starts_with(prefix));
    }

    /// Ends the lease with this token; `false` if it has been lost before.
    pub(crate) fn redeem(&mut self, key: &str, token: u64, now: Moment) -> bool {
        let Some(mark) = self.marks.get(key).filter(|mark| mark.token == token) else {
            return false;
        };
        let in_time = now < mark.until;
        self.marks.remove(key);
        in_time
    }

    /// What is left decides when to sweep again, so that a claim pays a constant share of it.
    fn sweep(&mut self, now: Moment) {
        self.marks.retain(|_, mark| now < mark.until);
        self.marks.shrink_to(self.marks.len() * 2);
        self.sweep_at = self.marks.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_core::Clock;

    #[test]
    fn leases_that_nobody_fills_do_not_pile_up() {
        let (clock, hands) = Clock::manual();
        let leases = Leases::new();
        let life = Duration::from_secs(1);
        for token in 0..1_000_000 {
            let key = token.to_string();
            assert!(leases.lock(&key).grant(&key, token, life, clock.now()).is_ok());
            if token % 1_000 == 0 {
                hands.advance(life);
            }
        }
        let (mut marks, mut room) = (0, 0);
        for stripe in leases.lock_all() {
            marks += stripe.marks.len();
            room += stripe.marks.capacity();
        }
        assert!(marks <= STRIPES * FEW, "{marks} marks");
        assert!(room <= STRIPES * FEW * 4, "room for {room} marks");

        hands.advance(life);
        leases.sweep(clock.now());
        assert!(leases.lock_all().iter().all(|stripe| stripe.marks.is_empty()));
    }

    #[test]
    fn a_lease_without_end_is_held_for_ever() {
        let (clock, hands) = Clock::manual();
        let mut marks = Marks::default();
        assert!(marks.grant("key", 1, Duration::MAX, clock.now()).is_ok());
        hands.advance(Duration::from_secs(1 << 32));
        assert_eq!(marks.grant("key", 2, Duration::MAX, clock.now()), Err(Duration::MAX));
        assert!(marks.redeem("key", 1, clock.now()));
    }

    #[test]
    fn the_wrong_token_neither_redeems_nor_ends_a_lease() {
        let (clock, _) = Clock::manual();
        let mut marks = Marks::default();
        assert!(marks.grant("key", 1, Duration::from_secs(1), clock.now()).is_ok());
        assert!(!marks.redeem("key", 2, clock.now()));
        assert!(marks.redeem("key", 1, clock.now()));
        assert!(!marks.redeem("key", 1, clock.now()));
    }
}
