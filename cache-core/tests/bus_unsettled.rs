//! Removals from a far store of which a part can't be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cache_core::testing::{FailingStore, Operation};
use cache_core::{
    Broadcast, CacheStore, CacheStoreExt, Capabilities, Claim, ClaimOptions, Entry, Error,
    ErrorKind, Fill, Lease, LocalBus, Result, SetOptions, Tiered,
};
use cache_memory::MemoryStore;

const MINUTE: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_millis(20);

/// A store of several nodes, of which one has the keys that begin with `dead`.
#[derive(Clone)]
struct Cluster {
    store: MemoryStore<u64>,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    down: AtomicBool,
    hangs: AtomicBool,
    /// What is written is written, and nobody hears of it.
    loses_answers: AtomicBool,
    can_t_clear: AtomicBool,
    removals_of_live: AtomicUsize,
}

impl Cluster {
    async fn reach(&self, key: &str) -> Result<()> {
        if !key.starts_with("dead") || !self.faults.down.load(SeqCst) {
            return Ok(());
        }
        if self.faults.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::Unavailable))
    }
}

impl CacheStore for Cluster {
    type Value = u64;

    async fn get(&self, key: &str) -> Result<Option<Entry<u64>>> {
        self.reach(key).await?;
        self.store.get(key).await
    }

    async fn set(&self, key: &str, value: Option<u64>, options: SetOptions) -> Result<()> {
        self.reach(key).await?;
        self.store.set(key, value, options).await?;
        match self.faults.loses_answers.load(SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable)),
            false => Ok(()),
        }
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.reach(key).await?;
        if key == "live" {
            self.faults.removals_of_live.fetch_add(1, SeqCst);
        }
        self.store.remove(key).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        match self.faults.can_t_clear.load(SeqCst) {
            true => Err(Error::with_cause(ErrorKind::Unsupported, "remove_prefix")),
            false => self.store.remove_prefix(prefix).await,
        }
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<u64>> {
        self.reach(key).await?;
        self.store.claim(key, options).await
    }

    async fn fill(&self, lease: Lease, value: Option<u64>, options: SetOptions) -> Result<Fill> {
        self.store.fill(lease, value, options).await
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        self.store.release(lease).await
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.store.capabilities();
        capabilities.prefix = !self.faults.can_t_clear.load(SeqCst);
        capabilities
    }
}

type Tiers = Tiered<MemoryStore<u64>, Cluster>;

/// Two processes on one cluster.
async fn two() -> (Cluster, Tiers, Tiers) {
    let (bus, far) = (LocalBus::new(1024), Cluster { store: memory(), faults: Arc::default() });
    let process = || {
        let broadcast = Broadcast::over(bus.clone()).heartbeat(BEAT).trust(MINUTE);
        let tiers = Tiered::builder(memory(), far.clone()).coherent_by(broadcast.max_pending(10));
        tiers.build().expect("valid options")
    };
    let (here, there) = (process(), process());
    for tiers in [&here, &there] {
        tiers.trusted().await;
        eventually(|| tiers.snapshot().peers == 1).await;
    }
    (far, here, there)
}

fn memory() -> MemoryStore<u64> {
    MemoryStore::new(10_000)
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

#[tokio::test(start_paused = true)]
async fn a_removal_that_can_t_be_made_holds_up_no_other() {
    for hangs in [false, true] {
        let (far, _here, there) = two().await;
        for key in ["live", "dead"] {
            there.put(key, 1, MINUTE).await.expect("no failure");
        }
        far.faults.down.store(true, SeqCst);
        there.remove("dead").await.expect_err("its node is down");
        far.faults.hangs.store(hangs, SeqCst);
        tokio::time::sleep(100 * BEAT).await;
        // It is written, and to be removed, as nobody knows.
        far.faults.loses_answers.store(true, SeqCst);
        there.put("live", 2, MINUTE).await.expect_err("its answer is lost");
        far.faults.loses_answers.store(false, SeqCst);
        tokio::time::sleep(BEAT).await;
        assert_eq!(far.store.value("live").await.expect("an answer"), None, "hangs: {hangs}");
        assert_eq!(there.snapshot().pending, 1);
        far.faults.down.store(false, SeqCst);
        assert_eq!(there.flush(MINUTE).await, 0);
        assert_eq!(far.store.value("dead").await.expect("an answer"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_changed_is_announced_before_it_is_settled() {
    let (far, here, there) = two().await;
    there.put("dead", 1, MINUTE).await.expect("no failure");
    tokio::time::sleep(BEAT).await;
    assert_eq!(here.value("dead").await.expect("an answer"), Some(1));
    far.faults.loses_answers.store(true, SeqCst);
    // Its answer is lost, and then its node.
    far.faults.down.store(false, SeqCst);
    there.put("dead", 2, MINUTE).await.expect_err("its answer is lost");
    far.faults.down.store(true, SeqCst);
    tokio::time::sleep(BEAT).await;
    assert!(here.get_now("dead").is_pending(), "others do not wait for its node");
    far.faults.down.store(false, SeqCst);
    // Who has copied it meanwhile hears of it again.
    assert_eq!(here.value("dead").await.expect("an answer"), Some(2));
    assert_eq!(there.flush(MINUTE).await, 0);
    eventually(|| here.get_now("dead").is_pending()).await;
    assert_eq!(here.value("dead").await.expect("an answer"), None);
}

#[tokio::test(start_paused = true)]
async fn what_could_be_removed_is_not_removed_again() {
    let (far, _here, there) = two().await;
    there.put("live", 1, MINUTE).await.expect("no failure");
    far.faults.down.store(true, SeqCst);
    there.remove_many(&["live", "dead"]).await.expect_err("a node is down");
    eventually(|| there.snapshot().pending == 1).await;
    let before = far.faults.removals_of_live.load(SeqCst);
    there.put("live", 2, MINUTE).await.expect("no failure");
    tokio::time::sleep(200 * BEAT).await;
    assert_eq!(far.faults.removals_of_live.load(SeqCst), before);
    assert_eq!(far.store.value("live").await.expect("an answer"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_again_and_again_waits_once() {
    let (far, _here, there) = two().await;
    far.faults.down.store(true, SeqCst);
    for _ in 0..1000 {
        there.remove("dead").await.expect_err("its node is down");
        tokio::time::sleep(BEAT / 20).await;
    }
    let snapshot = there.snapshot();
    assert_eq!((snapshot.pending, snapshot.overflows), (1, 0));
}

/// As the docs of `max_pending` say.
#[tokio::test(start_paused = true)]
async fn more_failed_removals_than_can_wait_clear_the_far_store() {
    let (far, here, there) = two().await;
    let keys: Vec<_> = (0..11).map(|key| format!("dead {key}")).collect();
    there.put("live", 1, MINUTE).await.expect("no failure");
    far.faults.down.store(true, SeqCst);
    for key in &keys[..10] {
        there.remove(key).await.expect_err("its node is down");
        tokio::time::sleep(BEAT).await;
    }
    tokio::time::sleep(100 * BEAT).await;
    assert_eq!(far.store.value("live").await.expect("an answer"), Some(1), "ten can wait");
    assert_eq!(here.value("live").await.expect("an answer"), Some(1));
    there.remove(&keys[10]).await.expect_err("its node is down");
    eventually(|| there.snapshot().pending == 0).await;
    assert_eq!(far.store.value("live").await.expect("an answer"), None);
    eventually(|| here.get_now("live").is_pending()).await;
    let snapshot = there.snapshot();
    assert_eq!((snapshot.overflows, snapshot.given_up), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_for_a_store_that_can_t_be_cleared_is_counted() {
    let (far, here, there) = two().await;
    far.faults.can_t_clear.store(true, SeqCst);
    let keys: Vec<_> = (0..30).map(|key| format!("dead {key}")).collect();
    for key in keys.iter().map(String::as_str).chain(["live"]) {
        there.put(key, 1, MINUTE).await.expect("no failure");
    }
    tokio::time::sleep(BEAT).await;
    for key in &keys {
        here.get(key).await.expect("an answer");
    }
    far.faults.down.store(true, SeqCst);
    for key in &keys {
        there.remove(key).await.expect_err("its node is down");
        tokio::time::sleep(BEAT).await;
    }
    assert_eq!(there.snapshot().given_up, 20);
    for key in &keys {
        assert!(here.get_now(key).is_pending(), "others have heard of all of them");
    }
    far.faults.down.store(false, SeqCst);
    assert_eq!(there.flush(MINUTE).await, 0);
    for (number, key) in keys.iter().enumerate() {
        let left = far.store.value(key).await.expect("an answer");
        assert_eq!(left.is_some(), number >= 10, "{key}");
    }
    assert_eq!(far.store.value("live").await.expect("an answer"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_refused_is_counted_and_not_tried_again() {
    let far = FailingStore::new(memory());
    let broadcast = Broadcast::over(LocalBus::new(64)).heartbeat(BEAT);
    let tiers = Tiered::builder(memory(), far.clone()).coherent_by(broadcast);
    let tiers = tiers.build().expect("valid options");
    far.fail_times(Operation::Remove, ErrorKind::Unavailable, 1);
    far.fail(Operation::RemoveMany, ErrorKind::Store);
    tiers.remove("key").await.expect_err("out of reach");
    eventually(|| tiers.snapshot().given_up == 1).await;
    assert_eq!(tiers.flush(MINUTE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_near_store_that_can_t_be_cleared_is_refused() {
    let near = Cluster { store: memory(), faults: Arc::default() };
    near.faults.can_t_clear.store(true, SeqCst);
    let broadcast = Broadcast::over(LocalBus::new(64));
    let refused = Tiered::builder(near.clone(), memory()).coherent_by(broadcast).build();
    let refused = refused.err().expect("it could not be emptied when something is missing");
    assert_eq!(refused.kind(), ErrorKind::InvalidOption);
    assert!(refused.to_string().contains("coherent_by"), "{refused}");
    assert!(Tiered::builder(near, memory()).build().is_ok(), "with nothing to keep it so");
}
