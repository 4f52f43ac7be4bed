//! Leases on keys that have an entry, to replace it while it is read.
//!
//! A store without versions can't tell the entries of a key apart. It answers such a claim as it
//! likes, but does not lose the entry over it.

use super::{Comparable, KEY, Kept, Subject, ensure};
use crate::{Claim, Fill, SetOptions, Version};

pub(super) async fn a_refresh_keeps_the_old_value_readable<S: Comparable>(s: Subject<S>) -> Kept {
    s.put(KEY, 1).await?;
    let entry = s.holds(KEY, 1).await?;
    if s.refreshes(&entry).await? {
        let _lease = s.refresh(KEY, &entry).await?;
    }
    let during = s.holds(KEY, 1).await?;
    ensure!(during.version() == entry.version(), "the refresh has changed the entry's version");
    let claim = s.store().claim("another", s.claiming()).await?;
    ensure!(matches!(claim, Claim::Granted(_)), "the refresh keeps another key: {claim:?}");
    let many = s.store().get_many(&[KEY]).await.remove(0)?;
    ensure!(many.and_then(crate::Entry::into_value) == Some(s.sample(1)), "get_many misses it");
    Ok(())
}

pub(super) async fn a_refresh_replaces_value_and_lifetime<S: Comparable>(s: Subject<S>) -> Kept {
    s.store().set(KEY, Some(s.sample(1)), SetOptions::ttl(s.long() / 2)).await?;
    let entry = s.holds(KEY, 1).await?;
    if !s.refreshes(&entry).await? {
        return Ok(());
    }
    let lease = s.refresh(KEY, &entry).await?;
    let fill = s.store().fill(lease, Some(s.sample(2)), s.lasting()).await?;
    ensure!(fill == Fill::Stored, "the fill was {fill:?}");
    let refreshed = s.holds(KEY, 2).await?;
    ensure!(refreshed.usable_for() > s.long() / 2, "the lifetime is the old one");
    let versioned = s.store().capabilities().versioned;
    let same = refreshed.version() == entry.version();
    ensure!(!versioned || !same, "the version is the old one");
    Ok(())
}

pub(super) async fn a_second_refresh_is_held<S: Comparable>(s: Subject<S>) -> Kept {
    s.put(KEY, 1).await?;
    let entry = s.holds(KEY, 1).await?;
    if !s.refreshes(&entry).await? {
        return Ok(());
    }
    let lease = s.refresh(KEY, &entry).await?;
    let second = s.store().claim(KEY, s.claiming().refreshing(entry.version())).await?;
    let cold = s.store().claim(KEY, s.claiming()).await?;
    ensure!(matches!(cold, Claim::Found(_)), "a claim that saw nothing does not find the entry");
    if s.store().capabilities().fenced {
        ensure!(matches!(second, Claim::Held { .. }), "the second refresh is {second:?}");
        s.store().release(lease).await?;
        let _lease = s.refresh(KEY, &entry).await?;
    } else {
        ensure!(matches!(second, Claim::Granted(_)), "the second refresh is {second:?}");
    }
    Ok(())
}

pub(super) async fn a_refresh_of_another_version_finds_the_entry<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.put(KEY, 1).await?;
    let old = s.holds(KEY, 1).await?.version();
    s.put(KEY, 2).await?;
    let others: &[Version] = if s.store().capabilities().versioned {
        &[old, Version::UNKNOWN]
    } else {
        &[Version::new(7)]
    };
    for other in others {
        match s.store().claim(KEY, s.claiming().refreshing(*other)).await? {
            Claim::Found(entry) => {
                ensure!(entry.into_value() == Some(s.sample(2)), "another entry was found");
            }
            claim => ensure!(false, "the claim that saw {other:?} is {claim:?}"),
        }
    }
    Ok(())
}

pub(super) async fn a_refresh_of_a_key_that_is_gone_is_granted<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.put(KEY, 1).await?;
    let entry = s.holds(KEY, 1).await?;
    s.store().remove(KEY).await?;
    let lease = s.refresh(KEY, &entry).await?;
    let fill = s.store().fill(lease, Some(s.sample(2)), s.lasting()).await?;
    ensure!(fill == Fill::Stored, "the fill was {fill:?}");
    s.holds(KEY, 2).await?;
    Ok(())
}

pub(super) async fn a_refresh_is_refused_if_the_entry_was_replaced<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.put(KEY, 1).await?;
    let entry = s.holds(KEY, 1).await?;
    if !s.refreshes(&entry).await? {
        return Ok(());
    }
    let lease = s.refresh(KEY, &entry).await?;
    s.put(KEY, 2).await?;
    s.refuses(lease).await?;
    if s.store().capabilities().fenced {
        s.holds(KEY, 2).await?;
    }
    Ok(())
}

pub(super) async fn a_refresh_is_refused_if_the_entry_was_removed<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.put(KEY, 1).await?;
    let entry = s.holds(KEY, 1).await?;
    if !s.refreshes(&entry).await? {
        return Ok(());
    }
    let lease = s.refresh(KEY, &entry).await?;
    s.store().remove(KEY).await?;
    s.refuses_and_misses(KEY, lease).await
}

pub(super) async fn a_refresh_that_is_given_up_leaves_the_entry<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.put(KEY, 1).await?;
    let entry = s.holds(KEY, 1).await?;
    if s.refreshes(&entry).await? {
        let lease = s.refresh(KEY, &entry).await?;
        s.store().release(lease).await?;
    }
    let after = s.holds(KEY, 1).await?;
    ensure!(after.is_fresh(), "the entry is stale");
    ensure!(after.version() == entry.version(), "the entry's version has changed");
    ensure!(after.usable_for() <= entry.usable_for(), "the entry's lifetime has grown");
    Ok(())
}

impl<S: Comparable> Subject<S> {
    /// Whether the store refreshes under a lease. One that tells no versions only has to answer.
    async fn refreshes(&self, entry: &crate::Entry<S::Value>) -> Kept<bool> {
        let capabilities = self.store().capabilities();
        if capabilities.versioned {
            return Ok(true);
        }
        ensure!(entry.version() == Version::UNKNOWN, "there are versions, with versioned = false");
        let claim = self.store().claim(KEY, self.claiming().refreshing(Version::UNKNOWN)).await?;
        match claim {
            Claim::Granted(lease) => {
                self.store().release(lease).await?;
                Ok(!capabilities.fenced)
            }
            Claim::Found(_) => Ok(false),
            Claim::Held { .. } => {
                ensure!(false, "nobody holds the key");
                Ok(false)
            }
        }
    }
}
