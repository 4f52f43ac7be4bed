use std::time::Duration;

use super::{Comparable, KEY, Kept, Subject, ensure};
use crate::{ErrorKind, LoadTime, SetOptions};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) async fn an_entry_is_fresh_then_stale_then_gone<S: Comparable>(s: Subject<S>) -> Kept {
    s.lives_as_set(&SetOptions::ttl(s.units(4)).stale_for(s.units(4))).await
}

pub(super) async fn an_entry_without_a_stale_time_is_gone_when_it_is_not_fresh<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.lives_as_set(&SetOptions::ttl(s.units(4))).await
}

pub(super) async fn a_lifetime_can_be_stale_from_its_start<S: Comparable>(s: Subject<S>) -> Kept {
    s.lives_as_set(&SetOptions::ttl(Duration::ZERO).stale_for(s.units(4))).await
}

pub(super) async fn set_replaces_a_long_lifetime_by_a_short_one<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.store().set(KEY, Some(s.sample(2)), s.lasting().stale_for(s.long())).await?;
    s.lives_as_set(&SetOptions::ttl(s.units(2))).await
}

pub(super) async fn set_replaces_a_short_lifetime_by_a_long_one<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    s.store().set(KEY, Some(s.sample(2)), SetOptions::ttl(s.units(2))).await?;
    s.put(KEY, 1).await?;
    s.pass(s.units(2) + s.tolerance()).await;
    let entry = s.holds(KEY, 1).await?;
    ensure!(entry.is_fresh(), "the entry is stale when the replaced one would have ended");
    Ok(())
}

pub(super) async fn a_lifetime_of_zero_is_refused_and_changes_nothing<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    for before in [None, Some(1)] {
        if let Some(number) = before {
            s.put(KEY, number).await?;
        }
        match s.store().set(KEY, Some(s.sample(2)), SetOptions::ttl(Duration::ZERO)).await {
            Ok(()) => ensure!(false, "a lifetime of zero was accepted"),
            Err(error) => ensure!(
                error.kind() == ErrorKind::InvalidOption,
                "a lifetime of zero is not an invalid option but: {error}"
            ),
        }
        match before {
            None => s.misses(KEY).await?,
            Some(number) => drop(s.holds(KEY, number).await?),
        }
    }
    Ok(())
}

pub(super) async fn a_lifetime_below_a_millisecond_is_accepted<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    for lifetime in [1, 999_999] {
        let options = SetOptions::ttl(Duration::from_nanos(lifetime));
        s.store().set(KEY, Some(s.sample(1)), options).await?;
        if s.is_manual() {
            s.holds(KEY, 1).await?;
        }
        s.pass(Duration::from_millis(1) + s.tolerance()).await;
        s.misses(KEY).await?;
    }
    Ok(())
}

pub(super) async fn a_huge_lifetime_is_accepted<S: Comparable>(s: Subject<S>) -> Kept {
    let huge = [
        YEAR * 50,
        Duration::from_millis(i64::MAX as u64),
        Duration::from_millis(u64::MAX),
        Duration::from_secs(i64::MAX as u64),
        Duration::from_secs(u64::MAX),
        Duration::MAX,
    ];
    for lifetime in huge {
        let lasting = SetOptions::ttl(lifetime);
        for options in
            [lasting.clone(), lasting.stale_for(lifetime), s.lasting().stale_for(lifetime)]
        {
            s.store().set(KEY, Some(s.sample(1)), options.clone()).await?;
            let entry = s.holds(KEY, 1).await?;
            ensure!(entry.is_fresh(), "stale at once, of {options:?}");
            let left = entry.usable_for();
            ensure!(left > YEAR, "usable for {left:?} only, of {options:?}");
        }
    }
    Ok(())
}

pub(super) async fn for_ever_does_not_end<S: Comparable>(s: Subject<S>) -> Kept {
    s.store().set(KEY, Some(s.sample(1)), SetOptions::forever()).await?;
    s.pass(if s.is_manual() { YEAR * 100 } else { s.units(2) }).await;
    let entry = s.holds(KEY, 1).await?;
    let left = (entry.fresh_for(), entry.usable_for());
    ensure!(left == (Duration::MAX, Duration::MAX), "for ever is over in {left:?}");
    Ok(())
}

pub(super) async fn the_load_time_travels_with_the_entry<S: Comparable>(s: Subject<S>) -> Kept {
    let known = [1234, 0, 1].map(|millis| LoadTime::from(Duration::from_millis(millis)));
    for load_time in known.into_iter().chain([LoadTime::UNKNOWN]) {
        let options = s.lasting().with_load_time(load_time);
        s.store().set(KEY, Some(s.sample(1)), options).await?;
        let found = s.entry(KEY).await?.load_time();
        ensure!(found == load_time, "set with a load time of {load_time:?}, read with {found:?}");
    }
    Ok(())
}

impl<S: Comparable> Subject<S> {
    /// Writes with these options, and reads before, at and after every end.
    ///
    /// What an answer has to be follows from the time that has passed at least, and at most, between
    /// the write and the read; so a machine that is too busy makes the test less strict, not fail.
    async fn lives_as_set(&self, options: &SetOptions) -> Kept {
        let before = self.now();
        self.store().set(KEY, Some(self.sample(1)), options.clone()).await?;
        let after = self.now();

        let mut left = (Duration::MAX, Duration::MAX);
        for moment in self.moments(options) {
            self.pass(self.left_until(after, moment)).await;
            let asked = self.now();
            let entry = self.store().get(KEY).await?;
            let age = (asked - after, self.now() - before);

            ensure!(
                entry.is_some() || age.1 + self.tolerance() >= options.usable_for(),
                "gone after {:?}, of {options:?}",
                age.1
            );
            let Some(entry) = entry else { continue };
            ensure!(
                entry.value() == Some(&self.sample(1)),
                "it holds {:?} after {:?}",
                entry.value(),
                age.0
            );
            let now = (entry.fresh_for(), entry.usable_for());
            let ends = [
                ("fresh", now.0, left.0, options.fresh_for()),
                ("usable", now.1, left.1, options.usable_for()),
            ];
            for (what, now, last, set) in ends {
                let (least, most) = (set.saturating_sub(age.1), set.saturating_sub(age.0));
                ensure!(
                    now + self.tolerance() >= least && now <= most.saturating_add(self.tolerance()),
                    "{what} for {now:?} after {:?} to {:?}, of {options:?}",
                    age.0,
                    age.1
                );
                ensure!(now <= set, "{what} for {now:?}, more than was set: {options:?}");
                ensure!(
                    now <= last.saturating_add(self.tolerance()),
                    "{what} for {now:?}, after it had been for {last:?}"
                );
            }
            ensure!(
                age.0 < options.usable_for() + self.tolerance(),
                "still there after {:?}, of {options:?}",
                age.0
            );
            left = now;
        }
        Ok(())
    }

    /// Times after the write at which to look: at its start, and around every end.
    fn moments(&self, options: &SetOptions) -> Vec<Duration> {
        let instant = Duration::from_millis(1);
        let mut moments = vec![Duration::ZERO, options.fresh_for() / 2];
        for end in [options.fresh_for(), options.usable_for()] {
            moments.push(end.saturating_sub(instant + self.tolerance()));
            moments.push(end + self.tolerance());
        }
        moments
    }
}
