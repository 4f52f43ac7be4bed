use std::time::Duration;

use super::*;
use crate::testing::ModelStore;
use crate::{CacheStore, CacheStoreExt, Clock, ErrorKind, SetOptions};

const HOUR: Duration = Duration::from_secs(3600);

fn model() -> ModelStore<u32> {
    ModelStore::new(Clock::manual().0)
}

#[tokio::test]
async fn a_failed_operation_is_not_done() {
    let store = FailingStore::new(model());
    store.fail(Operation::Set, ErrorKind::Unavailable);
    for _ in 0..2 {
        let error = store.put("a", 1, HOUR).await.expect_err("fails by script");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(store.inner().value("a").await.expect("the model"), None);
    assert_eq!(store.failures(), 2);
}

#[tokio::test]
async fn an_operation_whose_answer_is_lost_is_done() {
    let store = FailingStore::new(model());
    store.lose_answers(Operation::Set);
    assert!(store.put("a", 1, HOUR).await.is_err());
    assert_eq!(store.value("a").await.expect("get is not in the script"), Some(1));
}

#[tokio::test]
async fn a_failed_bulk_operation_answers_every_key_with_an_error() {
    let store = FailingStore::new(model());
    store.fail_all(ErrorKind::Store);
    let entries = ["a", "b"].map(|key| (key, Some(1), SetOptions::forever()));
    let results = store.set_many(entries.into()).await;
    assert!(results.len() == 2 && results.iter().all(Result::is_err));
    let entries = store.get_many(&["a", "b", "c"]).await;
    assert!(entries.len() == 3 && entries.iter().all(Result::is_err));
    assert!(store.clear().await.is_err());

    store.heal();
    assert_eq!(store.value("a").await.expect("healed"), None);
}

#[tokio::test]
async fn an_operation_held_before_the_store_is_not_done_until_it_is_let_through() {
    let store = SlowStore::new(model());
    let gate = store.hold(Operation::Set);
    let writers = [1, 2].map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.put("a", number, HOUR).await })
    });
    gate.arrived(2).await;
    assert_eq!(store.value("a").await.expect("the model"), None);

    gate.let_through(1);
    let [first, second] = writers;
    first.await.expect("no panic").expect("the model");
    assert_eq!(store.value("a").await.expect("the model"), Some(1));

    gate.open();
    second.await.expect("no panic").expect("the model");
    store.put("a", 3, HOUR).await.expect("an open gate stays open");
    assert_eq!(store.value("a").await.expect("the model"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_in_tokio_time() {
    let store = SlowStore::new(model());
    store.delay(Operation::Get, HOUR);
    let start = tokio::time::Instant::now();
    assert_eq!(store.value("a").await.expect("the model"), None);
    assert_eq!(start.elapsed(), HOUR);
}

#[tokio::test]
async fn calls_are_recorded_in_their_order() {
    use Operation::*;

    let store = RecordingStore::new(model());
    let options = SetOptions::forever();
    store.set("a", Some(1), options.clone()).await.expect("the model");
    store.set_many(vec![("b", Some(2), options.clone())]).await.pop();
    store.get("a").await.expect("the model");
    store.get_many(&["a", "b"]).await.pop();
    for key in ["c", "d"] {
        let claim = store.claim(key, crate::ClaimOptions::new(HOUR)).await.expect("the model");
        let crate::Claim::Granted(lease) = claim else { panic!("{claim:?}") };
        if key == "c" {
            let fill = store.fill(lease, Some(3), options.clone()).await;
            assert_eq!(fill.expect("the model"), crate::Fill::Stored);
        } else {
            store.release(lease).await.expect("the model");
        }
    }
    store.remove("a").await.expect("the model");
    store.remove_many(&["b"]).await.expect("the model");
    store.remove_prefix("c").await.expect("the model");
    store.clear().await.expect("the model");

    let expected = [
        Set,
        SetMany,
        Get,
        GetMany,
        Claim,
        Fill,
        Claim,
        Release,
        Remove,
        RemoveMany,
        RemovePrefix,
        Clear,
    ];
    assert_eq!(store.operations(), expected);
    assert_eq!(store.count(Claim), 2);
    let calls = store.take();
    assert_eq!(calls[3].keys(), ["a", "b"]);
    assert_eq!(calls[5].keys(), ["c"]);
    assert!(store.calls().is_empty());
}
