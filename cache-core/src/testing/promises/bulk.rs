use std::time::Duration;

use super::{Comparable, KEY, Kept, Subject, ensure};
use crate::{Error, ErrorKind, SetOptions};

pub(super) async fn get_many_answers_in_the_order_of_the_keys<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.put("b", 1).await?;
    s.put("a", 2).await?;
    s.store().set("none", None, s.lasting()).await?;

    let keys = ["a", "missing", "b", "a", "none", "missing", "b"];
    let expected =
        [Some(Some(2)), None, Some(Some(1)), Some(Some(2)), Some(None), None, Some(Some(1))];
    let entries = s.store().get_many(&keys).await;
    ensure!(entries.len() == keys.len(), "{} answers to {} keys", entries.len(), keys.len());
    for ((key, entry), expected) in keys.into_iter().zip(entries).zip(expected) {
        let found = entry?.map(crate::Entry::into_value);
        let expected = expected.map(|number: Option<u32>| number.map(|number| s.sample(number)));
        ensure!(found == expected, "{key:?} is answered with {found:?}, not {expected:?}");
    }
    Ok(())
}

pub(super) async fn set_many_stores_every_entry_with_its_own_lifetime<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.put("replaced", 9).await?;
    let entries = vec![
        ("short", Some(s.sample(1)), SetOptions::ttl(s.units(2))),
        ("replaced", Some(s.sample(2)), s.lasting()),
        ("stale", Some(s.sample(3)), SetOptions::ttl(s.units(2)).stale_for(s.long())),
        ("none", None, s.lasting()),
    ];
    for result in s.store().set_many(entries).await {
        result?;
    }
    s.pass(s.units(2) + s.tolerance()).await;
    s.misses("short").await?;
    let replaced = s.holds("replaced", 2).await?;
    ensure!(replaced.is_fresh(), "a long lifetime has ended with a short one");
    let stale = s.holds("stale", 3).await?;
    ensure!(!stale.is_fresh(), "a short lifetime has not ended");
    ensure!(s.entry("none").await?.is_negative(), "the negative entry has a value");
    Ok(())
}

pub(super) async fn of_a_key_that_set_many_has_twice_the_last_counts<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let entries = vec![
        (KEY, Some(s.sample(1)), s.lasting()),
        ("another", Some(s.sample(2)), s.lasting()),
        (KEY, None, s.lasting()),
        (KEY, Some(s.sample(3)), SetOptions::ttl(s.long() / 2)),
    ];
    let results = s.store().set_many(entries).await;
    ensure!(results.len() == 4, "{} answers to 4 entries", results.len());
    let entry = s.holds(KEY, 3).await?;
    ensure!(entry.usable_for() <= s.long() / 2, "the lifetime is not that of the last one");
    s.holds("another", 2).await?;
    Ok(())
}

pub(super) async fn set_many_answers_in_the_order_of_the_entries<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let zero = SetOptions::ttl(Duration::ZERO);
    let entries = vec![
        ("a", Some(s.sample(1)), s.lasting()),
        ("refused", Some(s.sample(2)), zero.clone()),
        ("b", Some(s.sample(3)), s.lasting()),
        ("refused too", Some(s.sample(4)), zero),
    ];
    let results: Vec<_> = s.store().set_many(entries).await;
    let kinds: Vec<_> =
        results.iter().map(|result| result.as_ref().err().map(Error::kind)).collect();
    let zero = Some(ErrorKind::InvalidOption);
    ensure!(kinds == [None, zero, None, zero], "the answers are {kinds:?}");
    s.holds("a", 1).await?;
    s.misses("refused").await?;
    s.holds("b", 3).await?;
    s.misses("refused too").await
}

pub(super) async fn remove_many_removes_these_keys_and_no_others<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    for (key, number) in ["a", "b", "c", "ab", ""].into_iter().zip(1..) {
        s.put(key, number).await?;
    }
    s.store().remove_many(&["c", "missing", "a", "c"]).await?;
    s.misses("a").await?;
    s.misses("c").await?;
    s.holds("b", 2).await?;
    s.holds("ab", 4).await?;
    s.holds("", 5).await?;
    Ok(())
}

pub(super) async fn bulk_calls_with_nothing_do_nothing<S: Comparable>(s: Subject<S>) -> Kept {
    s.put(KEY, 1).await?;
    ensure!(s.store().get_many(&[]).await.is_empty(), "answers to no keys");
    ensure!(s.store().set_many(Vec::new()).await.is_empty(), "answers to no entries");
    s.store().remove_many(&[]).await?;
    s.holds(KEY, 1).await?;
    Ok(())
}
