use std::time::Duration;

use cache_core::Result;
use redis::Value;
use smol_str::SmolStr;

use crate::error::unexpected;
use crate::scripts::{Call, Text};
use crate::slot::lease_life;

/// So long the log lives when nobody needs it: longer than a load takes.
const LOG_LIFE: &str = "600000";

/// So many tags are in the log: those that were invalidated last.
const LOG_LENGTH: &str = "4096";

/// The scripts about tags. All their keys are in one slot of a cluster.
pub(crate) struct MarkScripts {
    epoch: Text,
    stamp: Text,
    invalidate: Text,
}

impl MarkScripts {
    pub(crate) fn new() -> Self {
        let text = |code| Text::of(&[include_str!("prelude.lua"), code]);
        Self {
            epoch: text(include_str!("epoch.lua")),
            stamp: text(include_str!("stamp.lua")),
            invalidate: text(include_str!("invalidate.lua")),
        }
    }

    pub(crate) fn epoch<'a>(&'a self, log: &'a str) -> Call<'a> {
        Call::new(&self.epoch, log).small(LOG_LIFE)
    }

    /// `slack` is how much longer the marks live than the entry.
    pub(crate) fn stamp<'a>(
        &'a self,
        log: &'a str,
        marks: &'a [SmolStr],
        tags: &[&str],
        since: Option<u64>,
        life: Duration,
        slack: Duration,
    ) -> Call<'a> {
        let millis =
            (life != Duration::MAX).then(|| lease_life(life.saturating_add(slack)).millis());
        let text =
            |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let call = Call::new(&self.stamp, log)
            .and_keys(marks)
            .small(LOG_LIFE)
            .small(text(millis))
            .small(text(since));
        tags.iter().fold(call, |call, tag| call.small(*tag))
    }

    pub(crate) fn invalidate<'a>(
        &'a self,
        log: &'a str,
        marks: &'a [SmolStr],
        tags: &[&str],
    ) -> Call<'a> {
        let call = Call::new(&self.invalidate, log).and_keys(marks);
        let call = call.small(LOG_LIFE).small(LOG_LENGTH);
        tags.iter().fold(call, |call, tag| call.small(*tag))
    }
}

/// An epoch or a generation that a script returned.
pub(super) fn number(value: &Value) -> Result<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| unexpected()),
        _ => Err(unexpected()),
    }
}
