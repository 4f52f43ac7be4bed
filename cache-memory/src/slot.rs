use std::task::Poll;

use cache_core::{Entry, LoadTime, Moment, SetOptions, Version};

/// What an engine holds under a key: the value and the ends of its life, ready to be compared.
#[derive(Clone)]
pub struct Slot<V> {
    pub(crate) value: Option<V>,
    pub(crate) life: Life,
}

/// All of a slot but its value: taken apart, it needs no memory of its own on a hit, and nothing is to be dropped with it.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    fresh_until: Moment,
    usable_until: Moment,
    pub(crate) version: u64,
    load_time: LoadTime,
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
        let life = Life {
            fresh_until: now.plus(options.fresh_for()),
            usable_until: now.plus(options.usable_for()),
            version,
            load_time: options.load_time(),
            weight,
        };
        Self { value, life }
    }

    /// The entry as it is seen `now`; `None` once it has expired.
    pub(crate) fn seen(self, now: Moment) -> Option<Entry<V>> {
        self.life.entry(self.value, now)
    }
}

impl Life {
    #[inline]
    pub(crate) fn is_usable(self, now: Moment) -> bool {
        now < self.usable_until
    }

    /// The entry as it is seen `now`, before it has expired, with what `look` makes of its value.
    #[inline(always)]
    pub(crate) fn looked_at<V, T>(
        self,
        value: Option<V>,
        now: Moment,
        look: impl FnOnce(Option<V>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        match look(value) {
            Poll::Ready(Some(value)) => Poll::Ready(self.entry(value, now)),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    #[inline(always)]
    fn entry<T>(self, value: Option<T>, now: Moment) -> Option<Entry<T>> {
        let entry = Entry::seen(value, self.fresh_until, self.usable_until, now)?;
        Some(entry.with_version(Version::new(self.version)).with_load_time(self.load_time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_adds_at_most_four_words_to_its_value() {
        assert_eq!(size_of::<Slot<std::sync::Arc<str>>>(), size_of::<std::sync::Arc<str>>() + 32);
    }
}
