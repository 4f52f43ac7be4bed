//! Near copies of marks, and of the entries that they guard, in two processes on one bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    Broadcast, CacheAside, CacheStore, CacheStoreExt, Change, Codec, Encoded, Error, ErrorKind,
    LocalBus, Marked, Marks, MemoryMarks, NearMarks, ReadOptions, Result, Stamp, TagStore, Tagged,
    TaggedCodec, Tiered, feed,
};
use cache_memory::MemoryStore;
use futures_util::stream;
use tokio::sync::{Notify, watch};

const MINUTE: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_millis(20);

/// Marks of somebody else's making, which can be out of reach.
#[derive(Clone)]
struct Elsewhere {
    marks: MemoryMarks,
    down: Arc<AtomicBool>,
    /// The second half of what is to be invalidated is refused.
    half: Arc<AtomicBool>,
}

impl Elsewhere {
    fn up(&self) -> Result<()> {
        match self.down.load(SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable)),
            false => Ok(()),
        }
    }
}

impl Marks for Elsewhere {
    async fn epoch(&self) -> Result<u64> {
        self.marks.epoch().await
    }

    async fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        self.marks.stamp(tags, since, life).await
    }

    async fn generations(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        self.marks.generations(tags).await
    }

    async fn invalidate(&self, tags: &[&str]) -> Result<()> {
        self.up()?;
        if self.half.load(SeqCst) {
            self.marks.invalidate(&tags[..tags.len() / 2]).await?;
            return Err(Error::new(ErrorKind::Store));
        }
        self.marks.invalidate(tags).await
    }

    async fn invalidate_all(&self) -> Result<()> {
        self.up()?;
        self.marks.invalidate_all().await
    }
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

type Near = MemoryStore<Marked<u64>>;
type Far = Encoded<MemoryStore<Bytes>, TaggedCodec<Plain>, Marked<u64>>;
type Store = Tagged<Tiered<Near, Far>, NearMarks<Elsewhere>, u64>;

/// Two processes; the tag of a key is the key.
struct Fleet {
    here: Store,
    there: Store,
    down: Arc<AtomicBool>,
    half: Arc<AtomicBool>,
}

async fn fleet() -> Fleet {
    let (bus, far) = (LocalBus::new(1024), MemoryStore::new(10_000));
    let (down, half) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let marks = MemoryMarks::new();
    let marks = Elsewhere { marks, down: Arc::clone(&down), half: Arc::clone(&half) };
    let process = || {
        let broadcast =
            || Broadcast::over(bus.clone()).heartbeat(BEAT).trust(MINUTE).max_pending(10);
        let far = far.clone().encoded(TaggedCodec::new(Plain));
        let tiers = Tiered::builder(Near::new(10_000), far).coherent_by(broadcast());
        let marks = NearMarks::new(marks.clone(), broadcast()).expect("valid options");
        let tag = |key: &str, _: Option<&u64>| [key.to_owned()];
        tiers.build().expect("valid options").tagged(marks, tag)
    };
    let (here, there) = (process(), process());
    for store in [&here, &there] {
        store.inner().trusted().await;
        store.marks().trusted().await;
        // Each of the four hears of the other three.
        eventually(|| store.inner().snapshot().peers == 3 && store.marks().snapshot().peers == 3)
            .await;
    }
    Fleet { here, there, down, half }
}

/// Waits for what happens sooner or later; time is paused, so it takes none.
async fn eventually(mut condition: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never");
}

impl Fleet {
    /// Has these near in both processes, and their marks.
    async fn share(&self, keys: &[&str]) {
        for key in keys {
            self.there.put(key, 1, MINUTE).await.expect("no failure");
            // So that these changes do not wait for each other.
            tokio::time::sleep(BEAT / 10).await;
        }
        tokio::time::sleep(4 * BEAT).await;
        for key in keys {
            assert_eq!(self.here.value(key).await.expect("an answer"), Some(1));
            assert!(self.is_near(key) && self.there.get_now(key).is_ready(), "{key}");
        }
    }

    fn is_near(&self, key: &str) -> bool {
        self.here.get_now(key).map(|entry| entry.is_some()).is_ready()
    }

    async fn gone(&self, key: &str) -> bool {
        let of = async |store: &Store| store.value(key).await.expect("an answer").is_none();
        of(&self.here).await && of(&self.there).await
    }
}

#[tokio::test(start_paused = true)]
async fn tags_that_are_fed_to_one_process_reach_the_near_copies_of_another() {
    let fleet = fleet().await;
    fleet.share(&["a", "b", "c", "d"]).await;
    let cache = CacheAside::new(fleet.there.clone(), ReadOptions::ttl(MINUTE));
    let cache = cache.expect("valid options");
    let messages = [(1, Change::tags(["a", "b"])), (2, Change::key("c"))];
    let mut told = Vec::new();
    let fed = feed(&cache, stream::iter(messages), 4, |token, result| {
        told.push((token, result.is_ok()));
    });
    assert_eq!(fed.await.applied, 2);
    assert_eq!(told, [(1, true), (2, true)]);
    eventually(|| !fleet.is_near("a") && !fleet.is_near("b") && !fleet.is_near("c")).await;
    for key in ["a", "b", "c"] {
        assert!(fleet.gone(key).await, "{key}");
    }
    assert!(fleet.is_near("d"), "and nothing else");
    let (tiers, marks) = (fleet.here.inner().snapshot(), fleet.here.marks().snapshot());
    assert_eq!((tiers.missing, marks.missing, tiers.undecodable), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn all_tags_together_can_be_invalidated() {
    let fleet = fleet().await;
    fleet.share(&["a", "b"]).await;
    fleet.there.marks().invalidate_all().await.expect("no failure");
    assert_eq!(fleet.there.value("a").await.expect("an answer"), None, "its own are gone at once");
    eventually(|| !fleet.is_near("a") && !fleet.is_near("b")).await;
    assert!(fleet.gone("a").await && fleet.gone("b").await);
    fleet.share(&["a", "b"]).await;
}

#[tokio::test(start_paused = true)]
async fn more_tags_than_can_wait_for_their_marks_are_all_made_up_for() {
    let fleet = fleet().await;
    let keys: Vec<String> = (0..30).map(|key| format!("key {key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    fleet.share(&keys).await;
    fleet.down.store(true, SeqCst);
    for key in &keys {
        let failed = fleet.there.invalidate_tags(&[key]).await.expect_err("out of reach");
        assert_eq!(failed.kind(), ErrorKind::Unavailable);
    }
    fleet.down.store(false, SeqCst);
    // Ten can wait, of thirty.
    eventually(|| fleet.there.marks().snapshot().overflows > 0).await;
    eventually(|| fleet.there.marks().snapshot().pending == 0).await;
    eventually(|| keys.iter().all(|key| !fleet.is_near(key))).await;
    for key in keys {
        assert!(fleet.gone(key).await, "{key}");
    }
}

/// Marks whose answers can be held.
#[derive(Clone)]
struct Held {
    marks: MemoryMarks,
    hold: Arc<watch::Sender<bool>>,
    arrived: Arc<Notify>,
}

impl Held {
    async fn pass(&self) {
        if *self.hold.borrow() {
            self.arrived.notify_one();
            // It lives as long as this does.
            let _ = self.hold.subscribe().wait_for(|hold| !hold).await;
        }
    }
}

impl Marks for Held {
    async fn epoch(&self) -> Result<u64> {
        self.marks.epoch().await
    }

    async fn stamp(
        &self,
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
    ) -> Result<Option<Vec<Stamp>>> {
        let stamps = self.marks.stamp(tags, since, life).await;
        self.pass().await;
        stamps
    }

    async fn generations(&self, tags: &[&str]) -> Result<Vec<Option<u64>>> {
        let generations = self.marks.generations(tags).await;
        self.pass().await;
        generations
    }

    async fn invalidate(&self, tags: &[&str]) -> Result<()> {
        let invalidated = self.marks.invalidate(tags).await;
        self.pass().await;
        invalidated
    }

    async fn invalidate_all(&self) -> Result<()> {
        self.marks.invalidate_all().await
    }
}

/// The answer of the marks is held while another process invalidates the tag, and its message comes.
#[tokio::test]
async fn an_answer_of_the_marks_that_an_invalidation_overtakes_is_not_copied() {
    let (bus, far) = (LocalBus::new(1 << 16), MemoryMarks::new());
    // So patient that a busy machine does not matter.
    let patient = || Broadcast::over(bus.clone()).heartbeat(MINUTE / 120).trust(MINUTE);
    let held = Held { marks: far.clone(), hold: Arc::default(), arrived: Arc::default() };
    let here = NearMarks::new(held.clone(), patient()).expect("valid options");
    let there = NearMarks::new(far.clone(), patient()).expect("valid options");
    here.trusted().await;
    there.trusted().await;
    let (mut stale, mut known) = (0, 0);
    for round in 0..1000 {
        let tag = format!("tag {round}");
        let old = far.stamp(&[&tag], None, MINUTE).await.expect("an answer").expect("stamps");
        // As it is read from bytes: it has not met its mark yet.
        let old = || [Stamp::new(&tag, old[0].generation())];
        held.hold.send_replace(true);
        let asked = tokio::spawn({
            let (here, tag) = (here.clone(), tag.clone());
            async move {
                match round % 2 {
                    0 => here.generations(&[&tag]).await.map(drop),
                    _ => here.stamp(&[&tag], None, MINUTE).await.map(drop),
                }
            }
        });
        held.arrived.notified().await;
        let heard = here.snapshot().dropped_by_others;
        there.invalidate(&[&tag]).await.expect("no failure");
        while here.snapshot().dropped_by_others == heard {
            tokio::task::yield_now().await;
        }
        held.hold.send_replace(false);
        asked.await.expect("no panic").expect("an answer");
        stale += usize::from(here.holds_now(&old()) == Poll::Ready(true));
        // What is asked afterwards is copied.
        here.generations(&[&tag]).await.expect("an answer");
        known += usize::from(here.holds_now(&old()) == Poll::Ready(false));
    }
    assert_eq!((stale, known), (0, 1000), "of 1000 rounds");
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_near_marks_waits_until_others_can_hear_of_every_tag() {
    let fleet = fleet().await;
    fleet.share(&["a", "b"]).await;
    fleet.there.invalidate_tags(&["a"]).await.expect("no failure");
    assert_eq!(fleet.there.marks().flush(MINUTE).await, 0);
    assert_eq!(fleet.there.marks().snapshot().published, 1);
    fleet.down.store(true, SeqCst);
    fleet.there.invalidate_tags(&["b"]).await.expect_err("out of reach");
    assert_eq!(fleet.there.marks().flush(10 * BEAT).await, 1);
    fleet.down.store(false, SeqCst);
    assert_eq!(fleet.there.marks().flush(MINUTE).await, 0);
    eventually(|| !fleet.is_near("a") && !fleet.is_near("b")).await;
    assert!(fleet.gone("a").await && fleet.gone("b").await);
}

#[tokio::test(start_paused = true)]
async fn of_tags_that_were_refused_together_some_may_have_been_invalidated() {
    let fleet = fleet().await;
    fleet.share(&["a", "b"]).await;
    fleet.half.store(true, SeqCst);
    let failed = fleet.there.invalidate_tags(&["a", "b"]).await.expect_err("one is refused");
    assert_eq!(failed.kind(), ErrorKind::Store);
    eventually(|| !fleet.is_near("a")).await;
    assert!(fleet.gone("a").await && !fleet.gone("b").await);
    assert_eq!(fleet.there.marks().flush(MINUTE).await, 0, "it is not tried again");
}

#[tokio::test]
async fn an_invalidation_that_is_dropped_on_its_way_leaves_no_copy_in_front_of_the_marks() {
    let held = Held { marks: MemoryMarks::new(), hold: Arc::default(), arrived: Arc::default() };
    let patient = Broadcast::over(LocalBus::new(64)).trust(60 * MINUTE);
    let marks = NearMarks::new(held.clone(), patient).expect("valid options");
    let far = Near::new(10).tagged(marks.clone(), |_: &str, _: Option<&u64>| ["tag"]);
    let outer = Tiered::new(MemoryStore::new(10), far);
    outer.trusted().await;
    outer.put("key", 1, MINUTE).await.expect("no failure");
    assert!(outer.get_now("key").is_ready());
    held.hold.send_replace(true);
    let invalidation = tokio::spawn(async move { marks.invalidate(&["tag"]).await });
    held.arrived.notified().await;
    invalidation.abort();
    assert!(invalidation.await.is_err());
    held.hold.send_replace(false);
    assert!(outer.get_now("key").is_pending());
    assert_eq!(outer.value("key").await.expect("an answer"), None);
}
