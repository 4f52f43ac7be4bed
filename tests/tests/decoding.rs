//! Bytes in the store that nobody can read are a miss, and the next load replaces them.

use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    CacheStore, CacheStoreExt, Capabilities, Claim, ClaimOptions, Codec, Entry, Error, ErrorKind,
    Fill, Lease, Result, SetOptions,
};
use cache_memory::MemoryStore;
use cache_serde::{Json, Postcard};
use cache_tests::{Source, Strategy, cache, minute};
use rstest::rstest;

#[rstest]
#[case::empty(b"")]
#[case::foreign(b"{\"not\": \"ours\"}")]
#[case::cut(b"\xcache\x01")]
#[tokio::test]
async fn undecodable_bytes_are_a_miss_and_are_replaced(
    #[case] bytes: &'static [u8],
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
) {
    let bytes = Bytes::from_static(bytes);
    let below = MemoryStore::<Bytes>::new(100);
    below.set("key", Some(bytes), SetOptions::forever()).await.expect("memory takes it");
    let store = below.clone().encoded::<_, u64>(Postcard::new());
    let source = Source::with(&[("key", 1)]);
    let reader = cache(strategy, store, minute(), &source);
    for _ in 0..3 {
        assert_eq!(reader.get("key").await.expect("loaded, then hit"), Some(1));
    }
    assert_eq!(source.loads(), 1, "the bytes were replaced");
}

#[rstest]
#[tokio::test]
async fn the_entry_of_another_type_or_codec_is_a_miss(
    #[values(Strategy::Aside, Strategy::Through, Strategy::Revalidate)] strategy: Strategy,
    #[values("another type", "another codec")] whose: &str,
) {
    let below = MemoryStore::<Bytes>::new(100);
    let other = match whose {
        "another type" => Postcard::new().encode(&(7_u32, "name".to_owned())),
        _ => Json::new().encode(&7_u64),
    };
    let other = other.expect("it can be encoded");
    below.set("key", Some(other), SetOptions::forever()).await.expect("memory takes it");
    let store = below.clone().encoded::<_, u64>(Postcard::new());
    assert_eq!(store.value("key").await.expect("a miss is no error"), None);
    assert_eq!(store.undecodable(), 1);
    let source = Source::with(&[("key", 1)]);
    let reader = cache(strategy, store, minute(), &source);
    assert_eq!(reader.get("key").await.expect("loaded"), Some(1));
}

#[tokio::test]
async fn one_undecodable_entry_of_many_spoils_only_itself() {
    let below = MemoryStore::<Bytes>::new(100);
    let store = below.clone().encoded::<_, u64>(Json::new());
    for (key, value) in [("a", 1), ("c", 3)] {
        store.put(key, value, Duration::from_secs(60)).await.expect("stored");
    }
    let garbage = Some(Bytes::from_static(b"garbage"));
    below.set("b", garbage, SetOptions::forever()).await.expect("memory takes it");
    let found = store.get_many(&["a", "b", "c"]).await;
    let found = found.into_iter().map(|entry| entry.expect("no error").and_then(Entry::into_value));
    assert_eq!(found.collect::<Vec<_>>(), [Some(1), None, Some(3)]);
}

#[tokio::test]
async fn a_value_that_can_not_be_encoded_is_returned_and_not_kept() {
    struct Never;
    impl Codec<u64> for Never {
        fn encode(&self, _: &u64) -> Result<Bytes> {
            Err(Error::new(ErrorKind::Codec))
        }

        fn decode(&self, _: &Bytes) -> Result<u64> {
            Err(Error::new(ErrorKind::Codec))
        }
    }
    let store = MemoryStore::<Bytes>::new(100).encoded::<_, u64>(Never);
    let source = Source::with(&[("key", 1)]);
    let reader = cache(Strategy::Through, store, minute(), &source);
    assert_eq!(reader.get("key").await.expect("loaded"), Some(1));
    assert_eq!(reader.get("key").await.expect("the lease was given back"), Some(1));
    assert_eq!(source.loads(), 2);
}

/// A store whose leases are for keys without an entry only.
struct OnlyCold(MemoryStore<Bytes>);

impl CacheStore for OnlyCold {
    type Value = Bytes;

    async fn get(&self, key: &str) -> Result<Option<Entry<Bytes>>> {
        self.0.get(key).await
    }
    async fn set(&self, key: &str, value: Option<Bytes>, options: SetOptions) -> Result<()> {
        self.0.set(key, value, options).await
    }
    async fn remove(&self, key: &str) -> Result<()> {
        self.0.remove(key).await
    }
    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.0.remove_prefix(prefix).await
    }
    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<Bytes>> {
        self.0.claim(key, ClaimOptions::new(options.life())).await
    }
    async fn fill(&self, lease: Lease, value: Option<Bytes>, options: SetOptions) -> Result<Fill> {
        self.0.fill(lease, value, options).await
    }
    async fn release(&self, lease: Lease) -> Result<bool> {
        self.0.release(lease).await
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}

#[tokio::test]
async fn undecodable_bytes_that_no_lease_replaces_go_and_the_fill_keeps_to_its_namespace() {
    let below = MemoryStore::<Bytes>::new(100);
    let bytes = Bytes::from_static(b"foreign");
    below.set("shop:key", Some(bytes), SetOptions::forever()).await.expect("memory takes it");
    let store = OnlyCold(below.clone()).namespaced("shop").encoded::<_, u64>(Postcard::new());
    let options = ClaimOptions::new(Duration::from_secs(60));
    let Claim::Granted(lease) = store.claim("key", options).await.expect("an answer") else {
        panic!("nobody else has it");
    };
    assert_eq!(lease.key(), "shop:key");
    let filled = store.fill(lease, Some(1), SetOptions::forever()).await.expect("an answer");
    assert_eq!(filled, Fill::Stored);
    assert_eq!(store.value("key").await.expect("an answer"), Some(1));
    assert_eq!(below.len(), 1, "nothing is outside of the namespace");
}
