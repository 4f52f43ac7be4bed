//! Entries with the tags that the subject tells, for the promises about them.
//!
//! Who does not tell has no entry here with a tag, so nothing is to be removed.

use std::task::Poll;

use super::{Broken, Comparable, Kept, Subject, ensure};
use crate::{Claim, ErrorKind, Fill};

/// Keys, and the numbers of their samples; one entry is negative. The keys differ in their length, which
/// may be what tells their tags.
const ENTRIES: [(&str, Option<u32>); 6] = [
    ("a", Some(1)),
    ("bb", Some(2)),
    ("ccc", Some(3)),
    ("dddd", None),
    ("eeeee", Some(4)),
    ("ffffff", Some(5)),
];

pub(super) const NOBODYS: &str = "nobodys";

pub(super) struct Row<V> {
    pub(super) key: &'static str,
    pub(super) value: Option<V>,
    tags: Vec<String>,
}

/// How an entry is written: it has its tags whichever it is.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Set,
    SetMany,
    Fill,
}

pub(super) const WAYS: [Way; 3] = [Way::Set, Way::SetMany, Way::Fill];

/// A tag of each entry that has one: not always the first.
pub(super) fn some_tags<V>(rows: &[Row<V>]) -> impl Iterator<Item = (&Row<V>, &str)> {
    rows.iter().enumerate().filter_map(|(number, row)| {
        let tag = row.tags.get(number.checked_rem(row.tags.len())?)?;
        Some((row, tag.as_str()))
    })
}

impl<V> Row<V> {
    pub(super) fn has_one_of(&self, tags: &[&str]) -> bool {
        self.tags.iter().any(|tag| tags.contains(&tag.as_str()))
    }
}

impl<S: Comparable> Subject<S> {
    /// The entries, to be written; `None` if the store has no tags. Such a one has to say so, both ways, and to keep its
    /// entries and its leases.
    pub(super) async fn tagged_rows(&self) -> Kept<Option<Vec<Row<S::Value>>>> {
        let rows = self.rows()?;
        if self.store().capabilities().tags {
            return Ok(Some(rows));
        }
        self.write_all(&rows).await?;
        let load = self.lease("loading").await?;
        for tag in some_tags(&rows).map(|(_, tag)| tag).chain([NOBODYS]) {
            let kind = self.store().remove_tagged(&[tag]).await.err().map(|error| error.kind());
            ensure!(
                kind == Some(ErrorKind::Unsupported),
                "the error is {kind:?}, of a store with tags = false"
            );
        }
        for row in &rows {
            self.has(row).await?;
        }
        let fill = self.store().fill(load, Some(self.sample(1)), self.lasting()).await?;
        ensure!(fill == Fill::Stored, "a removal that failed took a lease");
        Ok(None)
    }

    fn rows(&self) -> Kept<Vec<Row<S::Value>>> {
        let mut told = false;
        let rows = ENTRIES.map(|(key, number)| {
            let value = number.map(|number| self.sample(number));
            let tags = self.tags_of(key, value.as_ref());
            told |= tags.is_some();
            Row { key, value, tags: tags.unwrap_or_default() }
        });
        ensure!(
            !told || rows.iter().any(|row| !row.tags.is_empty()),
            "by the function that `tagged_by` was given no entry of the kit has a tag"
        );
        Ok(rows.into())
    }

    pub(super) async fn write_all(&self, rows: &[Row<S::Value>]) -> Kept {
        for (row, way) in rows.iter().zip(WAYS.into_iter().cycle()) {
            self.write(row, way).await?;
        }
        Ok(())
    }

    pub(super) async fn write(&self, row: &Row<S::Value>, way: Way) -> Kept {
        let (key, value, options) = (row.key, row.value.clone(), self.lasting());
        match way {
            Way::Set => self.store().set(key, value, options).await?,
            Way::SetMany => {
                for result in self.store().set_many(vec![(key, value, options)]).await {
                    result?;
                }
            }
            Way::Fill => {
                self.store().remove(key).await?;
                let load = self.lease(key).await?;
                let fill = self.store().fill(load, value, options).await?;
                ensure!(fill == Fill::Stored, "the fill of {key:?} was {fill:?}");
            }
        }
        Ok(())
    }

    /// Makes sure that the entry is found, by everybody who looks for it.
    pub(super) async fn has(&self, row: &Row<S::Value>) -> Kept {
        let key = row.key;
        let entry = self.entry(key).await?;
        ensure!(
            entry.value() == row.value.as_ref(),
            "{key:?} holds {:?}, not {:?}",
            entry.value(),
            row.value
        );
        if let Poll::Ready(entry) = self.store().get_now(key) {
            ensure!(entry.is_some(), "get_now misses {key:?}");
        }
        for entry in self.store().get_many(&[key]).await {
            ensure!(entry?.is_some(), "get_many misses {key:?}");
        }
        Ok(())
    }

    /// Makes sure that nobody finds an entry. Who looks first changes with the round, since the first may tidy up.
    pub(super) async fn is_gone(&self, key: &str, round: usize) -> Kept {
        for way in 0..4 {
            match (round + way) % 4 {
                0 => self.misses(key).await?,
                1 => {
                    let now = self.store().get_now(key);
                    ensure!(!matches!(now, Poll::Ready(Some(_))), "get_now finds {key:?}");
                }
                2 => {
                    for entry in self.store().get_many(&[key]).await {
                        ensure!(entry?.is_none(), "get_many finds {key:?}");
                    }
                }
                _ => match self.store().claim(key, self.claiming()).await? {
                    Claim::Granted(lease) => self.store().release(lease).await.map(drop)?,
                    other => return Err(Broken(format!("the claim of {key:?} was {other:?}"))),
                },
            }
        }
        Ok(())
    }
}
