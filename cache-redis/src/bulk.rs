//! The operations on many keys: one round trip to each connection, or one for each few hundred keys of
//! it; all connections at the same time.

mod send;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use cache_core::{Entry, Result, SetOptions};
use futures_util::future::join_all;
use redis::Value;

use crate::error::unexpected;
use crate::inner::Inner;
use crate::keys::Keys;
use crate::link::{Pending, is_redirection};
use crate::ops::in_time;
use crate::route::Route;

/// So many keys go together: enough to make the round trip not count, and few enough for others to get
/// their turn in between.
const TOGETHER: usize = 500;

/// What is done with many keys.
pub(crate) enum Batch<'a> {
    Get,
    /// `PTTL` and `GET`, in one transaction: nobody writes in between.
    BareGet,
    Set(&'a [Write<'a>]),
    BareSet(&'a [Write<'a>]),
    Remove,
}

/// An entry to be written, and its place in the caller's list.
pub(crate) struct Write<'a> {
    place: usize,
    key: &'a str,
    value: Option<Bytes>,
    options: SetOptions,
    /// The pending removal that is to spare it once it has been made.
    removal: Option<u64>,
}

/// The keys that go by one connection, by their places.
struct Part<'a> {
    route: Route<'a>,
    places: Vec<usize>,
}

/// What came of some places: an answer for each, and the server's time of them.
struct Answered<'p> {
    places: &'p [usize],
    answers: Result<Vec<Value>>,
    now: u64,
}

impl Inner {
    pub(crate) async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<Bytes>>>> {
        let full = self.full_of(keys.iter().copied());
        if self.settings.bare {
            let read = |route: &Route<'_>, answer, _| self.bare_entry(route, answer);
            return self.spread(&full, &Batch::BareGet, read).await;
        }
        let read = |route: &Route<'_>, answer, now| self.entry(route, answer, now);
        self.spread(&full, &Batch::Get, read).await
    }

    pub(crate) async fn set_many(
        &self,
        entries: Vec<(&str, Option<Bytes>, SetOptions)>,
    ) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(entries.len());
        let mut writes = Vec::with_capacity(entries.len());
        for (place, (key, value, options)) in entries.into_iter().enumerate() {
            let valid = self.check(value.as_ref(), &options);
            if valid.is_ok() {
                writes.push(Write { place, key, value, options, removal: None });
            }
            results.push(valid);
        }
        let full = self.full_of(writes.iter().map(|write| write.key));
        for (write, full) in writes.iter_mut().zip(full.iter()) {
            let mut options = Cow::Borrowed(&write.options);
            write.removal = self.spare(full, &mut options);
            if let Cow::Owned(options) = options {
                write.options = options;
            }
        }
        let written = if self.settings.bare {
            let written = |route: &Route<'_>, answer, _| route.accepted(answer).map(drop);
            self.spread(&full, &Batch::BareSet(&writes), written).await
        } else {
            let written = |route: &Route<'_>, answer, _| route.accepted(answer).and_then(in_time);
            self.spread(&full, &Batch::Set(&writes), written).await
        };
        for ((write, full), written) in writes.iter().zip(full.iter()).zip(written) {
            if written.is_ok() {
                self.spare_made(write.removal, &write.options);
            }
            // It may have been written: nobody is to find it, nor what it was to replace.
            let owed = self.owing_one(|| Pending::Remove(full.into()));
            results[write.place] = owed.settle(written);
        }
        results
    }

    pub(crate) async fn remove(&self, keys: &[&str]) -> Result<()> {
        self.remove_full(&self.full_of(keys.iter().copied())).await
    }

    /// Removes keys as the server knows them.
    pub(crate) async fn remove_full(&self, full: &Keys) -> Result<()> {
        full.iter().for_each(|key| self.backlog.spare_none(key));
        let keys = full.iter();
        let owed = self.owing(|inner| keys.for_each(|key| inner.keep(Pending::Remove(key.into()))));
        let removed = |route: &Route<'_>, answer, _| route.accepted(answer).map(drop);
        let removed = self.spread(full, &Batch::Remove, removed).await;
        owed.ended();
        let mut result = Ok(());
        for (full, removed) in full.iter().zip(removed) {
            let owed = self.owing_one(|| Pending::Remove(full.into()));
            result = result.and(owed.settle(removed));
        }
        result
    }

    /// The keys as the server knows them.
    pub(crate) fn full_of<'k>(&self, keys: impl Iterator<Item = &'k str> + Clone) -> Keys {
        let prefix = &*self.settings.prefix;
        let (count, bytes) =
            keys.clone().fold((0, 0), |(n, bytes), key| (n + 1, bytes + prefix.len() + key.len()));
        let mut full = Keys::with_capacity(count, bytes);
        keys.for_each(|key| full.push(prefix, key));
        full
    }

    /// Does something with many keys, where each of them is, and once more where a cluster redirects it to.
    /// `finish` makes a result of each answer. The results are in the order of the keys.
    pub(crate) async fn spread<T>(
        &self,
        full: &Keys,
        batch: &Batch<'_>,
        finish: impl Fn(&Route<'_>, Value, u64) -> Result<T>,
    ) -> Vec<Result<T>> {
        let mut results: Vec<Option<Result<T>>> = (0..full.len()).map(|_| None).collect();
        let mut parts = match self.only_route() {
            Some(Ok(route)) => vec![Part { route, places: (0..full.len()).collect() }],
            Some(Err(error)) => return full.iter().map(|_| Err(error.clone())).collect(),
            None => Vec::new(),
        };
        if parts.is_empty() {
            for (place, key) in full.iter().enumerate() {
                if let Err(error) = self.add(&mut parts, place, key) {
                    results[place] = Some(Err(error));
                }
            }
        }
        for redirected in [false, true] {
            let sent = parts.iter().map(|part| self.send_part(full, batch, part));
            let sent = join_all(sent).await;
            let mut again: Vec<Part<'_>> = Vec::new();
            for (part, answered) in parts.iter().zip(sent) {
                for Answered { places, answers, now } in answered {
                    let answers = match answers {
                        Ok(answers) => answers,
                        Err(error) => {
                            places
                                .iter()
                                .for_each(|place| results[*place] = Some(Err(error.clone())));
                            continue;
                        }
                    };
                    for (&place, answer) in places.iter().zip(answers) {
                        let elsewhere = (!redirected && is_redirection(&answer))
                            .then(|| self.redirected(&part.route, full.at(place), &answer))
                            .flatten();
                        match elsewhere {
                            Some(Ok(route)) => {
                                match again.iter_mut().find(|part| part.is(&route)) {
                                    Some(part) => part.places.push(place),
                                    None => again.push(Part { route, places: vec![place] }),
                                }
                            }
                            Some(Err(error)) => results[place] = Some(Err(error)),
                            None => results[place] = Some(finish(&part.route, answer, now)),
                        }
                    }
                }
            }
            if again.is_empty() {
                break;
            }
            parts = again;
        }
        let results = results.into_iter();
        results.map(|result| result.unwrap_or_else(|| Err(unexpected()))).collect()
    }

    /// Adds a key to those that go by the same connection.
    fn add<'a>(&'a self, parts: &mut Vec<Part<'a>>, place: usize, full: &str) -> Result<()> {
        let link = self.link(full)?;
        match parts.iter_mut().find(|part| Arc::ptr_eq(&part.route.link, &link)) {
            Some(part) => part.places.push(place),
            None => {
                let live = link.live()?;
                parts
                    .push(Part { route: Route { link, live, asking: false }, places: vec![place] });
            }
        }
        Ok(())
    }
}

impl Part<'_> {
    fn is(&self, route: &Route<'_>) -> bool {
        Arc::ptr_eq(&self.route.link, &route.link) && self.route.asking == route.asking
    }
}
