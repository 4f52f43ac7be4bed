//! Every store and every wrapper of this crate keeps every promise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::{
    FailingStore, ModelStore, RecordingStore, SlowStore, Subject, fresh_name,
};
use cache_core::{
    CacheStore, CacheStoreExt, Clock, Codec, Entry, Error, ErrorKind, ManualClock, Marked,
    MemoryMarks, Moment, Namespaced, Result, SetOptions, Tagged, store_conformance,
};

store_conformance!(model, model(|store| store));
store_conformance!(model_of_bytes, {
    let (store, hands) = store::<Bytes>();
    Subject::new(store).manual_clock(hands)
});
store_conformance!(model_of_shared_texts, {
    let (store, hands) = store::<Arc<str>>();
    Subject::new(store).manual_clock(hands)
});
store_conformance!(model_in_real_time, {
    Subject::new(ModelStore::<String>::new(Clock::system())).real_time(Duration::from_millis(50))
});
store_conformance!(arc, model(Arc::new));
store_conformance!(shared, model(CacheStoreExt::shared));
store_conformance!(namespaced, model(|store| store.namespaced("shop")));
store_conformance!(namespaced_twice, model(|store| store.namespaced("shop:*").namespaced("a%b")));
store_conformance!(namespaced_by_nothing, model(|store| store.namespaced("")));
store_conformance!(encoded, {
    let (store, hands) = store::<Bytes>();
    Subject::new(store.encoded(Utf8)).manual_clock(hands)
});
store_conformance!(tagged, tagged(|store| store));
store_conformance!(tagged_in_an_arc, tagged(Arc::new));
store_conformance!(tagged_and_shared, tagged(CacheStoreExt::shared));
store_conformance!(tagged_on_what_fences_nothing, {
    let (clock, hands) = Clock::manual();
    let store = Map { clock, map: Mutex::default() }.tagged(MemoryMarks::new(), tags);
    Subject::new(store).manual_clock(hands).tagged_by(tags)
});
store_conformance!(tagged_and_failing, tagged(FailingStore::new));
store_conformance!(tagged_and_slow, tagged(SlowStore::new));
store_conformance!(tagged_and_recording, tagged(RecordingStore::new));
// The tags are those of the keys within the namespace.
store_conformance!(tagged_within_a_namespace, {
    let within = |key: &str, value: Option<&u64>| tags(&format!("shop:{key}"), value);
    tagged(|store| store.namespaced("shop")).tagged_by(within)
});
// Without a word on which tags there are.
store_conformance!(tagged_by_who_does_not_tell, {
    let (store, hands) = store::<Marked<u64>>();
    Subject::new(store.tagged(MemoryMarks::new(), tags)).manual_clock(hands)
});
store_conformance!(failing, model(FailingStore::new));
store_conformance!(slow, model(SlowStore::new));
store_conformance!(recording, model(RecordingStore::new));
store_conformance!(everything, {
    let (store, hands) = store::<Bytes>();
    let store = Arc::new(store.namespaced("shop").encoded(Utf8)).shared().namespaced("b").shared();
    Subject::new(store).manual_clock(hands)
});

// All tests of this module share one store, as they would share a server.
store_conformance!(namespaces_of_one_store, {
    Subject::new(one_store().namespaced(&fresh_name())).real_time(Duration::from_millis(50))
});

// Only the methods that every store has to have.
store_conformance!(three_methods, {
    let (clock, hands) = Clock::manual();
    Subject::new(Map::<u64> { clock, map: Mutex::default() }).manual_clock(hands)
});
store_conformance!(three_methods_namespaced, {
    let (clock, hands) = Clock::manual();
    Subject::new(Map::<u64> { clock, map: Mutex::default() }.namespaced("shop")).manual_clock(hands)
});

fn store<V>() -> (ModelStore<V>, ManualClock) {
    let (clock, hands) = Clock::manual();
    (ModelStore::new(clock), hands)
}

fn model<S: CacheStore<Value = u64>>(wrap: impl FnOnce(ModelStore<u64>) -> S) -> Subject<S> {
    let (store, hands) = store();
    Subject::new(wrap(store)).manual_clock(hands)
}

fn tagged<S: CacheStore<Value = u64>>(
    wrap: impl FnOnce(Tagged<ModelStore<Marked<u64>>, MemoryMarks, u64>) -> S,
) -> Subject<S> {
    let (store, hands) = store();
    let store = wrap(store.tagged(MemoryMarks::new(), tags));
    Subject::new(store).manual_clock(hands).tagged_by(tags)
}

fn tags(key: &str, value: Option<&u64>) -> [String; 2] {
    [key.len().to_string(), value.is_some().to_string()]
}

fn one_store() -> ModelStore<String> {
    static ONE: Mutex<Option<ModelStore<String>>> = Mutex::new(None);
    let mut one = ONE.lock().unwrap();
    one.get_or_insert_with(|| ModelStore::new(Clock::system())).clone()
}

struct Utf8;

impl Codec<String> for Utf8 {
    fn encode(&self, value: &String) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn decode(&self, bytes: &Bytes) -> Result<String> {
        String::from_utf8(bytes.to_vec()).map_err(|e| Error::with_cause(ErrorKind::Codec, e))
    }
}

struct Map<V = u64> {
    clock: Clock,
    map: Mutex<HashMap<String, Stored<V>>>,
}

type Stored<V> = (Option<V>, SetOptions, Moment);

impl<V: Clone + Send + Sync + 'static> CacheStore for Map<V> {
    type Value = V;

    async fn get(&self, key: &str) -> Result<Option<Entry<V>>> {
        let map = self.map.lock().unwrap();
        let found = map.get(key);
        Ok(found.and_then(|(value, options, at)| {
            Entry::aged(value.clone(), options, self.clock.now().since(*at))
        }))
    }

    async fn set(&self, key: &str, value: Option<V>, options: SetOptions) -> Result<()> {
        options.check()?;
        self.map.lock().unwrap().insert(key.to_owned(), (value, options, self.clock.now()));
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.map.lock().unwrap().remove(key);
        Ok(())
    }
}

/// `clear` of one namespace must not be seen in another.
#[tokio::test]
async fn a_namespace_is_cleared_alone() {
    let (store, _hands) = store::<u64>();
    let shop: Namespaced<_> = store.clone().namespaced("shop");
    let shops = store.clone().namespaced("shops");
    for store in [&shop, &shops] {
        store.put("a", 1, Duration::from_secs(60)).await.unwrap();
    }
    shop.clear().await.unwrap();
    assert_eq!(shop.value("a").await.unwrap(), None);
    assert_eq!(shops.value("a").await.unwrap(), Some(1));
}
