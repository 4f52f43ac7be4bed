//! Marks in memory over a store that outlives them, or that others share.

use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    CacheStore, CacheStoreExt, Codec, Marks, MemoryMarks, Result, TagStore, TaggedCodec,
};
use cache_memory::MemoryStore;

const MINUTE: Duration = Duration::from_secs(60);

struct Plain;

impl Codec<Bytes> for Plain {
    fn encode(&self, value: &Bytes) -> Result<Bytes> {
        Ok(value.clone())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Bytes> {
        Ok(bytes.clone())
    }
}

/// What a process has of these bytes: all its entries have one tag.
fn process(bytes: &MemoryStore<Bytes>) -> impl TagStore<Value = Bytes> {
    let bytes = bytes.clone().encoded(TaggedCodec::new(Plain));
    bytes.tagged(MemoryMarks::new(), |_: &str, _: Option<&Bytes>| ["tag"])
}

async fn is_there(store: &impl CacheStore<Value = Bytes>, key: &str) -> bool {
    store.value(key).await.expect("an answer").is_some()
}

#[tokio::test]
async fn what_was_invalidated_before_a_restart_does_not_come_back() {
    let bytes = MemoryStore::new(100);
    let before = process(&bytes);
    for key in ["old", "older"] {
        before.put(key, Bytes::from_static(b"1"), MINUTE).await.expect("no failure");
    }
    before.invalidate_tags(&["tag"]).await.expect("no failure");
    assert!(!is_there(&before, "old").await);
    before.put("kept", Bytes::from_static(b"2"), MINUTE).await.expect("no failure");
    assert!(is_there(&before, "kept").await);
    // Their marks are lost with it.
    drop(before);
    let after = process(&bytes);
    assert!(!is_there(&after, "older").await && !is_there(&after, "kept").await);
    after.put("new", Bytes::from_static(b"3"), MINUTE).await.expect("no failure");
    for key in ["older", "kept"] {
        assert!(!is_there(&after, key).await, "{key}: there is a mark again, another one");
    }
    assert!(is_there(&after, "new").await);
}

#[tokio::test]
async fn nobody_takes_the_stamps_of_others_for_his_own() {
    let bytes = MemoryStore::new(100);
    let (here, there) = (process(&bytes), process(&bytes));
    here.put("here", Bytes::from_static(b"1"), MINUTE).await.expect("no failure");
    here.invalidate_tags(&["tag"]).await.expect("no failure");
    there.put("there", Bytes::from_static(b"1"), MINUTE).await.expect("no failure");
    assert!(!is_there(&there, "here").await);
    assert!(is_there(&there, "there").await && !is_there(&here, "there").await);

    let (one, other) = (MemoryMarks::new(), MemoryMarks::new());
    let epoch = one.epoch().await.expect("an answer");
    let stamps = other.stamp(&["tag"], Some(epoch), MINUTE).await.expect("an answer");
    assert!(stamps.is_none(), "nobody knows what was invalidated since the epoch of others");
}
