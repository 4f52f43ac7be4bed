//! The promises of `CacheStore`, each a function named after it.

mod bulk;
mod cancellation;
mod entries;
mod fences;
mod leases;
mod lifetimes;
mod refreshes;
mod removal;
mod rows;
mod tags;

use std::time::Duration;

use super::run::{Broken, Kept, Promise};
use super::subject::{Comparable, Subject};
use crate::{Claim, ClaimOptions, Entry, Fill, Lease};

/// Calls a macro with the names of all promises.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_promises {
    ([$($then:tt)+] $($more:tt)*) => {
        $($then)+! { [
            a_key_that_was_never_set_is_a_miss
            get_returns_what_set_stored
            set_replaces_the_value
            a_negative_entry_is_not_a_miss
            a_negative_entry_is_replaced_by_a_value
            keys_are_exact
            what_get_now_tells_is_what_get_tells
            every_write_has_a_version_of_its_own
            a_write_keeps_the_version_it_is_given
            value_and_lifetime_are_replaced_together

            an_entry_is_fresh_then_stale_then_gone
            an_entry_without_a_stale_time_is_gone_when_it_is_not_fresh
            a_lifetime_can_be_stale_from_its_start
            set_replaces_a_long_lifetime_by_a_short_one
            set_replaces_a_short_lifetime_by_a_long_one
            a_lifetime_of_zero_is_refused_and_changes_nothing
            a_lifetime_below_a_millisecond_is_accepted
            a_huge_lifetime_is_accepted
            for_ever_does_not_end
            the_load_time_travels_with_the_entry

            get_many_answers_in_the_order_of_the_keys
            set_many_stores_every_entry_with_its_own_lifetime
            of_a_key_that_set_many_has_twice_the_last_counts
            set_many_answers_in_the_order_of_the_entries
            remove_many_removes_these_keys_and_no_others
            bulk_calls_with_nothing_do_nothing

            remove_removes_this_key_and_no_other
            remove_of_an_absent_key_is_fine
            a_removed_key_can_be_set_again
            remove_prefix_removes_the_keys_that_begin_with_it
            remove_prefix_keeps_all_other_keys
            clear_removes_everything

            a_claim_on_an_entry_finds_it
            a_claim_on_a_miss_is_granted
            a_second_claim_is_held
            leases_on_different_keys_are_independent
            of_claims_at_the_same_time_one_is_granted
            a_lease_does_not_show_as_an_entry
            a_lease_ends_by_itself
            a_released_lease_lets_the_next_claim_in
            a_fill_stores_value_and_lifetime
            a_fill_with_a_lifetime_of_zero_is_refused_and_ends_the_lease

            a_lease_fills_once
            a_fill_after_a_removal_is_refused
            a_fill_after_a_bulk_removal_is_refused
            a_fill_after_a_prefix_removal_is_refused
            a_fill_after_a_clear_is_refused
            a_fill_after_a_write_is_refused
            a_fill_after_a_bulk_write_is_refused
            a_fill_after_the_end_of_its_lease_is_refused
            a_fill_after_the_release_of_its_lease_is_refused
            a_release_tells_whether_the_lease_has_held
            a_removal_lets_the_next_claim_in
            a_lost_lease_does_not_disturb_the_next_one

            a_refresh_keeps_the_old_value_readable
            a_refresh_replaces_value_and_lifetime
            a_second_refresh_is_held
            a_refresh_of_another_version_finds_the_entry
            a_refresh_of_a_key_that_is_gone_is_granted
            a_refresh_is_refused_if_the_entry_was_replaced
            a_refresh_is_refused_if_the_entry_was_removed
            a_refresh_that_is_given_up_leaves_the_entry

            a_dropped_read_changes_nothing
            a_dropped_write_is_done_or_not_done
            a_dropped_removal_is_done_or_not_done
            a_dropped_claim_ends_by_itself
            a_dropped_fill_is_done_or_not_done

            remove_tagged_removes_every_entry_that_has_one_of_the_tags
            remove_tagged_keeps_all_other_entries
            what_is_written_after_a_removal_by_tag_stays
            a_fill_after_a_removal_by_tag_is_refused
            a_release_after_a_removal_by_tag_tells_that_the_lease_was_lost
        ] $($more)* }
    };
}

macro_rules! table {
    ([$($promise:ident)+]) => {
        vec![$(Promise::new(stringify!($promise), |subject| Box::pin($promise(subject)))),+]
    };
}

pub(super) fn all<S: Comparable>() -> Vec<Promise<S>> {
    use self::{
        bulk::*, cancellation::*, entries::*, fences::*, leases::*, lifetimes::*, refreshes::*,
        removal::*, tags::*,
    };
    crate::__store_promises! { [table] }
}

/// Ends the test of a promise with a message, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::testing::run::Broken(format!($($message)+)));
        }
    };
}
use ensure;

/// A key for tests that need one.
const KEY: &str = "key";

impl<S: Comparable> Subject<S> {
    /// Stores the sample with this number for the whole test.
    async fn put(&self, key: &str, number: u32) -> Kept {
        Ok(self.store().set(key, Some(self.sample(number)), self.lasting()).await?)
    }

    /// The entry, which has to be there.
    async fn entry(&self, key: &str) -> Kept<Entry<S::Value>> {
        let entry = self.store().get(key).await?;
        entry.ok_or_else(|| Broken(format!("there is no entry under {}", short(key))))
    }

    /// Makes sure that the key holds the sample with this number.
    async fn holds(&self, key: &str, number: u32) -> Kept<Entry<S::Value>> {
        let entry = self.entry(key).await?;
        let sample = self.sample(number);
        ensure!(
            entry.value() == Some(&sample),
            "{} holds {:?}, not {sample:?}",
            short(key),
            entry.value()
        );
        Ok(entry)
    }

    /// Makes sure that there is no entry.
    async fn misses(&self, key: &str) -> Kept {
        match self.store().get(key).await? {
            None => Ok(()),
            Some(entry) => Err(Broken(format!("{} holds {:?}", short(key), entry.value()))),
        }
    }

    /// How to claim a key for the whole test.
    fn claiming(&self) -> ClaimOptions {
        ClaimOptions::new(self.long())
    }

    /// A lease for the whole test, on a key without an entry.
    async fn lease(&self, key: &str) -> Kept<Lease> {
        granted(self.store().claim(key, self.claiming()).await?)
    }

    /// A lease for the whole test, to replace this entry.
    async fn refresh(&self, key: &str, entry: &Entry<S::Value>) -> Kept<Lease> {
        let options = self.claiming().refreshing(entry.version());
        granted(self.store().claim(key, options).await?)
    }

    /// Makes sure that the lease, if leases of this store fence, does not fill its key any more.
    async fn refuses(&self, lease: Lease) -> Kept {
        let fenced = self.store().capabilities().fenced;
        let expected = if fenced { Fill::Refused } else { Fill::Stored };
        let fill = self.store().fill(lease, Some(self.sample(99)), self.lasting()).await?;
        ensure!(fill == expected, "the fill was {fill:?}, of a store with fenced = {fenced}");
        Ok(())
    }

    /// As [`refuses`](Self::refuses), and nothing is under the key of a fenced store.
    async fn refuses_and_misses(&self, key: &str, lease: Lease) -> Kept {
        self.refuses(lease).await?;
        if self.store().capabilities().fenced { self.misses(key).await } else { Ok(()) }
    }

    /// How long it still is until `end` after `from`.
    fn left_until(&self, from: Duration, end: Duration) -> Duration {
        (from + end).saturating_sub(self.now())
    }
}

fn granted<V: std::fmt::Debug>(claim: Claim<V>) -> Kept<Lease> {
    match claim {
        Claim::Granted(lease) => Ok(lease),
        other => Err(Broken(format!("the claim was not granted, but {other:?}"))),
    }
}

/// A key for a message: long ones are cut.
fn short(key: &str) -> String {
    let shown: String = key.chars().take(40).collect();
    if shown.len() == key.len() { format!("{key:?}") } else { format!("{shown:?}...") }
}
