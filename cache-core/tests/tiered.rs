//! Two tiers: what is copied, for how long, and what keeps a copy from being made.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use cache_core::testing::{Call, FailingStore, Operation, RecordingStore, SlowStore};
use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Claim, ClaimOptions, Clock, Coherence, ErrorKind, Fill,
    Keeper, LocalBus, MemoryMarks, NearTier, ReadOptions, ReadThrough, SetOptions, Tiered, Version,
    Write, WriteOptions, WriteThrough,
};
use cache_memory::MemoryStore;

const MINUTE: Duration = Duration::from_secs(60);

fn memory() -> MemoryStore<u64> {
    MemoryStore::new(10_000)
}

async fn value<S: CacheStore<Value = u64>>(store: &S, key: &str) -> Option<u64> {
    store.value(key).await.expect("an answer")
}

/// How the key of a read that is under way is invalidated.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Remove,
    RemoveMany,
    Prefix,
    Clear,
    Set,
    SetMany,
    Fill,
}

const ALL: [By; 7] =
    [By::Remove, By::RemoveMany, By::Prefix, By::Clear, By::Set, By::SetMany, By::Fill];

impl By {
    /// Invalidates, or replaces, what is under the key.
    async fn change(self, store: &impl CacheStore<Value = u64>, key: &str, seen: Version) {
        let options = SetOptions::ttl(MINUTE);
        let done = match self {
            Self::Remove => store.remove(key).await,
            Self::RemoveMany => store.remove_many(&["other", key]).await,
            Self::Prefix => store.remove_prefix(&key[..2]).await,
            Self::Clear => store.clear().await,
            Self::Set => store.set(key, Some(2), options).await,
            Self::SetMany => store.set_many(vec![(key, Some(2), options)]).await.remove(0),
            Self::Fill => {
                let claim = ClaimOptions::new(MINUTE).refreshing(seen);
                let Ok(Claim::Granted(lease)) = store.claim(key, claim).await else {
                    panic!("nobody else has it");
                };
                let filled = store.fill(lease, Some(2), options).await;
                assert_eq!(filled.expect("an answer"), Fill::Stored);
                Ok(())
            }
        };
        done.expect("no failure");
    }
}

/// The far store's answer to a read is held while the key is changed; then the read goes on.
async fn held_reply(by: By, by_another_process: bool, rounds: usize) {
    let far = memory();
    let bus = LocalBus::new(1024);
    let slow = SlowStore::new(far.clone());
    // Somebody is silent after four of these by the time that stands still in here, and trust ends by the system's.
    let patient = || Broadcast::over(bus.clone()).heartbeat(MINUTE).trust(60 * MINUTE);
    let here = Tiered::builder(memory(), slow.clone()).coherent_by(patient());
    let there = Tiered::builder(memory(), far.clone()).coherent_by(patient());
    let (here, there) = (here.build().expect("valid"), there.build().expect("valid"));
    here.trusted().await;
    there.trusted().await;
    let resyncs = here.snapshot().resyncs;
    for round in 0..rounds {
        let key = format!("{round:02}:key");
        far.put(&key, 1, MINUTE).await.expect("no failure");
        let seen = far.get(&key).await.expect("an answer").expect("an entry").version();
        let gate = slow.hold_answer(Operation::Get);
        let reader = tokio::spawn({
            let (here, key) = (here.clone(), key.clone());
            async move { value(&here, &key).await }
        });
        gate.arrived(1).await;
        if by_another_process {
            let heard = here.snapshot().dropped_by_others;
            by.change(&there, &key, seen).await;
            while here.snapshot().dropped_by_others == heard {
                tokio::task::yield_now().await;
            }
        } else {
            by.change(&here, &key, seen).await;
        }
        gate.open();
        assert_eq!(reader.await.expect("no panic"), Some(1), "{by:?}");
        let now = far.value(&key).await.expect("an answer");
        assert_ne!(now, Some(1), "{by:?}");
        let near = value(here.near(), &key).await;
        assert_ne!(near, Some(1), "{by:?} in round {round}: the old value is near");
        assert_eq!(value(&here, &key).await, now, "{by:?} in round {round}");
    }
    assert_eq!(here.snapshot().resyncs, resyncs, "nothing else has emptied it");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_an_own_change_overtakes_is_not_copied() {
    for by in ALL {
        held_reply(by, false, 1000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_anothers_change_overtakes_is_not_copied() {
    for by in ALL {
        held_reply(by, true, 1000).await;
    }
}

#[tokio::test]
async fn an_answer_that_a_resync_overtakes_is_not_copied() {
    let slow = SlowStore::new(memory());
    let tiers = Tiered::new(memory(), slow.clone());
    tiers.far().put("key", 1, MINUTE).await.expect("no failure");
    let gate = slow.hold_answer(Operation::Get);
    let reader = tokio::spawn({
        let tiers = tiers.clone();
        async move { value(&tiers, "key").await }
    });
    gate.arrived(1).await;
    tiers.forget_near().await.expect("no failure");
    gate.open();
    assert_eq!(reader.await.expect("no panic"), Some(1));
    assert_eq!(value(tiers.near(), "key").await, None);
    assert_eq!(tiers.snapshot().refused_copies, 1);
}

#[tokio::test]
async fn reads_of_one_key_share_the_right_to_copy() {
    let slow = SlowStore::new(memory());
    let tiers = Tiered::new(memory(), slow.clone());
    tiers.far().put("key", 1, MINUTE).await.expect("no failure");
    let gate = slow.hold_answer(Operation::Get);
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let tiers = tiers.clone();
            tokio::spawn(async move { value(&tiers, "key").await })
        })
        .collect();
    gate.arrived(100).await;
    gate.open();
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), Some(1));
    }
    assert_eq!(value(tiers.near(), "key").await, Some(1));
    let snapshot = tiers.snapshot();
    assert_eq!((snapshot.copies, snapshot.refused_copies), (1, 0));
}

/// Somebody who does not announce it changes the far store between two reads, and their answers come in the
/// wrong order.
#[tokio::test]
async fn who_has_read_the_new_value_does_not_find_an_older_copy_afterwards() {
    let far = memory();
    let slow = SlowStore::new(far.clone());
    let tiers = Tiered::new(memory(), slow.clone());
    far.put("key", 1, MINUTE).await.expect("no failure");
    let first = slow.hold_answer(Operation::Get);
    let late = tokio::spawn({
        let tiers = tiers.clone();
        async move { value(&tiers, "key").await }
    });
    first.arrived(1).await;
    far.put("key", 2, MINUTE).await.expect("no failure");
    slow.hold_answer(Operation::Get).open();
    assert_eq!(value(&tiers, "key").await, Some(2));
    first.open();
    assert_eq!(late.await.expect("no panic"), Some(1), "it was read before the change");
    assert_eq!(value(&tiers, "key").await, Some(2));
    assert_ne!(value(tiers.near(), "key").await, Some(1));
}

/// As before, and the change is a removal.
#[tokio::test]
async fn who_has_found_nothing_does_not_find_an_older_copy_afterwards() {
    let far = memory();
    let slow = SlowStore::new(far.clone());
    let tiers = Tiered::new(memory(), slow.clone());
    let read = |many: bool| {
        let tiers = tiers.clone();
        tokio::spawn(async move {
            if !many {
                return value(&tiers, "key").await;
            }
            let found = tiers.get_many(&["key"]).await.remove(0).expect("an answer");
            found.and_then(cache_core::Entry::into_value)
        })
    };
    for (many, copied_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let operation = if many { Operation::GetMany } else { Operation::Get };
        far.put("key", 1, MINUTE).await.expect("no failure");
        let first = slow.hold_answer(Operation::Get);
        let early = read(false);
        first.arrived(1).await;
        far.remove("key").await.expect("no failure");
        let second = slow.hold_answer(operation);
        let late = read(many);
        second.arrived(1).await;
        if copied_first {
            first.open();
            assert_eq!(early.await.expect("no panic"), Some(1), "it was read before the change");
            assert_eq!(value(tiers.near(), "key").await, Some(1));
            second.open();
            assert_eq!(late.await.expect("no panic"), None);
        } else {
            second.open();
            assert_eq!(late.await.expect("no panic"), None);
            first.open();
            assert_eq!(early.await.expect("no panic"), Some(1), "it was read before the change");
        }
        assert_eq!(value(tiers.near(), "key").await, None, "many: {many}, {copied_first}");
        assert_eq!(value(&tiers, "key").await, None);
    }
}

#[tokio::test]
async fn who_alone_finds_nothing_asks_the_near_store_for_no_more() {
    let near = RecordingStore::new(memory());
    let tiers = Tiered::new(near.clone(), memory());
    for _ in 0..3 {
        assert_eq!(value(&tiers, "key").await, None);
        let asked: Vec<_> = near.take().iter().map(Call::operation).collect();
        assert_eq!(asked, [Operation::Get, Operation::Claim, Operation::Release]);
    }
}

/// Leaves it to the test whether the near tier is trusted.
struct ByHand(std::sync::mpsc::Sender<NearTier>);

impl Coherence for ByHand {
    fn keep(self, near: NearTier) -> cache_core::Result<Keeper> {
        self.0.send(near).expect("the test waits");
        Ok(Keeper::new(Vec::new()))
    }
}

/// The message about a change is still on its way, and the near tier was not trusted for a while.
#[tokio::test]
async fn what_was_read_while_near_was_not_trusted_is_not_followed_by_an_older_copy() {
    let (sender, near) = std::sync::mpsc::channel();
    let far = memory();
    let tiers = Tiered::builder(memory(), far.clone()).coherent_by(ByHand(sender));
    let tiers = tiers.build().expect("valid options");
    let near = near.recv().expect("it is handed over");
    assert!(!tiers.is_trusted(), "until somebody says so");
    let trust = || near.trust(near.now().expect("it is alive"), MINUTE);
    trust();
    tiers.put("key", 1, MINUTE).await.expect("no failure");
    assert!(tiers.get_now("key").is_ready());

    near.distrust();
    assert!(tiers.get_now("key").is_pending());
    far.put("key", 2, MINUTE).await.expect("no failure");
    assert_eq!(value(&tiers, "key").await, Some(2));
    trust();
    assert_eq!(value(&tiers, "key").await, Some(2));
    assert_eq!(tiers.snapshot().dropped_copies, 1);
}

#[tokio::test]
async fn a_copy_ends_when_the_far_entry_does() {
    let (clock, hands) = Clock::manual();
    let store = || {
        let store = MemoryStore::builder().capacity(100).clock(clock.clone()).build();
        store.expect("valid options")
    };
    let slow = SlowStore::new(store());
    let tiers = Tiered::builder(store(), slow.clone()).clock(clock.clone()).near_ttl(MINUTE);
    let tiers = tiers.build().expect("valid options");
    let second = Duration::from_secs(1);
    let options = SetOptions::ttl(10 * second).stale_for(10 * second);
    tiers.far().set("key", Some(1_u64), options).await.expect("no failure");

    // At half of its fresh life, and the answer takes three more seconds.
    hands.advance(5 * second);
    let gate = slow.hold_answer(Operation::Get);
    let reader = tokio::spawn({
        let tiers = tiers.clone();
        async move { value(&tiers, "key").await }
    });
    gate.arrived(1).await;
    hands.advance(3 * second);
    gate.open();
    assert_eq!(reader.await.expect("no panic"), Some(1));

    let copy = tiers.near().get("key").await.expect("an answer").expect("a copy");
    assert_eq!((copy.fresh_for(), copy.usable_for()), (2 * second, 12 * second));
    hands.advance(4 * second);
    let copy = tiers.near().get("key").await.expect("an answer").expect("a copy");
    assert_eq!((copy.is_fresh(), copy.usable_for()), (false, 8 * second));
    assert_eq!(copy.staleness(), 2 * second);
    hands.advance(8 * second);
    assert!(tiers.near().get("key").await.expect("an answer").is_none());
    assert!(tiers.get("key").await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_stale_entry_is_not_copied_as_its_copy_could_not_tell_since_when() {
    let tiers = Tiered::new(memory(), memory());
    let options = SetOptions::ttl(Duration::ZERO).stale_for(MINUTE);
    tiers.far().set("key", Some(1), options.clone()).await.expect("no failure");
    assert_eq!(value(&tiers, "key").await, Some(1));
    tiers.set("another", Some(1), options).await.expect("no failure");
    assert!(tiers.near().is_empty());
    assert_eq!(tiers.snapshot().refused_copies, 0);
}

#[tokio::test]
async fn a_copy_lives_for_near_ttl_at_most_and_says_how_fresh_the_far_entry_is() {
    let (clock, hands) = Clock::manual();
    let store = || {
        let store = MemoryStore::<u64>::builder().capacity(100).clock(clock.clone()).build();
        store.expect("valid options")
    };
    let second = Duration::from_secs(1);
    let tiers = Tiered::builder(store(), store()).clock(clock.clone()).near_ttl(2 * second);
    let tiers = tiers.build().expect("valid options");
    tiers.far().put("read", 1, MINUTE).await.expect("no failure");
    tiers.put("written", 1, MINUTE).await.expect("no failure");
    tiers.get("read").await.expect("an answer");
    for key in ["read", "written"] {
        let copy = tiers.near().get(key).await.expect("an answer").expect("a copy");
        assert_eq!((copy.fresh_for(), copy.usable_for()), (MINUTE, 2 * second), "{key}");
        let far = tiers.far().get(key).await.expect("an answer").expect("an entry");
        assert_eq!(copy.version(), far.version(), "{key}: a copy is the same write");
    }
    hands.advance(2 * second);
    for key in ["read", "written"] {
        assert!(tiers.get_now(key).is_pending(), "{key}");
        assert_eq!(value(&tiers, key).await, Some(1), "{key}");
    }
}

#[tokio::test]
async fn a_near_copy_is_refreshed_with_one_question() {
    let (clock, hands) = Clock::manual();
    let near = MemoryStore::builder().capacity(100).clock(clock.clone()).build().expect("valid");
    let tiers = Tiered::builder(near, memory()).clock(clock).build().expect("valid options");
    let options = SetOptions::ttl(Duration::from_millis(1)).stale_for(MINUTE);
    tiers.set("key", Some(1), options).await.expect("no failure");
    hands.advance(Duration::from_millis(1));
    let Poll::Ready(Some(stale)) = tiers.get_now("key") else { panic!("there is a copy") };
    assert!(!stale.is_fresh());
    let claim = ClaimOptions::new(MINUTE).refreshing(stale.version());
    let Ok(Claim::Granted(lease)) = tiers.claim("key", claim).await else {
        panic!("the copy has the version of the original");
    };
    tiers.fill(lease, Some(2), SetOptions::ttl(MINUTE)).await.map(|_| ()).expect("no failure");
    let Poll::Ready(Some(fresh)) = tiers.get_now("key") else { panic!("there is a copy") };
    assert_eq!((fresh.is_fresh(), fresh.into_value()), (true, Some(2)));
}

#[tokio::test]
async fn a_lease_of_a_far_store_with_a_namespace_fills_the_near_copy() {
    let far = memory();
    let tiers = Tiered::new(memory(), far.clone().namespaced("shop").namespaced("user"));
    let tiers = Tiered::new(memory(), tiers.namespaced("inner"));
    let Ok(Claim::Granted(lease)) = tiers.claim("7", ClaimOptions::new(MINUTE)).await else {
        panic!("nobody else has it");
    };
    let filled = tiers.fill(lease, Some(1), SetOptions::ttl(MINUTE)).await.expect("no failure");
    assert_eq!(filled, Fill::Stored);
    assert_eq!(value(&far, "shop:user:inner:7").await, Some(1));
    assert_eq!(value(tiers.near(), "7").await, Some(1));
    assert_eq!(value(tiers.far().inner().near(), "inner:7").await, Some(1));
}

#[tokio::test]
async fn a_dead_far_store_leaves_the_near_one_working() {
    let far = FailingStore::new(memory());
    let tiers = Tiered::new(memory(), far.clone());
    tiers.put("near", 1, MINUTE).await.expect("no failure");
    far.inner().put("far", 1, MINUTE).await.expect("no failure");
    far.fail_all(ErrorKind::Unavailable);
    assert_eq!(value(&tiers, "near").await, Some(1));
    assert_eq!(tiers.get("far").await.expect_err("it is down").kind(), ErrorKind::Unavailable);
    let answers = tiers.get_many(&["far", "near"]).await;
    assert!(answers[0].is_err() && answers[1].is_ok());

    // A change that fails is an error, and nobody finds what it was to replace.
    assert!(tiers.put("near", 2, MINUTE).await.is_err());
    assert!(tiers.get_now("near").is_pending());
    far.heal();
    tiers.put("near", 3, MINUTE).await.expect("no failure");
    far.fail_all(ErrorKind::Unavailable);
    assert!(tiers.remove("near").await.is_err());
    assert!(tiers.get_now("near").is_pending());
}

#[tokio::test]
async fn a_dead_near_store_leaves_the_far_one_working() {
    let near = FailingStore::new(memory());
    let tiers = Tiered::new(near.clone(), memory());
    tiers.put("key", 1, MINUTE).await.expect("no failure");
    for operation in [Operation::Get, Operation::Claim, Operation::Fill, Operation::Release] {
        near.fail(operation, ErrorKind::Unavailable);
    }
    assert_eq!(
        tiers.get("key").await.expect("far").and_then(cache_core::Entry::into_value),
        Some(1)
    );
    // Hiding that an old copy may stay would be worse than an error.
    near.fail_all(ErrorKind::Unavailable);
    assert!(tiers.remove("key").await.is_err());
    assert_eq!(
        value(tiers.far(), "key").await,
        None,
        "it is removed from the far store all the same"
    );
}

#[tokio::test]
async fn a_change_that_is_dropped_on_its_way_leaves_no_copy() {
    let slow = SlowStore::new(memory());
    let tiers = Tiered::new(memory(), slow.clone());
    for (by, operation) in [
        (By::Remove, Operation::Remove),
        (By::RemoveMany, Operation::RemoveMany),
        (By::Prefix, Operation::RemovePrefix),
        (By::Clear, Operation::Clear),
        (By::Set, Operation::Set),
        (By::SetMany, Operation::SetMany),
    ] {
        tiers.put("key", 1, MINUTE).await.expect("no failure");
        assert!(tiers.get_now("key").is_ready(), "{by:?}");
        let gate = slow.hold_answer(operation);
        let change = tokio::spawn({
            let tiers = tiers.clone();
            async move { by.change(&tiers, "key", Version::UNKNOWN).await }
        });
        gate.arrived(1).await;
        change.abort();
        assert!(change.await.is_err(), "{by:?}");
        gate.open();
        assert!(tiers.get_now("key").is_pending(), "{by:?}");
        assert_ne!(value(&tiers, "key").await, Some(1), "{by:?}");
    }
}

#[tokio::test]
async fn a_read_that_is_dropped_gives_the_right_to_copy_back() {
    let slow = SlowStore::new(memory());
    let tiers = Tiered::new(memory(), slow.clone());
    tiers.far().put("key", 1, MINUTE).await.expect("no failure");
    let gate = slow.hold_answer(Operation::Get);
    let reader = tokio::spawn({
        let tiers = tiers.clone();
        async move { value(&tiers, "key").await }
    });
    gate.arrived(1).await;
    reader.abort();
    assert!(reader.await.is_err());
    gate.open();
    assert_eq!(value(&tiers, "key").await, Some(1));
    assert_eq!(value(tiers.near(), "key").await, Some(1));
}

#[tokio::test]
async fn the_sampler_measures_the_share_of_stale_hits() {
    let far = memory();
    let tiers = Tiered::builder(memory(), far.clone()).sample_one_in(1).build().expect("valid");
    tiers.put("key", 1, MINUTE).await.expect("no failure");
    let sampled = async |tiers: &Tiered<_, _>| {
        let before = tiers.snapshot().sampled;
        while tiers.snapshot().sampled == before {
            assert!(tiers.get_now("key").is_ready());
            tokio::task::yield_now().await;
        }
    };
    sampled(&tiers).await;
    assert_eq!(tiers.snapshot().stale_rate(), Some(0.0));
    // Nobody tells of this one.
    far.put("key", 2, MINUTE).await.expect("no failure");
    sampled(&tiers).await;
    sampled(&tiers).await;
    assert!(tiers.snapshot().stale_rate().is_some_and(|rate| rate > 0.0));
}

#[tokio::test]
async fn without_coherence_a_stale_copy_ends_with_near_ttl() {
    let (clock, hands) = Clock::manual();
    let near = MemoryStore::builder().capacity(100).clock(clock.clone()).build().expect("valid");
    let far = memory();
    let tiers = Tiered::builder(near, far.clone()).clock(clock).build().expect("valid");
    tiers.put("key", 1, MINUTE).await.expect("no failure");
    far.put("key", 2, MINUTE).await.expect("no failure");
    assert_eq!(value(&tiers, "key").await, Some(1), "nobody has told it");
    hands.advance(Duration::from_secs(10));
    assert_eq!(value(&tiers, "key").await, Some(2));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let zero = Tiered::builder(memory(), memory()).near_ttl(Duration::ZERO).build();
    assert_eq!(zero.expect_err("refused").kind(), ErrorKind::InvalidOption);
    let outside = Broadcast::over(LocalBus::new(1));
    let outside = Tiered::builder(memory(), memory()).coherent_by(outside).build();
    assert_eq!(outside.expect_err("refused").kind(), ErrorKind::NoRuntime);
}

#[tokio::test]
async fn tiers_that_are_dropped_leave_nothing_behind() {
    let near = Arc::new(memory());
    let bus = LocalBus::new(16);
    let tiers = Tiered::builder(Arc::clone(&near), memory()).coherent_by(Broadcast::over(bus));
    let tiers = tiers.build().expect("valid options");
    tiers.trusted().await;
    drop(tiers);
    while Arc::strong_count(&near) > 1 {
        tokio::task::yield_now().await;
    }
}

/// The far store evicts what another process still has near, and nobody tells of that.
#[tokio::test]
async fn a_write_is_announced_although_the_far_store_has_evicted_the_key() {
    let (far, bus) = (memory(), LocalBus::new(1024));
    let process = || {
        let patient = Broadcast::over(bus.clone()).heartbeat(MINUTE / 60).trust(MINUTE);
        let tiers = Tiered::builder(memory(), far.clone()).coherent_by(patient);
        tiers.build().expect("valid options")
    };
    let (here, there) = (process(), process());
    here.trusted().await;
    there.trusted().await;
    let rows = Arc::new(Mutex::new(1));
    let load = Arc::clone(&rows);
    let loader = move |_: String| {
        let row = *load.lock().expect("no panic");
        async move { Ok::<_, Infallible>(Some(row)) }
    };
    let write = Arc::clone(&rows);
    let writer = move |made: Write<String, u64>| {
        *write.lock().expect("no panic") = made.value.expect("no removals here");
        async { Ok::<_, Infallible>(()) }
    };
    let inner = ReadThrough::new(there, loader, ReadOptions::ttl(MINUTE)).expect("valid options");
    let cache = WriteThrough::new(inner, writer, WriteOptions::default()).expect("valid options");

    for new in 2..100 {
        assert_eq!(cache.get("key").await.expect("an answer"), Some(new - 1));
        assert_eq!(value(&here, "key").await, Some(new - 1), "a copy here");
        far.remove("key").await.expect("no failure");
        let heard = here.snapshot().dropped_by_others;
        cache.put("key", new).await.expect("written");
        let heard_of_it = async {
            while here.snapshot().dropped_by_others == heard {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(MINUTE, heard_of_it).await.expect("it is told of the write");
        assert_eq!(value(&here, "key").await, Some(new));
    }
}

/// Near copies do not have the tags of what they are copies of.
#[tokio::test(start_paused = true)]
async fn what_is_removed_by_tag_behind_the_tiers_leaves_no_near_copy_anywhere() {
    let tagged = MemoryStore::new(100)
        .tagged(MemoryMarks::new(), |key: &str, _: Option<&u64>| [key[..1].to_owned()]);
    let (far, bus) = (Arc::new(tagged), LocalBus::new(64));
    let process = || {
        let tiers = Tiered::builder(memory(), Arc::clone(&far));
        tiers
            .coherent_by(Broadcast::over(bus.clone()).trust(MINUTE))
            .build()
            .expect("valid options")
    };
    let (here, there) = (process(), process());
    here.trusted().await;
    there.trusted().await;
    far.put("a1", 1, MINUTE).await.expect("no failure");
    for tiers in [&here, &there] {
        assert_eq!(value(tiers, "a1").await, Some(1));
        assert!(tiers.get_now("a1").is_ready());
    }
    here.remove_tagged(&["a"]).await.expect("no failure");
    assert_eq!(value(&here, "a1").await, None);
    while there.get_now("a1").is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(value(&there, "a1").await, None);

    let without = Tiered::new(memory(), memory());
    let error = without.remove_tagged(&["a"]).await.expect_err("the far store has none");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// Trusts the near tier once, and says no more.
struct Once(Duration);

impl Coherence for Once {
    fn keep(self, near: NearTier) -> cache_core::Result<Keeper> {
        near.trust(near.now().expect("the tiers are in use"), self.0);
        Ok(Keeper::new(Vec::new()))
    }
}

#[tokio::test]
async fn a_near_tier_answers_until_its_trust_is_over_and_no_longer() {
    let second = Duration::from_secs(1);
    let (clock, hands) = Clock::manual();
    let store = |clock: &Clock| {
        let store = MemoryStore::builder().capacity(100).clock(clock.clone()).build();
        store.expect("valid options")
    };
    let (near, far) = (store(&clock), store(&clock));
    let tiers = Tiered::builder(near, far.clone()).clock(clock).coherent_by(Once(second));
    let tiers = tiers.build().expect("valid options");
    tiers.put("key", 1, MINUTE).await.expect("no failure");
    // Somebody changes it of whom nobody tells.
    far.put("key", 2, MINUTE).await.expect("no failure");
    hands.advance(second - Duration::from_millis(10));
    assert!(tiers.is_trusted());
    assert_eq!(value(&tiers, "key").await, Some(1));
    hands.advance(Duration::from_millis(10));
    assert!(!tiers.is_trusted());
    assert!(tiers.get_now("key").is_pending());
    assert_eq!(value(&tiers, "key").await, Some(2));
}

#[tokio::test]
async fn the_sampler_sees_what_was_removed_elsewhere_however_a_hit_is_answered() {
    let far = memory();
    // One that can't tell at once is a hit of `get`.
    let near = SlowStore::new(memory());
    let tiers = Tiered::builder(near, far.clone()).sample_one_in(1).build().expect("valid");
    for (count, many) in [(1, false), (2, true)] {
        tiers.put("key", 1, MINUTE).await.expect("no failure");
        far.remove("key").await.expect("no failure");
        // Nobody tells of it.
        match many {
            true => assert!(matches!(tiers.get_many(&["key"]).await[..], [Ok(Some(_))])),
            false => assert_eq!(value(&tiers, "key").await, Some(1)),
        }
        let sampled = async {
            while tiers.snapshot().sampled < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(MINUTE, sampled).await.expect("it is compared");
        let seen = tiers.snapshot();
        assert_eq!((seen.sampled, seen.sampled_stale, seen.sampled_gone), (count, 0, count));
        assert_eq!(seen.stale_rate(), Some(1.0));
    }
}

/// The far entry and its copy end together, so nothing was stale.
#[tokio::test]
async fn the_sampler_does_not_take_what_has_ended_for_stale() {
    let (clock, hands) = Clock::manual();
    let store = || {
        let store = MemoryStore::builder().capacity(100).clock(clock.clone()).build();
        store.expect("valid options")
    };
    let slow = SlowStore::new(store());
    let tiers = Tiered::builder(store(), slow.clone()).clock(clock.clone()).sample_one_in(1);
    let tiers = tiers.build().expect("valid options");
    tiers.put("key", 1_u64, Duration::from_secs(1)).await.expect("no failure");
    let asked = slow.hold(Operation::Get);
    assert!(tiers.get_now("key").is_ready());
    asked.arrived(1).await;
    hands.advance(Duration::from_secs(1));
    asked.open();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tiers.snapshot().sampled, 0);
    tiers.put("key", 2, MINUTE).await.expect("no failure");
    while tiers.snapshot().sampled == 0 {
        assert!(tiers.get_now("key").is_ready());
        tokio::task::yield_now().await;
    }
    let seen = tiers.snapshot();
    assert_eq!((seen.sampled, seen.stale_rate()), (1, Some(0.0)));
}

#[test]
fn the_sampler_goes_on_in_another_runtime_than_the_one_that_ended() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let tiers = Tiered::builder(memory(), memory()).sample_one_in(1).build().expect("valid");
    let first = runtime();
    first.block_on(tiers.put("key", 1, MINUTE)).expect("no failure");
    let inside = first.enter();
    assert!(tiers.get_now("key").is_ready());
    drop(inside);
    // What it was to run has not had a turn.
    drop(first);
    assert_eq!(tiers.snapshot().sampled, 0);
    let sampled = async {
        while tiers.snapshot().sampled == 0 {
            assert!(tiers.get_now("key").is_ready());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let sampled = runtime().block_on(async { tokio::time::timeout(MINUTE / 6, sampled).await });
    sampled.expect("it is compared");
}
