use std::collections::HashMap;
use std::time::Duration;

use cache_core::{CacheStore, Claim, ClaimOptions, Fill, Lease, SetOptions};
use proptest::prelude::*;

use super::{now, store};
use crate::Store;

#[derive(Clone, Debug)]
enum Step {
    Get(usize),
    Set(usize, Option<u64>, u64),
    Remove(usize),
    RemovePrefix(&'static str),
    Clear,
    Claim { key: usize, life: u64, refresh: bool },
    Fill { lease: usize, value: u64, ttl: u64 },
    Release(usize),
    Advance(u64),
    Purge,
}

const KEYS: [&str; 5] = ["a", "a:b", "a:c", "b", "a key that is too long to be kept inline"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS.len();
    let step = prop_oneof![
        4 => key.clone().prop_map(Step::Get),
        2 => (key.clone(), any::<Option<u64>>(), 1_u64..50)
            .prop_map(|(key, value, ttl)| Step::Set(key, value, ttl)),
        1 => key.clone().prop_map(Step::Remove),
        1 => prop_oneof![Just("a"), Just("a:"), Just("b"), Just("x")].prop_map(Step::RemovePrefix),
        1 => Just(Step::Clear),
        4 => (key, 1_u64..30, any::<bool>())
            .prop_map(|(key, life, refresh)| Step::Claim { key, life, refresh }),
        4 => (0_usize..20, any::<u64>(), 1_u64..50)
            .prop_map(|(lease, value, ttl)| Step::Fill { lease, value, ttl }),
        1 => (0_usize..20).prop_map(Step::Release),
        3 => (1_u64..20).prop_map(Step::Advance),
        1 => Just(Step::Purge),
    ];
    proptest::collection::vec(step, 1..80)
}

#[derive(Default)]
struct Model {
    time: u64,
    entries: HashMap<&'static str, (Option<u64>, u64)>,
    /// Who has the lease on a key, by its place in `granted`, and until when.
    leases: HashMap<&'static str, (usize, u64)>,
    granted: Vec<(&'static str, Lease)>,
}

impl Model {
    fn entry(&self, key: &str) -> Option<Option<u64>> {
        self.entries.get(key).filter(|(_, end)| self.time < *end).map(|(value, _)| *value)
    }

    fn remove(&mut self, gone: impl Fn(&str) -> bool) {
        self.entries.retain(|key, _| !gone(key));
        self.leases.retain(|key, _| !gone(key));
    }

    /// Whether the lease has been good until now; it is not any more.
    fn redeem(&mut self, lease: usize) -> bool {
        let key = self.granted[lease].0;
        match self.leases.get(key) {
            Some((holder, end)) if *holder == lease => {
                let in_time = self.time < *end;
                self.leases.remove(key);
                in_time
            }
            _ => false,
        }
    }
}

fn ttl(ttl: u64) -> SetOptions {
    SetOptions::ttl(Duration::from_secs(ttl))
}

fn value_of(store: &Store<u64>, key: &str) -> Option<Option<u64>> {
    now(store.get(key)).unwrap().map(cache_core::Entry::into_value)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_is_that_of_a_map_with_lifetimes_and_leases(steps in steps()) {
        let (store, hands) = store(1_000);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Get(key) => {
                    prop_assert_eq!(value_of(&store, KEYS[key]), model.entry(KEYS[key]));
                }
                Step::Set(key, value, lifetime) => {
                    now(store.set(KEYS[key], value, ttl(lifetime))).unwrap();
                    model.leases.remove(KEYS[key]);
                    model.entries.insert(KEYS[key], (value, model.time + lifetime));
                }
                Step::Remove(key) => {
                    now(store.remove(KEYS[key])).unwrap();
                    model.remove(|k| k == KEYS[key]);
                }
                Step::RemovePrefix(prefix) => {
                    now(store.remove_prefix(prefix)).unwrap();
                    model.remove(|key| key.starts_with(prefix));
                }
                Step::Clear => {
                    now(store.clear()).unwrap();
                    model.remove(|_| true);
                }
                Step::Claim { key, life, refresh } => {
                    let key = KEYS[key];
                    let mut options = ClaimOptions::new(Duration::from_secs(life));
                    let entry = now(store.get(key)).unwrap();
                    if let Some(entry) = entry.filter(|_| refresh) {
                        options = options.refreshing(entry.version());
                    }
                    match now(store.claim(key, options)).unwrap() {
                        Claim::Found(entry) => {
                            prop_assert!(!refresh);
                            prop_assert_eq!(Some(entry.into_value()), model.entry(key));
                        }
                        Claim::Held { .. } => {
                            prop_assert!(model.leases.get(key).is_some_and(|l| model.time < l.1));
                        }
                        Claim::Granted(lease) => {
                            prop_assert!(refresh || model.entry(key).is_none());
                            prop_assert!(model.leases.get(key).is_none_or(|l| l.1 <= model.time));
                            model.leases.insert(key, (model.granted.len(), model.time + life));
                            model.granted.push((key, lease));
                        }
                    }
                }
                Step::Fill { lease, value, ttl: lifetime } if lease < model.granted.len() => {
                    let (key, handle) = model.granted[lease].clone();
                    let filled = now(store.fill(handle, Some(value), ttl(lifetime))).unwrap();
                    let good = model.redeem(lease);
                    prop_assert_eq!(filled, if good { Fill::Stored } else { Fill::Refused });
                    if good {
                        model.entries.insert(key, (Some(value), model.time + lifetime));
                    }
                }
                Step::Release(lease) if lease < model.granted.len() => {
                    now(store.release(model.granted[lease].1.clone())).unwrap();
                    model.redeem(lease);
                }
                Step::Fill { .. } | Step::Release(_) => {}
                Step::Advance(by) => {
                    hands.advance(Duration::from_secs(by));
                    model.time += by;
                }
                Step::Purge => {
                    store.purge_expired();
                    let live = KEYS.iter().filter(|key| model.entry(key).is_some()).count();
                    prop_assert_eq!(store.len(), live as u64);
                }
            }
        }
        for key in KEYS {
            prop_assert_eq!(value_of(&store, key), model.entry(key));
        }
    }
}
