use std::time::Duration;

use cache_core::{Entry, Moment, SetOptions, Version};

/// What an engine holds under a key: the value and the ends of its life, ready to be compared.
#[derive(Clone)]
pub struct Slot<V> {
    pub(crate) value: Option<V>,
    fresh_until: Moment,
    usable_until: Moment,
    pub(crate) version: u64,
    /// Saturates at 71 minutes, which leaves room for the weight in the same word.
    load_micros: u32,
    pub(crate) weight: u32,
}

impl<V> Slot<V> {
    pub(crate) fn new(
        value: Option<V>,
        options: &SetOptions,
        now: Moment,
        version: u64,
        weight: u32,
    ) -> Self {
        Self {
            value,
            fresh_until: now.plus(options.fresh_for()),
            usable_until: now.plus(options.usable_for()),
            version,
            load_micros: micros(options.load_time()),
            weight,
        }
    }

    #[inline]
    pub(crate) fn is_usable(&self, now: Moment) -> bool {
        now < self.usable_until
    }

    /// The entry as it is seen `now`; `None` once it has expired.
    #[inline]
    pub(crate) fn seen(self, now: Moment) -> Option<Entry<V>> {
        let entry = Entry::seen(self.value, self.fresh_until, self.usable_until, now)?
            .with_version(Version::new(self.version));
        Some(match self.load_micros {
            0 => entry,
            micros => entry.with_load_time(Duration::from_micros(micros.into())),
        })
    }
}

/// Rounded up, because zero stands for a time that is not known.
fn micros(load_time: Duration) -> u32 {
    u32::try_from(load_time.as_nanos().div_ceil(1_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_adds_at_most_four_words_to_its_value() {
        assert_eq!(
            size_of::<Slot<std::sync::Arc<str>>>(),
            size_of::<std::sync::Arc<str>>() + 32
        );
    }

    #[test]
    fn a_load_time_is_kept_to_the_microsecond_and_never_becomes_unknown() {
        assert_eq!(micros(Duration::ZERO), 0);
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_millis(3)), 3_000);
        assert_eq!(micros(Duration::MAX), u32::MAX);
    }
}
