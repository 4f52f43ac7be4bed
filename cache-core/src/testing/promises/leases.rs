use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use tokio::sync::Barrier;

use super::{Broken, Comparable, KEY, Kept, Subject, ensure, granted};
use crate::{CacheStore, Claim, ClaimOptions, ErrorKind, Fill, LoadTime, SetOptions};

/// So many claims at the same time.
const CROWD: usize = 32;

pub(super) async fn a_claim_on_an_entry_finds_it<S: Comparable>(s: Subject<S>) -> Kept {
    s.put("value", 1).await?;
    s.store().set("none", None, s.lasting()).await?;
    let stale = SetOptions::ttl(Duration::ZERO).stale_for(s.long());
    s.store().set("stale", Some(s.sample(2)), stale).await?;

    for (key, expected) in [("value", Some(1)), ("none", None), ("stale", Some(2))] {
        match s.store().claim(key, s.claiming()).await? {
            Claim::Found(entry) => {
                let expected = expected.map(|number| s.sample(number));
                ensure!(entry.into_value() == expected, "another entry was found under {key:?}");
            }
            other => ensure!(false, "the claim on the entry {key:?} is {other:?}"),
        }
    }
    Ok(())
}

pub(super) async fn a_claim_on_a_miss_is_granted<S: Comparable>(s: Subject<S>) -> Kept {
    let _lease = s.lease(KEY).await?;
    s.put("removed", 1).await?;
    s.store().remove("removed").await?;
    let _lease = s.lease("removed").await?;
    Ok(())
}

pub(super) async fn a_second_claim_is_held<S: Comparable>(s: Subject<S>) -> Kept {
    let _lease = s.lease(KEY).await?;
    for _ in 0..3 {
        s.holds_lease(KEY, s.long()).await?;
    }
    Ok(())
}

pub(super) async fn leases_on_different_keys_are_independent<S: Comparable>(s: Subject<S>) -> Kept {
    let a = s.lease("a").await?;
    let b = s.lease("b").await?;
    ensure!(a.key() != b.key(), "two keys have leases on the same key");
    s.store().release(a).await?;
    s.holds_lease("b", s.long()).await?;
    let fill = s.store().fill(b, Some(s.sample(1)), s.lasting()).await?;
    ensure!(fill == Fill::Stored, "the release of another key's lease has ended this one");
    s.holds("b", 1).await?;
    s.misses("a").await
}

pub(super) async fn of_claims_at_the_same_time_one_is_granted<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let fenced = s.store().capabilities().fenced;
    for round in 0..8 {
        let start = Arc::new(Barrier::new(CROWD));
        let claims = (0..CROWD).map(|_| {
            let (store, start, options) = (s.handle(), Arc::clone(&start), s.claiming());
            tokio::spawn(async move {
                start.wait().await;
                store.claim(&format!("key {round}"), options).await
            })
        });
        let mut count = 0;
        for claim in future::join_all(claims).await {
            match claim.map_err(|error| Broken(format!("a claim panicked: {error}")))?? {
                Claim::Granted(_) => count += 1,
                Claim::Held { .. } => {}
                Claim::Found(entry) => ensure!(false, "there is an entry: {entry:?}"),
            }
        }
        let expected = if fenced { 1 } else { CROWD };
        ensure!(count == expected, "{count} of {CROWD} claims were granted");
    }
    Ok(())
}

pub(super) async fn a_lease_does_not_show_as_an_entry<S: Comparable>(s: Subject<S>) -> Kept {
    let _lease = s.lease(KEY).await?;
    s.misses(KEY).await?;
    for entry in s.store().get_many(&[KEY, "another"]).await {
        let entry = entry?;
        ensure!(entry.is_none(), "a lease is read as {entry:?}");
    }
    Ok(())
}

pub(super) async fn a_lease_ends_by_itself<S: Comparable>(s: Subject<S>) -> Kept {
    let life = s.units(3);
    let before = s.now();
    let _lost = granted(s.store().claim(KEY, ClaimOptions::new(life)).await?)?;
    let after = s.now();
    if s.store().capabilities().fenced {
        s.pass(life - Duration::from_millis(1) - s.tolerance()).await;
        let claim = s.store().claim(KEY, s.claiming()).await?;
        if !matches!(claim, Claim::Held { .. }) {
            let age = s.now() - before;
            ensure!(age + s.tolerance() >= life, "the lease has ended after {age:?}, of {life:?}");
            return Ok(());
        }
    }
    s.pass(s.left_until(after, life + s.tolerance())).await;
    let _lease = s.lease(KEY).await?;
    Ok(())
}

pub(super) async fn a_released_lease_lets_the_next_claim_in<S: Comparable>(s: Subject<S>) -> Kept {
    for number in 0..3 {
        let lease = s.lease(KEY).await?;
        s.store().release(lease).await?;
        s.misses(KEY).await?;
        let lease = s.lease(KEY).await?;
        let fill = s.store().fill(lease, Some(s.sample(number)), s.lasting()).await?;
        ensure!(fill == Fill::Stored, "the fill after a release is refused");
        s.holds(KEY, number).await?;
        s.store().remove(KEY).await?;
    }
    Ok(())
}

pub(super) async fn a_fill_stores_value_and_lifetime<S: Comparable>(s: Subject<S>) -> Kept {
    let load_time = LoadTime::from(Duration::from_millis(1234));
    let options = SetOptions::ttl(s.units(3)).stale_for(s.long()).with_load_time(load_time);
    let lease = s.lease(KEY).await?;
    let fill = s.store().fill(lease, Some(s.sample(1)), options).await?;
    ensure!(fill == Fill::Stored, "the fill was {fill:?}");
    let entry = s.holds(KEY, 1).await?;
    ensure!(entry.load_time() == load_time, "the load time is {:?}", entry.load_time());
    s.pass(s.units(3) + s.tolerance()).await;
    ensure!(!s.holds(KEY, 1).await?.is_fresh(), "fresh after its lifetime");

    let lease = s.lease("none").await?;
    let fill = s.store().fill(lease, None, s.lasting()).await?;
    ensure!(fill == Fill::Stored, "the negative fill was {fill:?}");
    ensure!(s.entry("none").await?.is_negative(), "the negative entry has a value");
    Ok(())
}

pub(super) async fn a_fill_with_a_lifetime_of_zero_is_refused_and_ends_the_lease<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let lease = s.lease(KEY).await?;
    let zero = SetOptions::ttl(Duration::ZERO);
    match s.store().fill(lease, Some(s.sample(1)), zero).await {
        Ok(fill) => ensure!(false, "the fill was {fill:?}"),
        Err(error) => ensure!(error.kind() == ErrorKind::InvalidOption, "the error is: {error}"),
    }
    s.misses(KEY).await?;
    let _lease = s.lease(KEY).await?;
    Ok(())
}

impl<S: Comparable> Subject<S> {
    /// Makes sure that a claim has to wait, no longer than `life`, if the store is fenced.
    async fn holds_lease(&self, key: &str, life: Duration) -> Kept {
        let fenced = self.store().capabilities().fenced;
        match self.store().claim(key, self.claiming()).await? {
            Claim::Held { retry_in } if fenced => {
                let most = life + self.tolerance();
                ensure!(
                    retry_in <= most,
                    "to be asked again in {retry_in:?}, of a lease of {life:?}"
                );
            }
            Claim::Granted(_) if !fenced => {}
            other => ensure!(false, "the claim is {other:?}, of a store with fenced = {fenced}"),
        }
        Ok(())
    }
}
