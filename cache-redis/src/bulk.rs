//! The operations on many keys: one round trip, or one for each few hundred keys.

use std::mem;

use bytes::Bytes;
use cache_core::{Entry, Error, ErrorKind, Result, SetOptions};
use redis::{Pipeline, Value};
use smol_str::SmolStr;

use crate::error::unexpected;
use crate::inner::Inner;
use crate::link::{Link, Live, Pending, is_no_script};
use crate::ops::in_time;
use crate::scripts::Call;

/// So many keys go together: enough to make the round trip not count, and few enough for others to get
/// their turn in between.
const TOGETHER: usize = 500;

impl Inner {
    pub(crate) async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<Bytes>>>> {
        let mut entries = Vec::with_capacity(keys.len());
        for keys in keys.chunks(TOGETHER) {
            if let Err(error) = self.get_together(keys, &mut entries).await {
                entries.extend(keys.iter().map(|_| Err(error.clone())));
            }
        }
        entries
    }

    /// Adds an entry for each key, or none and returns an error.
    async fn get_together(
        &self,
        keys: &[&str],
        entries: &mut Vec<Result<Option<Entry<Bytes>>>>,
    ) -> Result<()> {
        let link = self.link_of(keys);
        let live = link.live()?;
        if self.settings.bare {
            entries.extend(self.get_many_bare(link, &live, keys).await?);
            return Ok(());
        }
        let mut command = redis::cmd("MGET");
        let mut full = self.settings.prefix.to_string();
        for key in keys {
            full.truncate(self.settings.prefix.len());
            full.push_str(key);
            command.arg(&full);
        }
        let answer = link.send(&live, &command, link.deadline()).await?;
        match link.accepted(&live, answer)? {
            Value::Array(values) if values.len() == keys.len() => {
                // Reading the clock costs as much as decoding a header.
                let now = live.clock.now();
                let values = values.into_iter();
                entries.extend(values.map(|value| self.entry(link, &live, value, now)));
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    pub(crate) async fn set_many(
        &self,
        entries: Vec<(&str, Option<Bytes>, SetOptions)>,
    ) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(entries.len());
        let mut together = Vec::new();
        for (key, value, options) in entries {
            let valid = self.check(value.as_ref(), &options);
            if valid.is_ok() {
                together.push((results.len(), key, value, options));
            }
            results.push(valid);
            if together.len() == TOGETHER {
                self.set_together(mem::take(&mut together), &mut results).await;
            }
        }
        if !together.is_empty() {
            self.set_together(together, &mut results).await;
        }
        results
    }

    async fn set_together(
        &self,
        entries: Vec<(usize, &str, Option<Bytes>, SetOptions)>,
        results: &mut [Result<()>],
    ) {
        let full: Vec<SmolStr> = entries.iter().map(|(_, key, ..)| self.full(key)).collect();
        let places: Vec<usize> = entries.iter().map(|(place, ..)| *place).collect();
        let sent = async {
            let keys: Vec<&str> = entries.iter().map(|(_, key, ..)| *key).collect();
            let link = self.link_of(&keys);
            let live = link.live()?;
            let entries = full.iter().zip(entries);
            if self.settings.bare {
                let entries = entries.map(|(full, (.., value, options))| (full, value, options));
                return self.set_many_bare(link, &live, entries.collect()).await;
            }
            let not_after = self.not_after(&live);
            let calls: Vec<_> = entries
                .map(|(full, (.., value, options))| {
                    self.scripts.set(full, value, &options, not_after)
                })
                .collect();
            self.run_together(link, &live, &calls).await
        };
        let outcomes = match sent.await {
            Ok(outcomes) => outcomes,
            Err(error) => places.iter().map(|_| Err(error.clone())).collect(),
        };
        for ((place, full), outcome) in places.into_iter().zip(full).zip(outcomes) {
            results[place] = self.keep_if_unsent(outcome, || Pending::Remove(full));
        }
    }

    /// Runs scripts in their order.
    async fn run_together(
        &self,
        link: &Link,
        live: &Live,
        calls: &[Call<'_>],
    ) -> Result<Vec<Result<()>>> {
        let mut commands = Pipeline::new();
        for call in calls {
            commands.add_command(call.by_digest());
        }
        let mut values = link.send_all(live, &commands).await?;
        if let Some(first) = values.iter().position(is_no_script) {
            // From there on all of them, so that of two writes of a key the later one stays.
            let mut commands = Pipeline::new();
            for code in self.scripts.codes() {
                commands.cmd("SCRIPT").arg("LOAD").arg(code);
            }
            let loads = commands.len();
            for call in &calls[first..] {
                commands.add_command(call.by_digest());
            }
            values.truncate(first);
            values.extend(link.send_all(live, &commands).await?.into_iter().skip(loads));
        }
        let values = values.into_iter();
        Ok(values.map(|value| link.accepted(live, value).and_then(in_time)).collect())
    }

    pub(crate) async fn remove(&self, keys: &[&str]) -> Result<()> {
        let mut result = Ok(());
        for keys in keys.chunks(TOGETHER) {
            let removed = self.remove_together(keys).await;
            if removed.as_ref().is_err_and(|error: &Error| error.kind() == ErrorKind::Unavailable) {
                for key in keys {
                    self.keep(Pending::Remove(self.full(key)));
                }
            }
            result = result.and(removed);
        }
        result
    }

    async fn remove_together(&self, keys: &[&str]) -> Result<()> {
        let link = self.link_of(keys);
        let live = link.live()?;
        let mut command = redis::cmd("UNLINK");
        for key in keys {
            command.arg(&*self.full(key));
        }
        let answer = link.send(&live, &command, link.deadline()).await?;
        link.accepted(&live, answer).map(drop)
    }

    /// The connection for keys that go together: that of the first.
    fn link_of(&self, keys: &[&str]) -> &std::sync::Arc<Link> {
        self.link(keys.first().copied().unwrap_or_default())
    }
}
