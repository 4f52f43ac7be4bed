//! Tiers over tiers: what the ones below forget for others' changes does not stay in front of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::{FailingStore, Operation, RecordingStore, SlowStore};
use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Change, Clock, Codec, Coherence, Error, ErrorKind,
    Keeper, LocalBus, Marked, MemoryMarks, NearMarks, NearTier, Result, Resync, TagStore, Tiered,
};
use cache_memory::MemoryStore;

const MINUTE: Duration = Duration::from_secs(60);

fn memory() -> MemoryStore<u64> {
    MemoryStore::new(10_000)
}

async fn value(store: &impl CacheStore<Value = u64>, key: &str) -> Option<u64> {
    store.value(key).await.expect("an answer")
}

/// Leaves it to the test what the near tier hears of, and whether it is trusted.
struct ByHand(std::sync::mpsc::Sender<NearTier>);

impl Coherence for ByHand {
    fn keep(self, near: NearTier) -> Result<Keeper> {
        self.0.send(near).expect("the test waits");
        Ok(Keeper::new(Vec::new()))
    }
}

/// Tiers over this far store, and what tells them of changes.
fn over<F: CacheStore<Value = u64>>(far: F) -> (Tiered<MemoryStore<u64>, F>, NearTier) {
    let (sender, near) = std::sync::mpsc::channel();
    let tiers = Tiered::builder(memory(), far).coherent_by(ByHand(sender)).build();
    let near = near.recv().expect("it is handed over");
    trust(&near);
    (tiers.expect("valid options"), near)
}

fn trust(near: &NearTier) {
    near.trust(near.now().expect("it is alive"), MINUTE);
}

#[tokio::test]
async fn a_copy_of_a_copy_does_not_outlive_it() {
    let (inner, below) = over(memory());
    let (outer, above) = over(inner.clone());
    for change in [
        Some(Change::key("a key")),
        Some(Change::keys(["another", "a key"])),
        Some(Change::Prefix("a".into())),
        Some(Change::Clear),
        None,
    ] {
        outer.put("a key", 1, MINUTE).await.expect("no failure");
        // Somebody else changes it. Those above are told first, and read what is still below.
        inner.far().put("a key", 2, MINUTE).await.expect("no failure");
        above.forget(&Change::key("a key")).await.expect("no failure");
        assert_eq!(value(&outer, "a key").await, Some(1));
        assert!(outer.get_now("a key").is_ready(), "it is copied again");
        match &change {
            Some(change) => below.forget(change).await.expect("no failure"),
            None => below.resync(Resync::Hole).await.expect("no failure"),
        }
        trust(&below);
        assert!(outer.is_trusted());
        assert_eq!(value(&outer, "a key").await, Some(2), "{change:?}");
    }
}

#[tokio::test]
async fn an_answer_from_below_that_is_forgotten_there_meanwhile_is_not_copied() {
    let (inner, below) = over(memory());
    let slow = SlowStore::new(inner.clone());
    let (outer, _) = over(slow.clone());
    for round in 0..1000 {
        inner.put("key", 1, MINUTE).await.expect("no failure");
        let gate = slow.hold_answer(Operation::Get);
        let reader = tokio::spawn({
            let outer = outer.clone();
            async move { value(&outer, "key").await }
        });
        gate.arrived(1).await;
        inner.far().put("key", 2, MINUTE).await.expect("no failure");
        below.forget(&Change::key("key")).await.expect("no failure");
        gate.open();
        assert_eq!(reader.await.expect("no panic"), Some(1));
        assert_eq!(value(&outer, "key").await, Some(2), "in round {round}");
        above_only(&outer).await;
    }
}

/// Forgets what is near, and nothing else.
async fn above_only<F: CacheStore<Value = u64>>(outer: &Tiered<MemoryStore<u64>, F>) {
    outer.near().clear().await.expect("no failure");
}

/// Eight bytes.
struct Plain;

impl Codec<u64> for Plain {
    fn encode(&self, value: &u64) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    fn decode(&self, bytes: &Bytes) -> Result<u64> {
        let bytes = bytes[..].try_into().map_err(|_| Error::new(ErrorKind::Codec))?;
        Ok(u64::from_be_bytes(bytes))
    }
}

#[tokio::test]
async fn wrappers_between_the_levels_hand_it_on_in_their_own_spelling() {
    let (sender, near) = std::sync::mpsc::channel();
    let bytes = Tiered::builder(MemoryStore::<Bytes>::new(100), MemoryStore::new(100));
    let bytes = bytes.coherent_by(ByHand(sender)).build().expect("valid options");
    let below = near.recv().expect("it is handed over");
    trust(&below);
    let far = bytes.namespaced("shop").shared().namespaced("a:b").encoded::<_, u64>(Plain);
    let far = RecordingStore::new(Arc::new(FailingStore::new(SlowStore::new(far))));
    // In between a level that nobody tells of anything.
    let outer = Tiered::new(memory(), Tiered::new(memory(), far));
    let is_near = |key| outer.get_now(key).is_ready();
    for (change, goes, stays) in [
        (Change::keys(["shop:a%3Ab:1", "2"]), "1", "2"),
        (Change::keys(["1", "shop:1", "shop:other:1"]), "none", "1"),
        (Change::Prefix("shop:a%3Ab:1".into()), "1", "2"),
        (Change::Prefix("other".into()), "none", "1"),
        (Change::Prefix("shop".into()), "1", "none"),
        (Change::Clear, "2", "none"),
    ] {
        for key in ["1", "2"] {
            outer.put(key, 1, MINUTE).await.expect("no failure");
            assert!(is_near(key));
        }
        below.forget(&change).await.expect("no failure");
        assert!(goes == "none" || !is_near(goes), "{change:?}");
        assert!(stays == "none" || is_near(stays), "{change:?}");
    }
}

#[tokio::test]
async fn nobody_is_trusted_for_longer_than_those_below() {
    let (clock, hands) = Clock::manual();
    let second = Duration::from_secs(1);
    let (sender, near) = std::sync::mpsc::channel();
    let inner = Tiered::builder(memory(), memory()).clock(clock).coherent_by(ByHand(sender));
    let inner = inner.build().expect("valid options");
    let below = near.recv().expect("it is handed over");
    let middle = Tiered::new(memory(), inner.clone());
    let (outer, above) = over(middle.clone());
    assert!(!outer.is_trusted() && !middle.is_trusted(), "those below have heard of nothing yet");
    let trust_below = || below.trust(below.now().expect("it is alive"), second);
    trust_below();
    assert!(outer.is_trusted() && middle.is_trusted());

    outer.put("key", 1, MINUTE).await.expect("no failure");
    inner.far().put("key", 2, MINUTE).await.expect("no failure");
    hands.advance(second - Duration::from_millis(10));
    assert_eq!(value(&outer, "key").await, Some(1), "nobody knows");
    hands.advance(Duration::from_millis(10));
    assert!(!outer.is_trusted() && !middle.is_trusted(), "their time is over");
    trust(&above);
    assert!(!outer.is_trusted(), "whatever it hears itself");
    assert_eq!(value(&outer, "key").await, Some(2));

    trust_below();
    assert!(outer.is_trusted());
    below.distrust();
    assert!(!outer.is_trusted() && !middle.is_trusted());
    trust_below();
    above.distrust();
    assert!(middle.is_trusted() && !outer.is_trusted(), "nor is it because they are");
    below.distrust();
    trust_below();
    assert!(!outer.is_trusted());
    trust(&above);
    assert!(outer.is_trusted());
}

#[tokio::test]
async fn what_is_forgotten_by_hand_is_forgotten_above() {
    let inner = Tiered::new(memory(), memory());
    let outer = Tiered::new(memory(), inner.clone());
    outer.put("key", 1, MINUTE).await.expect("no failure");
    inner.far().put("key", 2, MINUTE).await.expect("no failure");
    inner.forget_near().await.expect("no failure");
    assert_eq!(value(&outer, "key").await, Some(2));
}

#[tokio::test]
async fn own_writes_through_all_levels_stay_near_in_all() {
    let bus = LocalBus::new(1024);
    let patient = || Broadcast::over(bus.clone()).heartbeat(MINUTE / 120).trust(MINUTE);
    let inner = Tiered::builder(memory(), memory()).coherent_by(patient()).build();
    let outer = Tiered::new(memory(), inner.expect("valid options"));
    outer.trusted().await;
    for number in 0..100 {
        outer.put("key", number, MINUTE).await.expect("no failure");
        while outer.far().snapshot().published <= number {
            tokio::task::yield_now().await;
        }
        assert!(outer.near().get_now("key").is_ready());
        assert_eq!(value(&outer, "key").await, Some(number));
    }
    assert_eq!(outer.snapshot().dropped_by_others, 0);
}

/// Near copies of entries that were valid by near copies of marks.
#[tokio::test]
async fn a_copy_of_an_entry_does_not_outlive_the_copies_of_its_marks() {
    let (sender, near) = std::sync::mpsc::channel();
    let marks = NearMarks::new(MemoryMarks::new(), ByHand(sender)).expect("valid options");
    let below = near.recv().expect("it is handed over");
    let far = MemoryStore::<Marked<u64>>::new(100)
        .tagged(marks.clone(), |_: &str, _: Option<&u64>| ["tag"]);
    let (outer, above) = over(far.clone());
    assert!(!outer.is_trusted(), "the marks are not either");
    trust(&below);
    for all in [false, true] {
        outer.put("key", 1, MINUTE).await.expect("no failure");
        assert!(outer.get_now("key").is_ready());
        marks.far().invalidate_of("tag", all).await;
        let told = if all { Change::Clear } else { Change::tag("tag") };
        above.forget(&told).await.expect("no failure");
        assert_eq!(value(&outer, "key").await, Some(1), "the copy of the mark is still old");
        assert!(outer.get_now("key").is_ready());
        below.forget(&told).await.expect("no failure");
        assert_eq!(value(&outer, "key").await, None);
    }
    below.distrust();
    assert!(!outer.is_trusted());
    far.invalidate_tags(&["tag"]).await.expect("no failure");
}

/// Who has a handle to the marks invalidates by it, without the store.
#[tokio::test]
async fn a_copy_of_an_entry_goes_with_its_tags_whoever_invalidates_them() {
    use cache_core::Marks;
    let (sender, near) = std::sync::mpsc::channel();
    let marks = NearMarks::new(MemoryMarks::new(), ByHand(sender)).expect("valid options");
    trust(&near.recv().expect("it is handed over"));
    let far = MemoryStore::<Marked<u64>>::new(100)
        .tagged(marks.clone(), |_: &str, _: Option<&u64>| ["tag"])
        .namespaced("shop");
    let middle = Tiered::new(memory(), far);
    let outer = Tiered::new(memory(), middle.clone());
    for all in [false, true] {
        outer.put("key", 1, MINUTE).await.expect("no failure");
        assert!(outer.get_now("key").is_ready() && middle.get_now("key").is_ready());
        let invalidated =
            if all { marks.invalidate_all().await } else { marks.invalidate(&["tag"]).await };
        invalidated.expect("no failure");
        assert!(outer.get_now("key").is_pending() && middle.get_now("key").is_pending());
        assert_eq!(value(&outer, "key").await, None);
    }
    assert_eq!(middle.snapshot().dropped_by_others, 0);
}

#[test]
fn tags_are_invalidated_at_all_levels_also_without_a_runtime() {
    use cache_core::Marks;
    use futures_util::FutureExt;
    let (sender, near) = std::sync::mpsc::channel();
    let marks = NearMarks::new(MemoryMarks::new(), ByHand(sender)).expect("valid options");
    trust(&near.recv().expect("it is handed over"));
    let far = MemoryStore::<Marked<u64>>::new(100)
        .tagged(marks.clone(), |_: &str, _: Option<&u64>| ["tag"]);
    let outer = Tiered::new(memory(), Tiered::new(memory(), far));
    outer.put("key", 1, MINUTE).now_or_never().expect("at once").expect("no failure");
    marks.invalidate(&["tag"]).now_or_never().expect("at once").expect("no failure");
    assert!(outer.get_now("key").is_pending());
}

trait InvalidateOf {
    async fn invalidate_of(&self, tag: &str, all: bool);
}

impl InvalidateOf for MemoryMarks {
    async fn invalidate_of(&self, tag: &str, all: bool) {
        use cache_core::Marks;
        let invalidated =
            if all { self.invalidate_all().await } else { self.invalidate(&[tag]).await };
        invalidated.expect("no failure");
    }
}

/// Each level on a bus of its own, whose messages come when they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_storm_of_writes_no_level_keeps_an_old_value() {
    const KEYS: u64 = 300;
    const ROUNDS: u64 = 60;
    let (inner_bus, outer_bus, far) = (LocalBus::new(1 << 16), LocalBus::new(1 << 16), memory());
    let process = || {
        // So patient that a busy machine does not matter.
        let patient = |bus: &LocalBus| Broadcast::over(bus.clone()).trust(60 * MINUTE);
        let inner = Tiered::builder(memory(), far.clone()).coherent_by(patient(&inner_bus));
        let inner = inner.build().expect("valid options");
        Tiered::builder(memory(), inner).coherent_by(patient(&outer_bus)).build().expect("valid")
    };
    let (writer, reader) = (process(), process());
    writer.trusted().await;
    reader.trusted().await;
    let done = Arc::new(AtomicBool::new(false));
    let reading: Vec<_> = (0..2)
        .map(|_| {
            let (reader, done) = (reader.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(SeqCst) {
                    for key in 0..KEYS {
                        reader.get(&key.to_string()).await.expect("an answer");
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 1..=ROUNDS {
        for key in 0..KEYS {
            writer.put(&key.to_string(), round, 10 * MINUTE).await.expect("no failure");
            if key % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        // A copy that is old when all messages have come stays for longer than this waits.
        let right = async {
            while wrong(&reader, KEYS, round).await + wrong(reader.far(), KEYS, round).await > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let late = tokio::time::timeout(MINUTE / 2, right).await.is_err();
        assert!(!late, "{} old copies in round {round}", wrong(&reader, KEYS, round).await);
    }
    done.store(true, SeqCst);
    for reading in reading {
        reading.await.expect("no panic");
    }
    assert!(reader.snapshot().copies > KEYS && reader.far().snapshot().copies > KEYS);
}

async fn wrong(store: &impl CacheStore<Value = u64>, keys: u64, right: u64) -> usize {
    let mut wrong = 0;
    for key in 0..keys {
        wrong += usize::from(value(store, &key.to_string()).await != Some(right));
    }
    wrong
}

/// By key, a server tells of what has been read alone, so what is written below is unknown to it.
#[tokio::test]
async fn what_is_not_to_be_copied_below_is_not_copied_above() {
    let (inner, near) = over(memory());
    let middle = Tiered::new(memory(), inner.namespaced("shop"));
    let (outer, above) = over(middle.clone());
    let write = async |key: &str| {
        outer.put(key, 1, MINUTE).await.expect("no failure");
        (outer.get_now(key).is_ready(), middle.get_now(key).is_ready())
    };
    assert_eq!(write("before").await, (true, true));
    near.copy_only_reads(true);
    assert_eq!(write("key").await, (false, false));
    assert_eq!(value(&outer, "key").await, Some(1));
    assert!(outer.get_now("key").is_ready(), "what has been read is");
    let late = Tiered::new(memory(), middle.clone());
    late.put("late", 1, MINUTE).await.expect("no failure");
    assert!(late.get_now("late").is_pending(), "also not by who comes later");

    // What keeps the outer ones says the same, and takes it back.
    above.copy_only_reads(true);
    above.copy_only_reads(false);
    assert_eq!(write("another").await, (false, false));
    above.copy_only_reads(true);
    near.copy_only_reads(false);
    assert_eq!(write("third").await, (false, true));
    above.copy_only_reads(false);
    assert_eq!(write("fourth").await, (true, true));
}

/// Entries whose marks are copied, and are not to be copied before they have been read.
#[tokio::test]
async fn what_marks_are_not_to_copy_is_not_copied_above_either() {
    let (sender, near) = std::sync::mpsc::channel();
    let marks = NearMarks::new(MemoryMarks::new(), ByHand(sender)).expect("valid options");
    let below = near.recv().expect("it is handed over");
    trust(&below);
    below.copy_only_reads(true);
    let far =
        MemoryStore::<Marked<u64>>::new(100).tagged(marks, |_: &str, _: Option<&u64>| ["tag"]);
    let (outer, _) = over(far);
    outer.put("key", 1, MINUTE).await.expect("no failure");
    assert!(outer.get_now("key").is_pending());
    assert_eq!(value(&outer, "key").await, Some(1));
    assert!(outer.get_now("key").is_ready());
}
