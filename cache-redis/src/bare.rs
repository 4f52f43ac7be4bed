//! Slots that are the payload and nothing else.

use std::time::Duration;

use bytes::Bytes;
use cache_core::{Entry, Result, SetOptions};
use redis::{Cmd, Value};

use crate::bulk::Batch;
use crate::error::unexpected;
use crate::inner::Inner;
use crate::route::Route;
use crate::slot::Ends;

impl Inner {
    pub(crate) async fn get_bare(&self, key: &str) -> Result<Option<Entry<Bytes>>> {
        let full = self.full_of(std::iter::once(key));
        let read = |route: &Route<'_>, answer, _| self.bare_entry(route, answer);
        let entries = self.spread(&full, &Batch::BareGet, read).await;
        entries.into_iter().next().unwrap_or_else(|| Err(unexpected()))
    }

    /// What the answers to `PTTL` and `GET` say.
    pub(crate) fn bare_entry(
        &self,
        route: &Route<'_>,
        answer: Value,
    ) -> Result<Option<Entry<Bytes>>> {
        let mut answers = match route.accepted(answer)? {
            Value::Array(answers) => answers.into_iter(),
            _ => return Err(unexpected()),
        };
        let (Some(left), Some(value)) = (answers.next(), answers.next()) else {
            return Err(unexpected());
        };
        let left = match route.accepted(left)? {
            Value::Int(-1) => Duration::MAX,
            Value::Int(millis) if millis > 0 => Duration::from_millis(millis.unsigned_abs()),
            // It ends now, or was not there a moment ago.
            _ => return Ok(None),
        };
        match value {
            Value::BulkString(bytes) => Ok(Some(Entry::new(Some(bytes.into()), left, left))),
            // Nothing, or another type.
            other => self.entry(route, other, 0),
        }
    }

    pub(crate) async fn set_bare(
        &self,
        full: &str,
        value: Option<&Bytes>,
        options: &SetOptions,
    ) -> Result<()> {
        let route = self.route(full)?;
        let deadline = route.link.deadline();
        let answer = route.send(bare_set(full, value, options), deadline).await?;
        match self.redirected(&route, full, &answer) {
            None => route.accepted(answer).map(drop),
            Some(route) => {
                let route = route?;
                let answer = route.send(bare_set(full, value, options), deadline).await?;
                route.accepted(answer).map(drop)
            }
        }
    }
}

/// What can't be told from a value, "nothing there" and "stale", is not stored.
pub(crate) fn bare_set(full: &str, value: Option<&Bytes>, options: &SetOptions) -> Cmd {
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
