//! What takes a lease away, so that what was loaded under it is not stored any more.

use super::{Comparable, KEY, Kept, Subject, ensure, granted};
use crate::{Claim, ClaimOptions, Fill};

pub(super) async fn a_lease_fills_once<S: Comparable>(s: Subject<S>) -> Kept {
    let lease = s.lease(KEY).await?;
    let fill = s.store().fill(lease.clone(), Some(s.sample(1)), s.lasting()).await?;
    ensure!(fill == Fill::Stored, "the fill was {fill:?}");
    s.refuses(lease).await?;
    s.still_holds_if_fenced(1).await
}

pub(super) async fn a_fill_after_a_removal_is_refused<S: Comparable>(s: Subject<S>) -> Kept {
    let lease = s.lease(KEY).await?;
    s.store().remove(KEY).await?;
    s.refuses_and_misses(KEY, lease).await
}

pub(super) async fn a_fill_after_a_bulk_removal_is_refused<S: Comparable>(s: Subject<S>) -> Kept {
    let lease = s.lease(KEY).await?;
    s.store().remove_many(&["another", KEY]).await?;
    s.refuses_and_misses(KEY, lease).await
}

pub(super) async fn a_fill_after_a_prefix_removal_is_refused<S: Comparable>(s: Subject<S>) -> Kept {
    let lease = s.lease(KEY).await?;
    let other = s.lease("other").await?;
    let removed = s.store().remove_prefix("ke").await;
    if s.store().capabilities().prefix {
        removed?;
        s.refuses_and_misses(KEY, lease).await?;
    } else {
        ensure!(removed.is_err(), "remove_prefix works, of a store with prefix = false");
    }
    let fill = s.store().fill(other, Some(s.sample(1)), s.lasting()).await?;
    ensure!(fill == Fill::Stored, "the removal took the lease on a key with another prefix");
    Ok(())
}

pub(super) async fn a_fill_after_a_clear_is_refused<S: Comparable>(s: Subject<S>) -> Kept {
    let lease = s.lease(KEY).await?;
    let cleared = s.store().clear().await;
    if s.store().capabilities().prefix {
        cleared?;
    } else if cleared.is_err() {
        let fill = s.store().fill(lease, Some(s.sample(1)), s.lasting()).await?;
        ensure!(fill == Fill::Stored, "a clear that failed took the lease");
        return Ok(());
    }
    s.refuses_and_misses(KEY, lease).await
}

pub(super) async fn a_fill_after_a_write_is_refused<S: Comparable>(s: Subject<S>) -> Kept {
    let lease = s.lease(KEY).await?;
    s.put(KEY, 1).await?;
    s.refuses(lease).await?;
    s.still_holds_if_fenced(1).await
}

pub(super) async fn a_fill_after_a_bulk_write_is_refused<S: Comparable>(s: Subject<S>) -> Kept {
    let lease = s.lease(KEY).await?;
    let entries =
        vec![("another", Some(s.sample(2)), s.lasting()), (KEY, Some(s.sample(1)), s.lasting())];
    for result in s.store().set_many(entries).await {
        result?;
    }
    s.refuses(lease).await?;
    s.still_holds_if_fenced(1).await
}

pub(super) async fn a_fill_after_the_end_of_its_lease_is_refused<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let options = ClaimOptions::new(s.units(2));
    let lease = granted(s.store().claim(KEY, options).await?)?;
    s.pass(s.units(2) + s.tolerance()).await;
    s.refuses_and_misses(KEY, lease).await
}

pub(super) async fn a_fill_after_the_release_of_its_lease_is_refused<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let lease = s.lease(KEY).await?;
    s.store().release(lease.clone()).await?;
    s.refuses_and_misses(KEY, lease).await
}

pub(super) async fn a_removal_lets_the_next_claim_in<S: Comparable>(s: Subject<S>) -> Kept {
    let _lost = s.lease(KEY).await?;
    s.store().remove(KEY).await?;
    let _lease = s.lease(KEY).await?;
    Ok(())
}

/// The owner that lost its lease neither fills over the next one nor gives it back.
pub(super) async fn a_lost_lease_does_not_disturb_the_next_one<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let lost = s.lease(KEY).await?;
    s.store().remove(KEY).await?;
    let lease = s.lease(KEY).await?;

    s.store().release(lost.clone()).await?;
    if s.store().capabilities().fenced {
        let claim = s.store().claim(KEY, s.claiming()).await?;
        ensure!(matches!(claim, Claim::Held { .. }), "the lost lease released the next one");
        ensure!(lease != lost, "two leases are the same: {lease:?}");
        s.refuses_and_misses(KEY, lost).await?;
    }
    let fill = s.store().fill(lease, Some(s.sample(1)), s.lasting()).await?;
    ensure!(fill == Fill::Stored, "the lost lease ended the next one");
    s.holds(KEY, 1).await?;
    Ok(())
}

impl<S: Comparable> Subject<S> {
    async fn still_holds_if_fenced(&self, number: u32) -> Kept {
        if self.store().capabilities().fenced {
            self.holds(KEY, number).await?;
        }
        Ok(())
    }
}

pub(super) async fn a_release_tells_whether_the_lease_has_held<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let lease = s.lease(KEY).await?;
    ensure!(s.store().release(lease).await?, "the lease is said to be lost, and was not");
    let fenced = s.store().capabilities().fenced;
    let lease = s.lease(KEY).await?;
    s.store().remove(KEY).await?;
    let held = s.store().release(lease).await?;
    ensure!(
        held != fenced,
        "after a removal the lease is said to have held = {held}, of a store with fenced = {fenced}"
    );
    Ok(())
}
