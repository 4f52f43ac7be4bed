//! What becomes of near tiers when the bus that keeps them coherent fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::{FailingStore, Operation};
use cache_core::{
    Broadcast, Bus, CacheStore, CacheStoreExt, Clock, Delivery, Error, ErrorKind, LocalBus,
    LocalSubscription, ManualClock, MemoryMarks, Result, Resync, SetOptions, Subscription, Tiered,
};
use cache_memory::MemoryStore;

const MINUTE: Duration = Duration::from_secs(60);

/// The kinds of messages of a heartbeat, and of keys.
const HEARTBEAT: u8 = 0;
const KEYS: u8 = 1;

type Tiers = Tiered<MemoryStore<u64>, FailingStore<MemoryStore<u64>>>;

/// One process's way to a bus, on which a test lets things go wrong.
#[derive(Clone)]
struct Faulty {
    bus: LocalBus,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// What is sent gets lost.
    mute: AtomicBool,
    /// What is sent is refused.
    down: AtomicBool,
    /// So many changes are sent, if it is not zero, and then it is down.
    last: AtomicUsize,
    /// So many of the messages that come are lost.
    lose: AtomicUsize,
    /// Nothing can be sent or listened to, for a reason.
    refuses: AtomicBool,
    /// Nothing comes.
    deaf: AtomicBool,
    /// What comes waits meanwhile.
    held: tokio::sync::watch::Sender<bool>,
    /// Subscriptions end when this changes.
    cuts: tokio::sync::watch::Sender<usize>,
    sent: AtomicUsize,
    /// The kinds of what was sent.
    said: Mutex<Vec<u8>>,
}

struct FaultySubscription {
    subscription: LocalSubscription,
    faults: Arc<Faults>,
    cuts: tokio::sync::watch::Receiver<usize>,
    /// What has come and waits.
    kept: Option<Delivery>,
}

impl Faulty {
    fn new(bus: &LocalBus) -> Self {
        Self { bus: bus.clone(), faults: Arc::default() }
    }
}

impl Faults {
    fn permit(&self, what: &str) -> Result<()> {
        match self.refuses.load(SeqCst) {
            true => Err(Error::with_cause(ErrorKind::Store, format!("NOPERM of {what}"))),
            false => Ok(()),
        }
    }
}

impl Bus for Faulty {
    type Subscription = FaultySubscription;

    async fn publish(&self, message: Bytes) -> Result<()> {
        if self.faults.down.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable));
        }
        self.faults.permit("publishing")?;
        self.faults.sent.fetch_add(1, SeqCst);
        self.faults.said.lock().expect("no panic").push(message[3]);
        if message[3] != HEARTBEAT && self.faults.last.load(SeqCst) > 0 {
            let left = self.faults.last.fetch_sub(1, SeqCst) - 1;
            self.faults.down.store(left == 0, SeqCst);
        }
        if self.faults.mute.load(SeqCst) {
            return Ok(());
        }
        self.bus.publish(message).await
    }

    async fn subscribe(&self) -> Result<FaultySubscription> {
        self.faults.permit("listening")?;
        let subscription = self.bus.subscribe().await?;
        let cuts = self.faults.cuts.subscribe();
        Ok(FaultySubscription { subscription, faults: Arc::clone(&self.faults), cuts, kept: None })
    }
}

impl Subscription for FaultySubscription {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            if self.kept.is_none() {
                self.kept = Some(tokio::select! {
                    next = self.subscription.next() => next?,
                    _ = self.cuts.changed() => return Err(Error::new(ErrorKind::Unavailable)),
                });
            }
            let _ = self.faults.held.subscribe().wait_for(|held| !held).await;
            let Some(next) = self.kept.take() else { continue };
            let lost = |left: usize| left.checked_sub(1);
            if self.faults.deaf.load(SeqCst)
                || self.faults.lose.fetch_update(SeqCst, SeqCst, lost).is_ok()
            {
                continue;
            }
            return Ok(next);
        }
    }
}

/// Two processes on one far store.
struct Fleet {
    bus: LocalBus,
    here: Tiers,
    there: Tiers,
    faults: Arc<Faults>,
    theirs: Arc<Faults>,
}

const BEAT: Duration = Duration::from_millis(20);

/// Trust goes by the system's clock, also while a test has its own time: so much of it that a busy machine does not matter.
const PATIENT: Duration = Duration::from_secs(60);

async fn fleet() -> Fleet {
    fleet_with(|broadcast| broadcast.heartbeat(BEAT).trust(PATIENT)).await
}

async fn fleet_with(options: impl Fn(Broadcast<Faulty>) -> Broadcast<Faulty>) -> Fleet {
    let (bus, far) = (LocalBus::new(64), MemoryStore::new(10_000));
    let process = || {
        let faulty = Faulty::new(&bus);
        let faults = Arc::clone(&faulty.faults);
        let far = FailingStore::new(far.clone());
        let tiers = Tiered::builder(MemoryStore::new(10_000), far);
        let tiers = tiers.coherent_by(options(Broadcast::over(faulty)));
        (tiers.build().expect("valid options"), faults)
    };
    let ((here, faults), (there, theirs)) = (process(), process());
    here.trusted().await;
    there.trusted().await;
    let fleet = Fleet { bus, here, there, faults, theirs };
    // Until they know each other, so that nobody is a newcomer later.
    eventually(|| fleet.here.snapshot().peers == 1 && fleet.there.snapshot().peers == 1).await;
    fleet
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

async fn value(tiers: &Tiers, key: &str) -> Option<u64> {
    tiers.value(key).await.expect("an answer")
}

impl Fleet {
    /// Both have this near.
    async fn share(&self, key: &str, number: u64) {
        self.there.put(key, number, MINUTE).await.expect("no failure");
        self.settled().await;
        assert_eq!(value(&self.here, key).await, Some(number));
        assert_eq!(self.here.near().value(key).await.expect("an answer"), Some(number));
    }

    /// Waits until all that has been published has come.
    async fn settled(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn resyncs(&self, reason: Resync) -> u64 {
        self.here.snapshot().resyncs(reason)
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_process_changes_leaves_the_near_tier_of_the_other() {
    let fleet = fleet().await;
    for number in 0..100 {
        let key = format!("key {number}");
        fleet.share(&key, number).await;
        match number % 4 {
            0 => fleet.there.remove(&key).await.expect("no failure"),
            1 => fleet.there.remove_prefix("key").await.expect("no failure"),
            2 => fleet.there.clear().await.expect("no failure"),
            _ => fleet.there.put(&key, 1000, MINUTE).await.expect("no failure"),
        }
        fleet.settled().await;
        assert!(fleet.here.get_now(&key).is_pending(), "{key}");
    }
    let snapshot = fleet.here.snapshot();
    assert_eq!(snapshot.resyncs.iter().sum::<u64>(), 1, "only when it was connected");
    assert_eq!((snapshot.missing, snapshot.undecodable), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_drops_its_own_fresh_writes() {
    let fleet = fleet().await;
    for number in 0..100 {
        fleet.here.put("key", number, MINUTE).await.expect("no failure");
        fleet.settled().await;
        assert!(fleet.here.get_now("key").is_ready());
    }
    assert_eq!(fleet.here.snapshot().dropped_by_others, 0, "no echo");
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_noticed_by_the_number_of_the_next() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    fleet.faults.lose.store(1, SeqCst);
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    fleet.settled().await;
    assert_eq!(value(&fleet.here, "key").await, Some(1), "the message is lost");
    fleet.there.remove("another").await.expect("no failure");
    fleet.settled().await;
    assert_eq!(value(&fleet.here, "key").await, Some(2));
    assert_eq!((fleet.resyncs(Resync::Hole), fleet.here.snapshot().missing), (1, 1));
    assert!(fleet.here.is_trusted(), "and it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_lost_last_message_is_noticed_by_the_next_heartbeat() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    fleet.faults.lose.store(1, SeqCst);
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    eventually(|| fleet.resyncs(Resync::Hole) == 1).await;
    assert_eq!(value(&fleet.here, "key").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_near_tier_that_hears_nothing_does_not_answer() {
    let fleet = fleet_with(|broadcast| broadcast.heartbeat(BEAT).trust(50 * BEAT)).await;
    fleet.share("key", 1).await;
    fleet.faults.deaf.store(true, SeqCst);
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    // Trust goes by the system's clock, which a test can't pause.
    let late = std::time::Instant::now() + Duration::from_secs(30);
    while fleet.here.is_trusted() {
        assert!(std::time::Instant::now() < late);
        tokio::time::sleep(Duration::from_millis(1)).await;
        std::thread::sleep(Duration::from_micros(100));
    }
    assert_eq!(value(&fleet.here, "key").await, Some(2));
    let connected = fleet.resyncs(Resync::Connected);
    fleet.faults.deaf.store(false, SeqCst);
    fleet.here.trusted().await;
    assert_eq!(value(&fleet.here, "key").await, Some(2));
    // Either it came back in time, or it was emptied; what it had is gone in any case.
    assert!(fleet.resyncs(Resync::Connected) >= connected);
}

#[tokio::test(start_paused = true)]
async fn a_new_subscription_begins_with_an_empty_near_tier() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    let connected = fleet.resyncs(Resync::Connected);
    fleet.faults.deaf.store(true, SeqCst);
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    fleet.faults.cuts.send_modify(|cuts| *cuts += 1);
    fleet.faults.deaf.store(false, SeqCst);
    eventually(|| fleet.resyncs(Resync::Connected) > connected).await;
    fleet.here.trusted().await;
    assert_eq!(value(&fleet.here, "key").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_published_is_published_later() {
    let fleet = fleet().await;
    for number in 0..50 {
        fleet.share(&format!("key {number}"), 1).await;
    }
    fleet.theirs.down.store(true, SeqCst);
    for number in 0..50 {
        fleet.there.put(&format!("key {number}"), 2, MINUTE).await.expect("no failure");
    }
    eventually(|| fleet.there.snapshot().publish_failures > 3).await;
    assert!(fleet.there.snapshot().pending > 0);
    fleet.theirs.down.store(false, SeqCst);
    eventually(|| fleet.there.snapshot().pending == 0).await;
    fleet.settled().await;
    for number in 0..50 {
        assert_eq!(value(&fleet.here, &format!("key {number}")).await, Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn more_changes_than_can_wait_empty_everybodys_near_tier() {
    let fleet =
        fleet_with(|broadcast| broadcast.heartbeat(BEAT).trust(PATIENT).max_pending(10)).await;
    fleet.share("key", 1).await;
    fleet.theirs.down.store(true, SeqCst);
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    for number in 0..1000 {
        fleet.there.remove(&format!("another {number}")).await.expect("no failure");
    }
    eventually(|| fleet.there.snapshot().overflows > 0).await;
    assert!(fleet.there.snapshot().pending <= 12);
    fleet.theirs.down.store(false, SeqCst);
    eventually(|| fleet.there.snapshot().pending == 0).await;
    fleet.settled().await;
    assert_eq!(value(&fleet.here, "key").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_too_slow_knows_it() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    // Nobody else has a turn meanwhile, and the bus holds 64 messages.
    for _ in 0..1000 {
        fleet.bus.publish(Bytes::from_static(b"noise")).await.expect("no failure");
    }
    eventually(|| fleet.resyncs(Resync::Lag) == 1).await;
    assert!(fleet.here.is_trusted());
    assert!(fleet.here.near().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_falls_silent_may_have_had_something_to_say() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    fleet.theirs.mute.store(true, SeqCst);
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    eventually(|| fleet.resyncs(Resync::Silent) == 1).await;
    assert_eq!(value(&fleet.here, "key").await, Some(2));
    // And when it is back, something has been missed again.
    fleet.theirs.mute.store(false, SeqCst);
    eventually(|| fleet.resyncs(Resync::Newcomer) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_has_said_all() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    let before = fleet.here.snapshot().resyncs;
    drop(fleet.there);
    eventually(|| fleet.here.snapshot().peers == 0).await;
    tokio::time::sleep(100 * BEAT).await;
    assert_eq!(fleet.here.snapshot().resyncs, before);
}

#[tokio::test(start_paused = true)]
async fn a_process_of_which_only_the_end_is_heard_may_have_changed_something() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    let faulty = Faulty::new(&fleet.bus);
    let faults = Arc::clone(&faulty.faults);
    faults.mute.store(true, SeqCst);
    let brief = Tiered::builder(MemoryStore::new(10), fleet.there.far().clone());
    let brief = brief.coherent_by(Broadcast::over(faulty)).build().expect("valid options");
    brief.put("key", 2, MINUTE).await.expect("no failure");
    assert_eq!(brief.flush(MINUTE).await, 0);
    faults.mute.store(false, SeqCst);
    drop(brief);
    fleet.settled().await;
    assert_eq!(fleet.resyncs(Resync::Newcomer), 1);
    assert_eq!(value(&fleet.here, "key").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_message_are_counted_and_change_nothing() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    let before = fleet.here.snapshot().resyncs;
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..1000 {
        let bytes: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
        fleet.bus.publish(bytes.into()).await.expect("no failure");
        tokio::task::yield_now().await;
    }
    fleet.settled().await;
    let snapshot = fleet.here.snapshot();
    assert!(snapshot.undecodable >= 990, "{}", snapshot.undecodable);
    assert_eq!(snapshot.resyncs, before);
    assert!(fleet.here.get_now("key").is_ready());
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_version_says_may_be_about_anything() {
    let fleet = fleet().await;
    for (count, bytes) in [
        b"\xc5\x42\x02anything".as_slice(),
        b"\xc5\x42\x01\x63\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01a kind that is not known",
    ]
    .into_iter()
    .enumerate()
    {
        fleet.share("key", count as u64).await;
        fleet.bus.publish(Bytes::from_static(bytes)).await.expect("no failure");
        eventually(|| fleet.resyncs(Resync::Unknown) == count as u64 + 1).await;
        assert!(fleet.here.get_now("key").is_pending());
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_is_made_up_for_and_announced() {
    let fleet = fleet().await;
    for (key, failing) in [("a", Operation::Remove), ("b", Operation::Set), ("c", Operation::Clear)]
    {
        fleet.share(key, 1).await;
        fleet.there.far().fail(failing, ErrorKind::Unavailable);
        fleet.there.far().fail(Operation::RemoveMany, ErrorKind::Unavailable);
        let failed = match failing {
            Operation::Set => fleet.there.set(key, Some(2), SetOptions::ttl(MINUTE)).await,
            Operation::Clear => fleet.there.clear().await,
            _ => fleet.there.remove(key).await,
        };
        assert!(failed.is_err(), "{key}");
        tokio::time::sleep(20 * BEAT).await;
        assert!(fleet.there.snapshot().pending > 0, "{key}");
        assert!(fleet.here.is_trusted(), "{key}: others hear of it meanwhile");
        // Who reads now has what is still there, also near.
        assert_eq!(value(&fleet.there, key).await, Some(1), "{key}");
        fleet.there.far().heal();
        eventually(|| fleet.there.snapshot().pending == 0).await;
        fleet.settled().await;
        assert_eq!(value(&fleet.there, key).await, None, "{key}");
        assert_eq!(value(&fleet.here, key).await, None, "{key}");
    }
}

/// A removal that is tried again, a slow one, or one that is refused for ever: others hear of what comes after it.
#[tokio::test(start_paused = true)]
async fn what_others_have_to_hear_of_does_not_wait_for_a_removal_that_fails() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Store] {
        let fleet = fleet().await;
        fleet.share("key", 1).await;
        fleet.there.far().fail_times(Operation::Clear, ErrorKind::Unavailable, 1);
        assert!(fleet.there.clear().await.is_err());
        fleet.there.far().fail(Operation::Clear, kind);
        fleet.there.set("key", Some(2), SetOptions::ttl(MINUTE)).await.expect("no failure");
        eventually(|| fleet.there.snapshot().published > 0).await;
        fleet.settled().await;
        assert_eq!(value(&fleet.here, "key").await, Some(2), "{kind:?}");
        let refused = kind != ErrorKind::Unavailable;
        tokio::time::sleep(100 * BEAT).await;
        assert_eq!(fleet.there.snapshot().pending, u64::from(!refused), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_go_together() {
    let fleet = fleet().await;
    let before = fleet.theirs.sent.load(SeqCst);
    let keys: Vec<_> = (0..1000).map(|number| format!("key {number}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    fleet.there.remove_many(&keys).await.expect("no failure");
    eventually(|| fleet.there.snapshot().published >= 2).await;
    let sent = fleet.theirs.sent.load(SeqCst) - before;
    assert!(sent < 10, "{sent} messages for 1000 keys");
}

/// The far store forgets, by an eviction or a flush, and copies may be left of what it had.
#[tokio::test(start_paused = true)]
async fn a_write_is_announced_also_if_the_far_store_had_nothing() {
    use cache_core::{CacheAside, ReadOptions, Write, WriteOptions, WriteThrough};

    let fleet = fleet().await;
    fleet.share("key", 1).await;
    assert_eq!(value(&fleet.here, "key").await, Some(1));
    fleet.there.far().remove("key").await.expect("no failure");
    let inner = CacheAside::new(fleet.there.clone(), ReadOptions::ttl(MINUTE)).expect("valid");
    let writer = |_: Write<String, u64>| async { Ok::<_, Error>(()) };
    let cache = WriteThrough::new(inner, writer, WriteOptions::default()).expect("valid");
    cache.put("key", 2).await.expect("written");
    fleet.settled().await;
    assert_eq!(value(&fleet.here, "key").await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_fill_is_announced_if_it_replaces_something_or_is_a_write() {
    use cache_core::{Claim, ClaimOptions};

    let fleet = fleet().await;
    let load = async |seen, number| {
        let claim = ClaimOptions::new(MINUTE);
        let claim = match seen {
            Some(seen) => claim.refreshing(seen),
            None => claim,
        };
        let Ok(Claim::Granted(lease)) = fleet.there.claim("key", claim).await else {
            panic!("nobody else has it");
        };
        let filled = fleet.there.fill(lease, Some(number), SetOptions::ttl(MINUTE)).await;
        filled.map(|_| ()).expect("no failure");
        fleet.settled().await;
    };
    load(None, 1).await;
    assert_eq!(fleet.there.snapshot().published, 0);
    assert_eq!(value(&fleet.here, "key").await, Some(1));
    let entry = fleet.there.get("key").await.expect("an answer").expect("an entry");
    load(Some(entry.version()), 2).await;
    assert_eq!(fleet.there.snapshot().published, 1);
    assert_eq!(value(&fleet.here, "key").await, Some(2));

    // Nothing, as far as the far store knows; but it has evicted what others have near.
    fleet.there.far().remove("key").await.expect("no failure");
    let claim = ClaimOptions::new(MINUTE).writing();
    let Ok(Claim::Granted(lease)) = fleet.there.claim("key", claim).await else {
        panic!("nobody else has it");
    };
    let filled = fleet.there.fill(lease, Some(3), SetOptions::ttl(MINUTE)).await;
    filled.map(|_| ()).expect("no failure");
    fleet.settled().await;
    assert_eq!(fleet.there.snapshot().published, 2);
    assert_eq!(value(&fleet.here, "key").await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_said_on_the_bus_nobody_panics_or_grows_and_changes_arrive() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    // What the two say, with bits changed, cut off, longer, or from thousands of others.
    let mut ear = fleet.bus.subscribe().await.expect("a subscription");
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..5_000 {
        fleet.there.put(&format!("other {round}"), 1, MINUTE).await.expect("no failure");
        let Delivery::Message(said) = ear.next().await.expect("a message") else { continue };
        let mut bad = said.to_vec();
        // Its own come back as well; what is left of one that was cut off says nothing more.
        bad.resize(bad.len().max(20), 0);
        match round % 5 {
            0 => bad.truncate(random.usize(..bad.len())),
            1 => bad.extend((0..random.usize(..64)).map(|_| random.u8(..))),
            2 => bad[4..20].fill_with(|| random.u8(..)),
            3 => bad[12..20].fill(0xff),
            _ => {
                let at = random.usize(..bad.len());
                bad[at] = random.u8(..);
            }
        }
        fleet.bus.publish(bad.into()).await.expect("no failure");
        if round % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ear = fleet.bus.subscribe().await.expect("a subscription");
        }
    }
    tokio::time::sleep(10 * BEAT).await;
    for number in 2..20 {
        fleet.there.put("key", number, MINUTE).await.expect("no failure");
        let start = tokio::time::Instant::now();
        while value(&fleet.here, "key").await != Some(number) {
            assert!(start.elapsed() < MINUTE, "{:?}", fleet.here.snapshot());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let snapshot = fleet.here.snapshot();
    assert!(snapshot.peers <= 4096 && snapshot.undecodable > 0, "{snapshot:?}");
}

/// Whether they were made, nobody knows; others must not keep what they have replaced, if so.
#[tokio::test(start_paused = true)]
async fn many_writes_with_an_unknown_outcome_are_made_up_for_and_announced() {
    for made in [false, true] {
        let fleet = fleet().await;
        for key in ["a", "b", "c"] {
            fleet.share(key, 1).await;
        }
        let far = fleet.there.far();
        match made {
            true => far.lose_answers(Operation::SetMany),
            false => far.fail(Operation::SetMany, ErrorKind::Unavailable),
        }
        let entry = |key| (key, Some(2), SetOptions::ttl(MINUTE));
        let written = fleet.there.set_many(vec![entry("a"), entry("b")]).await;
        assert!(written.iter().all(Result::is_err), "{written:?}");
        assert_eq!(fleet.there.flush(MINUTE).await, 0);
        fleet.settled().await;
        for tiers in [&fleet.there, &fleet.here] {
            assert_eq!(value(tiers, "a").await, None, "made: {made}");
            assert_eq!(value(tiers, "b").await, None, "made: {made}");
            assert_eq!(value(tiers, "c").await, Some(1), "it was not written");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_news_takes_is_told() {
    let start = std::time::Instant::now();
    let fleet = fleet().await;
    for tiers in [&fleet.here, &fleet.there] {
        let lag = tiers.snapshot().lag;
        assert!(lag > Duration::ZERO && lag < start.elapsed(), "{lag:?}");
    }
}
#[tokio::test(start_paused = true)]
async fn a_flush_waits_until_others_can_hear_of_all_that_was_changed_before() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    fleet.theirs.down.store(true, SeqCst);
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    fleet.there.remove_many(&["another", "third"]).await.expect("no failure");
    assert_eq!(fleet.there.flush(10 * BEAT).await, 3, "the bus is down");
    fleet.theirs.down.store(false, SeqCst);
    assert_eq!(fleet.there.flush(Duration::MAX).await, 0);
    assert_eq!(fleet.there.snapshot().pending, 0);
    fleet.settled().await;
    assert_eq!(value(&fleet.here, "key").await, Some(2));

    // Without anybody who has a turn in between it is not on the bus yet.
    let before = fleet.theirs.sent.load(SeqCst);
    fleet.there.remove("key").await.expect("no failure");
    assert_eq!(fleet.theirs.sent.load(SeqCst), before);
    assert_eq!(fleet.there.flush(MINUTE).await, 0);
    assert!(fleet.theirs.sent.load(SeqCst) > before);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_takes_several_messages_is_sent_when_all_of_them_are() {
    let fleet = fleet().await;
    let keys: Vec<String> = (0..1200).map(|key| format!("key {key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    fleet.theirs.last.store(1, SeqCst);
    fleet.there.remove_many(&keys).await.expect("no failure");
    assert_eq!(fleet.there.flush(10 * BEAT).await, 700, "one message of three has been sent");

    // A heartbeat is due by now, which says that nothing has been changed before it that has not been said.
    fleet.theirs.said.lock().expect("no panic").clear();
    fleet.theirs.down.store(false, SeqCst);
    assert_eq!(fleet.there.flush(MINUTE).await, 0);
    assert_eq!(fleet.theirs.said.lock().expect("no panic")[..2], [KEYS, KEYS]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_nothing_keeps_no_flush_waiting() {
    let bus = LocalBus::new(64);
    let far = MemoryStore::new(100).tagged(MemoryMarks::new(), |_: &str, _: Option<&u64>| ["tag"]);
    let tiers = Tiered::builder(MemoryStore::new(100), far);
    let tiers = tiers.coherent_by(Broadcast::over(bus)).build().expect("valid options");
    tiers.remove_tagged(&[]).await.expect("no failure");
    tiers.remove_many(&[]).await.expect("no failure");
    let start = tokio::time::Instant::now();
    assert_eq!(tiers.flush(MINUTE).await, 0);
    assert_eq!((start.elapsed(), tiers.snapshot().published), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_removals_that_have_failed_and_not_for_what_comes_later() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    let far = fleet.there.far();
    far.fail(Operation::Remove, ErrorKind::Unavailable);
    far.fail(Operation::RemoveMany, ErrorKind::Unavailable);
    fleet.there.remove("key").await.expect_err("out of reach");
    assert_eq!(fleet.there.flush(10 * BEAT).await, 1);
    // Others copy it once more.
    assert_eq!(value(&fleet.here, "key").await, Some(1));
    let flushing = tokio::spawn({
        let there = fleet.there.clone();
        async move { there.flush(MINUTE).await }
    });
    tokio::time::sleep(BEAT).await;
    // What fails from now on is not its concern, but the bus takes what it takes.
    far.heal();
    far.fail(Operation::Clear, ErrorKind::Unavailable);
    fleet.there.clear().await.expect_err("out of reach");
    assert_eq!(flushing.await.expect("no panic"), 0);
    assert_eq!(fleet.there.snapshot().pending, 1);
    fleet.settled().await;
    assert!(fleet.here.get_now("key").is_pending());
    assert_eq!(value(&fleet.here, "key").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_the_tiers_are_dropped_is_announced_before_their_end() {
    for down in [false, true] {
        let fleet = fleet().await;
        fleet.share("key", 1).await;
        let before = fleet.here.snapshot().resyncs;
        fleet.theirs.down.store(down, SeqCst);
        fleet.there.put("key", 2, MINUTE).await.expect("no failure");
        if down {
            // It is being sent, again and again.
            tokio::time::sleep(BEAT).await;
        }
        let Fleet { here, there, theirs, bus, faults } = fleet;
        drop(there);
        tokio::time::sleep(BEAT).await;
        theirs.down.store(false, SeqCst);
        eventually(|| here.get_now("key").is_pending()).await;
        assert_eq!(value(&here, "key").await, Some(2));
        eventually(|| here.snapshot().peers == 0).await;
        tokio::time::sleep(100 * BEAT).await;
        assert_eq!(here.snapshot().resyncs, before, "and it has said that it ends");
        drop((bus, faults));
    }
}

#[tokio::test(start_paused = true)]
async fn tiers_that_can_t_say_all_before_their_end_fall_silent_and_wait_for_nobody() {
    let fleet = fleet().await;
    fleet.share("key", 1).await;
    fleet.theirs.down.store(true, SeqCst);
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    let Fleet { here, there, theirs, .. } = fleet;
    drop(there);
    eventually(|| here.snapshot().resyncs(Resync::Silent) == 1).await;
    assert_eq!(value(&here, "key").await, Some(2));
    // Who kept the bus for what waited has given it back by then.
    eventually(|| Arc::strong_count(&theirs) == 1).await;
    theirs.down.store(false, SeqCst);
}

/// A reader whose clock is in the hands of the test, beside somebody whose heartbeats may be slower.
struct Bound {
    here: Tiers,
    there: Tiers,
    faults: Arc<Faults>,
    theirs: Arc<Faults>,
    hands: ManualClock,
}

impl Bound {
    /// The reader trusts for four heartbeats.
    async fn new(their_beat: Duration) -> Self {
        let (bus, far) = (LocalBus::new(1024), FailingStore::new(MemoryStore::new(100)));
        let (clock, hands) = Clock::manual();
        let near = MemoryStore::builder().capacity(100).clock(clock.clone()).build();
        let here = Tiered::builder(near.expect("valid options"), far.clone()).clock(clock);
        let faulty = Faulty::new(&bus);
        let faults = Arc::clone(&faulty.faults);
        let here = here.coherent_by(Broadcast::over(faulty).heartbeat(BEAT));
        let faulty = Faulty::new(&bus);
        let theirs = Arc::clone(&faulty.faults);
        let there = Tiered::builder(MemoryStore::new(100), far);
        let there = there.coherent_by(Broadcast::over(faulty).heartbeat(their_beat));
        let [here, there] = [here, there].map(|tiers| tiers.build().expect("valid options"));
        let bound = Self { here, there, faults, theirs, hands };
        bound.pass_until(|| bound.here.is_trusted() && bound.here.snapshot().peers == 1).await;
        bound
    }

    /// A millisecond passes by all clocks.
    async fn pass(&self) {
        tokio::time::advance(Duration::from_millis(1)).await;
        self.hands.advance(Duration::from_millis(1));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    async fn pass_until(&self, mut condition: impl FnMut() -> bool) {
        for _ in 0..100_000 {
            if condition() {
                return;
            }
            self.pass().await;
        }
        panic!("never");
    }

    /// Has the reader keep a copy of what the other changes then, in a message that nobody hears. For how long is it read?
    /// What else comes is so late at that time.
    async fn behind(&self, dies: bool, late: Duration) -> Duration {
        self.there.put("key", 1, MINUTE).await.expect("no failure");
        self.pass().await;
        while self.here.get_now("key").is_pending() {
            assert_eq!(value(&self.here, "key").await, Some(1));
            self.pass().await;
        }
        self.faults.held.send_replace(!late.is_zero());
        let start = tokio::time::Instant::now();
        self.pass_until(|| start.elapsed() >= late / 2).await;
        self.theirs.mute.store(true, SeqCst);
        let published = self.there.snapshot().published;
        self.there.put("key", 2, MINUTE).await.expect("no failure");
        self.pass_until(|| self.there.snapshot().published > published).await;
        self.theirs.mute.store(dies, SeqCst);
        let mut last = Duration::ZERO;
        let changed = tokio::time::Instant::now();
        while changed.elapsed() < 300 * BEAT {
            if changed.elapsed() >= late / 2 {
                self.faults.held.send_replace(false);
            }
            if self.here.get_now("key").is_ready() {
                assert_eq!(self.here.near().value("key").await.expect("an answer"), Some(1));
                last = changed.elapsed();
            }
            self.pass().await;
        }
        last
    }
}

#[tokio::test(start_paused = true)]
async fn a_near_hit_is_behind_by_trust_at_most_whoever_publishes_and_however_it_ends() {
    for their_beat in [BEAT, 3 * BEAT, 20 * BEAT] {
        for dies in [false, true] {
            let bound = Bound::new(their_beat).await;
            let behind = bound.behind(dies, Duration::ZERO).await;
            assert!(behind <= 4 * BEAT, "{behind:?}, {their_beat:?}, dies: {dies}");
            // And it is used again.
            bound.pass_until(|| bound.here.is_trusted()).await;
            assert_eq!(value(&bound.here, "key").await, Some(2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_is_trusted_for_no_longer() {
    for late in 1..8 {
        let bound = Bound::new(BEAT).await;
        let behind = bound.behind(true, late * BEAT / 2).await;
        assert!(behind <= 4 * BEAT, "{behind:?}, {late} halves of a heartbeat late");
    }
}

#[tokio::test(start_paused = true)]
async fn while_all_goes_well_the_near_tier_is_always_used() {
    let bound = Bound::new(BEAT).await;
    let before = bound.here.snapshot();
    for _ in 0..2_000 {
        assert!(bound.here.is_trusted());
        bound.pass().await;
    }
    assert_eq!(bound.here.snapshot().resyncs, before.resyncs);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_beats_more_slowly_than_is_trusted_is_told_of() {
    let bound = Bound::new(20 * BEAT).await;
    bound.pass_until(|| bound.here.snapshot().kept_by.contains("beats every 400ms")).await;
    assert_eq!(bound.there.snapshot().kept_by, "a bus");
    // It is used for as long as that one is trusted after each of its heartbeats, and not emptied.
    let before = bound.here.snapshot().resyncs;
    let mut trusted = 0;
    for _ in 0..2_000 {
        trusted += usize::from(bound.here.is_trusted());
        bound.pass().await;
    }
    assert!((200..=500).contains(&trusted), "{trusted} of 2000 ms");
    assert_eq!(bound.here.snapshot().resyncs, before);
}

#[tokio::test(start_paused = true)]
async fn why_a_bus_fails_is_told_until_it_does_not() {
    // That nothing comes back shows after twice the trust.
    let fleet = fleet_with(|broadcast| broadcast.heartbeat(BEAT).trust(50 * BEAT)).await;
    let kept_by = || fleet.there.snapshot().kept_by;
    assert_eq!(kept_by(), "a bus");
    fleet.theirs.refuses.store(true, SeqCst);
    eventually(|| kept_by().contains("NOPERM of publishing")).await;
    // Until then it hears, but not itself.
    eventually(|| kept_by().contains("nothing comes back")).await;
    assert!(kept_by().contains("NOPERM of publishing"), "{}", kept_by());
    eventually(|| kept_by().contains("NOPERM of listening")).await;
    assert!(kept_by().contains("NOPERM of publishing"), "{}", kept_by());
    fleet.theirs.refuses.store(false, SeqCst);
    eventually(|| kept_by() == "a bus").await;
    fleet.there.trusted().await;
}

#[tokio::test(start_paused = true)]
async fn a_trust_without_end_is_no_panic() {
    let fleet = fleet_with(|broadcast| broadcast.heartbeat(BEAT).trust(Duration::MAX)).await;
    tokio::time::sleep(100 * BEAT).await;
    fleet.share("key", 1).await;
    fleet.there.put("key", 2, MINUTE).await.expect("no failure");
    eventually(|| fleet.here.get_now("key").is_pending()).await;
    assert!(fleet.here.is_trusted() && fleet.here.snapshot().peers == 1);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_goes_after_what_was_changed_before_it() {
    let bus = LocalBus::new(64);
    let mut ear = bus.subscribe().await.expect("a subscription");
    let tiers = Tiered::builder(MemoryStore::<u64>::new(10), MemoryStore::new(10));
    let tiers = tiers.coherent_by(Broadcast::over(bus)).build().expect("valid options");
    tiers.remove("key").await.expect("no failure");
    // The kinds of a change and of a heartbeat.
    for kind in [1, 0] {
        let Delivery::Message(message) = ear.next().await.expect("a message") else {
            panic!("nothing is missing");
        };
        assert_eq!(message[3], kind);
    }
}

#[tokio::test(start_paused = true)]
async fn publishers_have_other_names_also_in_copies_of_a_process() {
    let publisher = async || {
        let bus = LocalBus::new(64);
        let mut ear = bus.subscribe().await.expect("a subscription");
        // As after a fork, which copies the state of the generator.
        fastrand::seed(7);
        let tiers = Tiered::builder(MemoryStore::<u64>::new(10), MemoryStore::new(10));
        let tiers = tiers.coherent_by(Broadcast::over(bus)).build();
        let Delivery::Message(message) = ear.next().await.expect("a message") else {
            panic!("nothing is missing");
        };
        drop(tiers.expect("valid options"));
        message[4..12].to_vec()
    };
    assert_ne!(publisher().await, publisher().await);
}
