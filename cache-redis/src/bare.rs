//! Slots that are the payload and nothing else.

use std::time::Duration;

use bytes::Bytes;
use cache_core::{Entry, Error, Result, SetOptions};
use redis::{Cmd, Pipeline, Value};
use smol_str::SmolStr;

use crate::error::unexpected;
use crate::inner::Inner;
use crate::link::{Link, Live};
use crate::slot::Ends;

impl Inner {
    pub(crate) async fn get_bare(
        &self,
        link: &Link,
        live: &Live,
        key: &str,
    ) -> Result<Option<Entry<Bytes>>> {
        let entries = self.get_many_bare(link, live, &[key]).await?;
        entries.into_iter().next().unwrap_or_else(|| Err(unexpected()))
    }

    /// Value and remaining lifetime are two commands, in one round trip and one transaction: nobody writes
    /// in between.
    pub(crate) async fn get_many_bare(
        &self,
        link: &Link,
        live: &Live,
        keys: &[&str],
    ) -> Result<Vec<Result<Option<Entry<Bytes>>>>> {
        let mut commands = Pipeline::new();
        commands.cmd("MULTI");
        for key in keys {
            let full = self.full(key);
            commands.cmd("PTTL").arg(&*full);
            commands.cmd("GET").arg(&*full);
        }
        commands.cmd("EXEC");
        let values = match link.send_all(live, &commands).await?.pop() {
            Some(Value::Array(values)) => values,
            Some(other) => return link.accepted(live, other).and(Err(unexpected())),
            None => return Err(unexpected()),
        };
        let mut values = values.into_iter();
        let mut entries = Vec::with_capacity(keys.len());
        while let (Some(left), Some(value)) = (values.next(), values.next()) {
            entries.push(self.bare_entry(link, live, left, value));
        }
        Ok(entries)
    }

    fn bare_entry(
        &self,
        link: &Link,
        live: &Live,
        left: Value,
        value: Value,
    ) -> Result<Option<Entry<Bytes>>> {
        let left = match link.accepted(live, left)? {
            Value::Int(-1) => Duration::MAX,
            Value::Int(millis) if millis > 0 => Duration::from_millis(millis.unsigned_abs()),
            // It ends now, or was not there a moment ago.
            _ => return Ok(None),
        };
        match value {
            Value::BulkString(bytes) => Ok(Some(Entry::new(Some(bytes.into()), left, left))),
            // Nothing, or another type.
            other => self.entry(link, live, other, 0),
        }
    }

    pub(crate) async fn set_bare(
        &self,
        link: &Link,
        live: &Live,
        full: &str,
        value: Option<Bytes>,
        options: &SetOptions,
    ) -> Result<()> {
        let command = bare_set(full, value.as_ref(), options);
        let answer = link.send(live, &command, link.deadline()).await?;
        link.accepted(live, answer).map(drop)
    }

    pub(crate) async fn set_many_bare(
        &self,
        link: &Link,
        live: &Live,
        entries: Vec<(&SmolStr, Option<Bytes>, SetOptions)>,
    ) -> Result<Vec<Result<()>>, Error> {
        let mut commands = Pipeline::new();
        for (full, value, options) in entries {
            commands.add_command(bare_set(full, value.as_ref(), &options));
        }
        let answers = link.send_all(live, &commands).await?.into_iter();
        Ok(answers.map(|answer| link.accepted(live, answer).map(drop)).collect())
    }
}

/// What can't be told from a value, "nothing there" and "stale", is not stored.
fn bare_set(full: &str, value: Option<&Bytes>, options: &SetOptions) -> Cmd {
    let (Some(value), false) = (value, options.fresh_for().is_zero()) else {
        let mut remove = redis::cmd("UNLINK");
        remove.arg(full);
        return remove;
    };
    let mut set = redis::cmd("SET");
    set.arg(full).arg(&value[..]);
    if let Some(fresh) = Ends::of(options).fresh {
        set.arg("PX").arg(fresh.millis());
    }
    set
}
