use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::future;
use tokio::task;

use super::{Broken, Comparable, KEY, Kept, Subject, ensure};
use crate::{CacheStore, Entry, SetOptions, Version};

pub(super) async fn a_key_that_was_never_set_is_a_miss<S: Comparable>(s: Subject<S>) -> Kept {
    s.misses(KEY).await?;
    s.put("another", 1).await?;
    s.misses(KEY).await
}

pub(super) async fn get_returns_what_set_stored<S: Comparable>(s: Subject<S>) -> Kept {
    for number in 0..16 {
        s.put(&format!("key {number}"), number).await?;
    }
    for number in 0..16 {
        s.holds(&format!("key {number}"), number).await?;
    }
    Ok(())
}

pub(super) async fn set_replaces_the_value<S: Comparable>(s: Subject<S>) -> Kept {
    for number in 0..16 {
        s.put(KEY, number).await?;
        s.holds(KEY, number).await?;
    }
    Ok(())
}

pub(super) async fn a_negative_entry_is_not_a_miss<S: Comparable>(s: Subject<S>) -> Kept {
    s.store().set(KEY, None, s.lasting()).await?;
    let entry = s.entry(KEY).await?;
    ensure!(entry.is_negative(), "it holds {:?}", entry.value());
    ensure!(entry.is_fresh(), "it is not fresh");
    Ok(())
}

pub(super) async fn a_negative_entry_is_replaced_by_a_value<S: Comparable>(s: Subject<S>) -> Kept {
    s.store().set(KEY, None, s.lasting()).await?;
    s.put(KEY, 1).await?;
    s.holds(KEY, 1).await?;
    s.store().set(KEY, None, s.lasting()).await?;
    ensure!(s.entry(KEY).await?.is_negative(), "the value was not replaced by a negative entry");
    Ok(())
}

pub(super) async fn what_get_now_tells_is_what_get_tells<S: Comparable>(s: Subject<S>) -> Kept {
    for (number, value) in [None, Some(1), None, Some(2)].into_iter().enumerate() {
        let sample = value.map(|number| s.sample(number));
        match number {
            0 => s.store().remove(KEY).await?,
            _ => s.store().set(KEY, sample, s.lasting()).await?,
        }
        let (now, later) = (s.store().get_now(KEY), s.store().get(KEY).await?);
        if let Poll::Ready(now) = now {
            let value = |entry: Option<Entry<S::Value>>| entry.map(Entry::into_value);
            let (now, later) = (value(now), value(later));
            ensure!(now == later, "get_now tells {now:?}, and get {later:?}");
        }
        // One look leaves the value as it is, the others don't want the entry, or don't know.
        let values =
            |found: Poll<Option<Entry<S::Value>>>| found.map(|it| it.map(Entry::into_value));
        let seen = values(s.store().get_now_as(KEY, Entry::as_it_is));
        let now = values(s.store().get_now(KEY));
        ensure!(seen == now, "get_now_as tells {seen:?}, and get_now {now:?}");
        for look in [Poll::Ready(None), Poll::Pending] {
            let seen = values(s.store().get_now_as(KEY, |_| look.clone()));
            let found = matches!(seen, Poll::Ready(Some(_)));
            ensure!(!found, "get_now_as tells {seen:?}, and its look was {look:?}");
        }
    }
    Ok(())
}

pub(super) async fn keys_are_exact<S: Comparable>(s: Subject<S>) -> Kept {
    let long = "k".repeat(4096);
    let longer = "k".repeat(4097);
    let keys = [
        "",
        " ",
        "  ",
        "a",
        "A",
        "ab",
        "a:b",
        "a::b",
        ":",
        "a%3Ab",
        "%",
        "%25",
        "a*",
        "*",
        "?",
        "[a]",
        "a b",
        "a\nb",
        "a\\b",
        "\\",
        "/",
        "ä",
        "a\u{308}",
        "\u{1f980}",
        "{a}",
        "null",
        "0",
        "00",
        &long,
        &longer,
    ];
    for (key, number) in keys.into_iter().zip(0..) {
        s.put(key, number).await?;
    }
    for (key, number) in keys.into_iter().zip(0..) {
        s.holds(key, number).await?;
    }
    Ok(())
}

pub(super) async fn every_write_has_a_version_of_its_own<S: Comparable>(s: Subject<S>) -> Kept {
    let mut versions = Vec::new();
    for _ in 0..3 {
        s.put(KEY, 1).await?;
        let (version, again) = (s.entry(KEY).await?.version(), s.entry(KEY).await?.version());
        ensure!(version == again, "two reads of one write have versions {version:?} and {again:?}");
        versions.push(version);
    }
    s.store().remove(KEY).await?;
    s.put(KEY, 1).await?;
    versions.push(s.entry(KEY).await?.version());

    if !s.store().capabilities().versioned {
        let unknown = versions.iter().all(|version| *version == Version::UNKNOWN);
        ensure!(unknown, "a store with versioned = false has the versions {versions:?}");
        return Ok(());
    }
    for (i, version) in versions.iter().enumerate() {
        ensure!(*version != Version::UNKNOWN, "a version is unknown");
        ensure!(!versions[..i].contains(version), "two of the versions {versions:?} are the same");
    }
    Ok(())
}

pub(super) async fn a_write_keeps_the_version_it_is_given<S: Comparable>(s: Subject<S>) -> Kept {
    let versions = [0x5eed_0001, u64::from(u32::MAX), 0x5eed_0003].map(Version::new);
    let given = |number: usize| s.lasting().with_version(versions[number]);
    let lease = s.lease("filled").await?;
    let fill = s.store().fill(lease, Some(s.sample(1)), given(0)).await?;
    ensure!(fill == crate::Fill::Stored, "the fill was {fill:?}");
    s.store().set("set", Some(s.sample(1)), given(1)).await?;
    for result in s.store().set_many(vec![("among many", Some(s.sample(1)), given(2))]).await {
        result?;
    }
    if !s.store().capabilities().versioned {
        return Ok(());
    }
    for (key, version) in ["filled", "set", "among many"].into_iter().zip(versions) {
        let kept = s.entry(key).await?.version();
        ensure!(kept == version, "{key:?} has version {kept:?}, and was given {version:?}");
    }
    let seen = s.claiming().refreshing(versions[1]);
    let claim = s.store().claim("set", seen).await?;
    ensure!(matches!(claim, crate::Claim::Granted(_)), "a claim that saw it is {claim:?}");
    Ok(())
}

/// Two writers, each with a lifetime of its own, and a reader that must never see them mixed.
pub(super) async fn value_and_lifetime_are_replaced_together<S: Comparable>(s: Subject<S>) -> Kept {
    let writes = [(1, SetOptions::ttl(s.long())), (2, SetOptions::ttl(s.long() * 10))];
    s.store().set(KEY, Some(s.sample(1)), writes[0].1.clone()).await?;
    let done = AtomicBool::new(false);

    let writers = writes.each_ref().map(|(number, options)| {
        let (store, sample) = (s.handle(), s.sample(*number));
        let options = options.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                store.set(KEY, Some(sample.clone()), options.clone()).await?;
                task::yield_now().await;
            }
            crate::Result::<()>::Ok(())
        })
    });
    let write = async {
        let results = future::join_all(writers).await;
        done.store(true, Ordering::Release);
        for result in results {
            result.map_err(|error| Broken(format!("a writer panicked: {error}")))??;
        }
        Kept::Ok(())
    };
    let read = async {
        while !done.load(Ordering::Acquire) {
            let entry = s.entry(KEY).await?;
            let short = entry.value() == Some(&s.sample(1));
            let left = entry.usable_for();
            ensure!(
                short == (left <= s.long()),
                "{:?} was read with {left:?} left, which belongs to the other write",
                entry.value()
            );
            task::yield_now().await;
        }
        Ok(())
    };
    let (written, read) = future::join(write, read).await;
    written.and(read)
}
