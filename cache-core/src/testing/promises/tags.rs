//! What is removed by tag.

use super::rows::{NOBODYS, Row, WAYS, Way, some_tags};
use super::{Broken, Comparable, Kept, Subject, ensure};
use crate::{Fill, Lease};

pub(super) async fn remove_tagged_removes_every_entry_that_has_one_of_the_tags<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let Some(rows) = s.tagged_rows().await? else {
        return Ok(());
    };
    let one_of_each: Vec<&str> = some_tags(&rows).map(|(_, tag)| tag).collect();
    let mut calls: Vec<Vec<&str>> = one_of_each.iter().map(|tag| vec![*tag]).collect();
    calls.push([&[NOBODYS], &one_of_each[..]].concat());
    for (round, tags) in calls.iter().enumerate() {
        s.write_all(&rows).await?;
        s.store().remove_tagged(tags).await?;
        for row in rows.iter().filter(|row| row.has_one_of(tags)) {
            let gone = s.is_gone(row.key, round).await;
            gone.map_err(|Broken(m)| Broken(format!("after the removal of {tags:?}: {m}")))?;
        }
    }
    Ok(())
}

pub(super) async fn remove_tagged_keeps_all_other_entries<S: Comparable>(s: Subject<S>) -> Kept {
    let Some(rows) = s.tagged_rows().await? else {
        return Ok(());
    };
    let mut calls: Vec<Vec<&str>> = some_tags(&rows).map(|(_, tag)| vec![tag]).collect();
    let by_a_tag = calls.len();
    calls.extend([vec![NOBODYS], vec![]]);
    let mut shown = by_a_tag == 0;
    for (call, tags) in calls.iter().enumerate() {
        // The tags of the values that were there before are not those of the entries.
        for (row, number) in rows.iter().zip(2..) {
            s.put(row.key, number).await?;
        }
        s.write_all(&rows).await?;
        s.store().remove_tagged(tags).await?;
        for row in rows.iter().filter(|row| !row.has_one_of(tags)) {
            let stays = s.has(row).await;
            stays.map_err(|Broken(m)| Broken(format!("after the removal of {tags:?}: {m}")))?;
            shown |= call < by_a_tag;
        }
    }
    ensure!(
        shown,
        "by the function that `tagged_by` was given all entries of the kit have the same tags, \
         so nothing shows that the others stay"
    );
    Ok(())
}

pub(super) async fn what_is_written_after_a_removal_by_tag_stays<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    let Some(rows) = s.tagged_rows().await? else {
        return Ok(());
    };
    for (row, tag) in some_tags(&rows) {
        for way in WAYS {
            s.write(row, Way::Set).await?;
            s.store().remove_tagged(&[tag]).await?;
            s.write(row, way).await?;
            s.has(row).await?;
        }
        // And goes with the next removal.
        s.store().remove_tagged(&[tag]).await?;
        s.misses(row.key).await?;
    }
    Ok(())
}

/// Also where leases fence nothing: who removes by a tag can't tell a strategy which of its loads to forget.
pub(super) async fn a_fill_after_a_removal_by_tag_is_refused<S: Comparable>(s: Subject<S>) -> Kept {
    let Some(rows) = s.tagged_rows().await? else {
        return Ok(());
    };
    for (row, tag) in some_tags(&rows) {
        let load = s.lease(row.key).await?;
        s.is_refused_without(tag, load, row).await?;
        if s.store().capabilities().versioned {
            s.write(row, Way::Set).await?;
            let entry = s.entry(row.key).await?;
            let refresh = s.refresh(row.key, &entry).await?;
            s.is_refused_without(tag, refresh, row).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_release_after_a_removal_by_tag_tells_that_the_lease_was_lost<
    S: Comparable,
>(
    s: Subject<S>,
) -> Kept {
    let Some(rows) = s.tagged_rows().await? else {
        return Ok(());
    };
    for (row, tag) in some_tags(&rows) {
        let load = s.lease(row.key).await?;
        s.store().remove_tagged(&[tag]).await?;
        // What was loaded may have the tag, and somebody waits for this word on it.
        let held = s.store().release(load).await?;
        ensure!(
            !held,
            "after the removal of {tag:?} a lease on {:?} is said to have held",
            row.key
        );
    }
    Ok(())
}

impl<S: Comparable> Subject<S> {
    /// Makes sure that a load which is under way while a tag of its entry is removed leaves nothing.
    async fn is_refused_without(&self, tag: &str, lease: Lease, row: &Row<S::Value>) -> Kept {
        self.store().remove_tagged(&[tag]).await?;
        let fill = self.store().fill(lease, row.value.clone(), self.lasting()).await?;
        ensure!(fill == Fill::Refused, "the fill of {:?} without {tag:?} was {fill:?}", row.key);
        self.misses(row.key).await
    }
}
