//! The conformance kit catches a store that breaks a promise, and says which one it is.

mod broken;

use std::collections::BTreeSet;

use broken::{Broken, Fault, Fault::*};
use cache_core::testing::{Operation, Promise, Violation, promises, violations};

/// What each fault breaks. Where it is more than one promise, none can be broken without the others.
const BROKEN: &[(Fault, &[&str])] = &[
    (FirstReadFindsSomething, &["a_key_that_was_never_set_is_a_miss"]),
    (CorruptsOneValue, &["get_returns_what_set_stored"]),
    (KeepsAnOldValue, &["set_replaces_the_value"]),
    (
        NegativeIsAMiss,
        &[
            "a_negative_entry_is_not_a_miss",
            "a_negative_entry_is_replaced_by_a_value",
            "set_many_stores_every_entry_with_its_own_lifetime",
            "a_fill_stores_value_and_lifetime",
            "remove_tagged_keeps_all_other_entries",
            "what_is_written_after_a_removal_by_tag_stays",
            "a_fill_after_a_removal_by_tag_is_refused",
        ],
    ),
    (NegativeBlocksCreation, &["a_negative_entry_is_replaced_by_a_value"]),
    (CutsLongKeys, &["keys_are_exact"]),
    (
        GetNowFindsNothing,
        &[
            "what_get_now_tells_is_what_get_tells",
            "remove_tagged_keeps_all_other_entries",
            "what_is_written_after_a_removal_by_tag_stays",
        ],
    ),
    (GetNowAsFindsNothing, &["what_get_now_tells_is_what_get_tells"]),
    (MakesUpItsVersions, &["a_write_keeps_the_version_it_is_given"]),
    (VersionsStartAgainAfterARemoval, &["every_write_has_a_version_of_its_own"]),
    (
        WritesLifetimeBeforeValue,
        &["value_and_lifetime_are_replaced_together", "a_dropped_write_is_done_or_not_done"],
    ),
    (
        StaleIsGone,
        &[
            "an_entry_is_fresh_then_stale_then_gone",
            "a_lifetime_can_be_stale_from_its_start",
            "set_many_stores_every_entry_with_its_own_lifetime",
            "a_fill_stores_value_and_lifetime",
        ],
    ),
    (
        LivesAMillisecondLonger,
        &[
            "an_entry_without_a_stale_time_is_gone_when_it_is_not_fresh",
            "set_replaces_a_long_lifetime_by_a_short_one",
            "a_lifetime_below_a_millisecond_is_accepted",
        ],
    ),
    (
        RefusesToBeStaleFromTheStart,
        &["a_lifetime_can_be_stale_from_its_start", "a_claim_on_an_entry_finds_it"],
    ),
    (KeepsALongLifetime, &["set_replaces_a_long_lifetime_by_a_short_one"]),
    (KeepsAShortLifetime, &["set_replaces_a_short_lifetime_by_a_long_one"]),
    (AcceptsZero, &["a_lifetime_of_zero_is_refused_and_changes_nothing"]),
    (ZeroRemoves, &["a_lifetime_of_zero_is_refused_and_changes_nothing"]),
    (RefusesShortLifetimes, &["a_lifetime_below_a_millisecond_is_accepted"]),
    (HugeLifetimesOverflow, &["a_huge_lifetime_is_accepted"]),
    (ForEverEnds, &["for_ever_does_not_end"]),
    (DropsTheLoadTime, &["the_load_time_travels_with_the_entry"]),
    (GetManyAnswersInReverse, &["get_many_answers_in_the_order_of_the_keys"]),
    (SetManyIgnoresLifetimes, &["set_many_stores_every_entry_with_its_own_lifetime"]),
    (SetManyKeepsTheFirst, &["of_a_key_that_set_many_has_twice_the_last_counts"]),
    (SetManyAnswersInReverse, &["set_many_answers_in_the_order_of_the_entries"]),
    (RemoveManyTakesPrefixes, &["remove_many_removes_these_keys_and_no_others"]),
    (RemoveManyOfNothingClears, &["bulk_calls_with_nothing_do_nothing"]),
    (RemoveTakesAPrefix, &["remove_removes_this_key_and_no_other"]),
    (RemoveOfNothingFails, &["remove_of_an_absent_key_is_fine"]),
    (RemovedKeysStayRemoved, &["a_removed_key_can_be_set_again"]),
    (PrefixIsAPattern, &["remove_prefix_keeps_all_other_keys"]),
    (PrefixOverlooksUnicode, &["remove_prefix_removes_the_keys_that_begin_with_it"]),
    (ClearOverlooksNegatives, &["clear_removes_everything"]),
    (ClaimsOverNegatives, &["a_claim_on_an_entry_finds_it"]),
    (ClaimIsNotGranted, &["a_claim_on_a_miss_is_granted"]),
    (HeldGivesUp, &["a_second_claim_is_held"]),
    (
        ReleaseEndsAllLeases,
        &[
            "leases_on_different_keys_are_independent",
            "a_lost_lease_does_not_disturb_the_next_one",
            "a_release_tells_whether_the_lease_has_held",
            "a_release_after_a_removal_by_tag_tells_that_the_lease_was_lost",
        ],
    ),
    (ChecksThenClaims, &["of_claims_at_the_same_time_one_is_granted"]),
    (LeasesShow, &["a_lease_does_not_show_as_an_entry"]),
    (
        LeasesDoNotEnd,
        &[
            "a_lease_ends_by_itself",
            "a_fill_after_the_end_of_its_lease_is_refused",
            "a_dropped_claim_ends_by_itself",
        ],
    ),
    (LeasesEndEarly, &["a_lease_ends_by_itself"]),
    (
        ReleaseAlwaysHeld,
        &[
            "a_release_tells_whether_the_lease_has_held",
            "a_release_after_a_removal_by_tag_tells_that_the_lease_was_lost",
        ],
    ),
    (
        ReleaseDoesNothing,
        &[
            "a_released_lease_lets_the_next_claim_in",
            "a_fill_after_the_release_of_its_lease_is_refused",
            "a_release_tells_whether_the_lease_has_held",
            "a_release_after_a_removal_by_tag_tells_that_the_lease_was_lost",
            "a_second_refresh_is_held",
        ],
    ),
    (FillIgnoresTheLifetime, &["a_fill_stores_value_and_lifetime"]),
    (RefusedFillKeepsTheLease, &["a_fill_with_a_lifetime_of_zero_is_refused_and_ends_the_lease"]),
    (FillsAfter(Operation::Fill), &["a_lease_fills_once"]),
    (
        FillsAfter(Operation::Remove),
        &["a_fill_after_a_removal_is_refused", "a_refresh_is_refused_if_the_entry_was_removed"],
    ),
    (FillsAfter(Operation::RemoveMany), &["a_fill_after_a_bulk_removal_is_refused"]),
    (FillsAfter(Operation::RemovePrefix), &["a_fill_after_a_prefix_removal_is_refused"]),
    (FillsAfter(Operation::Clear), &["a_fill_after_a_clear_is_refused"]),
    (
        FillsAfter(Operation::Set),
        &["a_fill_after_a_write_is_refused", "a_refresh_is_refused_if_the_entry_was_replaced"],
    ),
    (FillsAfter(Operation::SetMany), &["a_fill_after_a_bulk_write_is_refused"]),
    (
        FillsAfter(Operation::Release),
        &[
            "a_fill_after_the_release_of_its_lease_is_refused",
            "a_lost_lease_does_not_disturb_the_next_one",
        ],
    ),
    (FillsAfter(Operation::Claim), &["a_fill_after_the_end_of_its_lease_is_refused"]),
    (
        RemoveKeepsTheLease,
        &[
            "a_fill_after_a_removal_is_refused",
            "a_removal_lets_the_next_claim_in",
            "a_lost_lease_does_not_disturb_the_next_one",
            "a_release_tells_whether_the_lease_has_held",
        ],
    ),
    (ReleasesTheLeasesOfOthers, &["a_lost_lease_does_not_disturb_the_next_one"]),
    (RefreshHidesTheEntry, &["a_refresh_keeps_the_old_value_readable"]),
    (RefreshKeepsTheLifetime, &["a_refresh_replaces_value_and_lifetime"]),
    (GrantsASecondRefresh, &["a_second_refresh_is_held"]),
    (RefreshesAnyVersion, &["a_refresh_of_another_version_finds_the_entry"]),
    (HoldsARefreshOfNothing, &["a_refresh_of_a_key_that_is_gone_is_granted"]),
    (GivingUpARefreshRemoves, &["a_refresh_that_is_given_up_leaves_the_entry"]),
    (ADroppedReadRemoves, &["a_dropped_read_changes_nothing"]),
    (ADroppedBulkWriteMixes, &["a_dropped_write_is_done_or_not_done"]),
    (ADroppedRemovalCorrupts, &["a_dropped_removal_is_done_or_not_done"]),
    (ADroppedClaimStays, &["a_dropped_claim_ends_by_itself"]),
    (ADroppedFillCorrupts, &["a_dropped_fill_is_done_or_not_done"]),
    (RemovesTheFirstTagOnly, &["remove_tagged_removes_every_entry_that_has_one_of_the_tags"]),
    (
        FindsWhatTagsRemoved(Operation::GetMany),
        &["remove_tagged_removes_every_entry_that_has_one_of_the_tags"],
    ),
    (
        FindsWhatTagsRemoved(Operation::Claim),
        &["remove_tagged_removes_every_entry_that_has_one_of_the_tags"],
    ),
    (GetNowFindsWhatTagsRemoved, &["remove_tagged_removes_every_entry_that_has_one_of_the_tags"]),
    (
        FindsWhatTagsRemoved(Operation::Get),
        &[
            "remove_tagged_removes_every_entry_that_has_one_of_the_tags",
            "what_is_written_after_a_removal_by_tag_stays",
            "a_fill_after_a_removal_by_tag_is_refused",
        ],
    ),
    (TagsRemoveEverything, &["remove_tagged_keeps_all_other_entries"]),
    (TagsRemoveWhatHadThemBefore, &["remove_tagged_keeps_all_other_entries"]),
    (TagsRemoveTwice, &["what_is_written_after_a_removal_by_tag_stays"]),
    (FillsAfter(Operation::RemoveTagged), &["a_fill_after_a_removal_by_tag_is_refused"]),
    (ReleaseHeldThroughTags, &["a_release_after_a_removal_by_tag_tells_that_the_lease_was_lost"]),
];

#[tokio::test]
async fn a_fault_breaks_its_promise_and_no_other() {
    let mut wrong = Vec::new();
    for (fault, expected) in BROKEN {
        let (expected, found) = (expected.iter().copied().collect(), broken_by(*fault).await);
        if found != expected {
            wrong.push((fault, expected, found));
        }
    }
    assert!(wrong.is_empty(), "(fault, expected, found): {wrong:#?}");
}

#[tokio::test]
async fn without_a_fault_nothing_is_broken() {
    assert_eq!(broken_by(Nothing).await, BTreeSet::new());
}

#[test]
fn every_promise_is_broken_by_a_fault() {
    let broken: BTreeSet<_> =
        BROKEN.iter().flat_map(|(_, broken)| broken.iter().copied()).collect();
    let promises: BTreeSet<_> = promises::<Broken>().iter().map(Promise::name).collect();
    assert_eq!(broken, promises);
}

#[tokio::test]
async fn capabilities_that_do_not_tell_the_truth_are_caught() {
    let unfenced = broken_by(SaysItIsNotFenced).await;
    assert!(unfenced.contains("a_second_claim_is_held"), "{unfenced:?}");
    let unversioned = broken_by(SaysItHasNoVersions).await;
    assert!(unversioned.is_empty(), "a store may keep its versions to itself: {unversioned:?}");
    let prefixless = broken_by(SaysItKnowsNoPrefixes).await;
    assert!(prefixless.contains("remove_prefix_keeps_all_other_keys"), "{prefixless:?}");
    for fault in [SaysItKnowsNoTags, RefusesTagsAndRemovesThem] {
        let tagless = broken_by(fault).await;
        assert!(
            tagless.contains("remove_tagged_keeps_all_other_entries"),
            "{fault:?}: {tagless:?}"
        );
    }
}

#[tokio::test]
async fn tags_that_show_nothing_are_told() {
    let told = async |tags: fn(&str, Option<&u32>) -> Vec<&'static str>| {
        let subject = || async move { Broken::subject(Nothing).tagged_by(tags) };
        let violations = violations(subject).await;
        violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let none = told(|_, _| vec![]).await;
    assert!(none.contains("by the function that `tagged_by` was given no entry"), "{none}");
    let same = told(|_, value| vec![if value.is_some() { "value" } else { "none" }]).await;
    assert!(!same.contains("have the same tags"), "{same}");
    let same = told(|_, _| vec!["same"]).await;
    assert!(same.contains("have the same tags"), "{same}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_broken_and_does_not_hang_the_tests() {
    let violations = violations(|| async { Broken::subject(Hangs) }).await;
    let first = violations.first().expect("broken").to_string();
    assert!(first.contains("did not answer within"), "{first}");
}

#[tokio::test]
async fn a_store_that_panics_is_broken_and_its_message_is_told() {
    let violations = violations(|| async { Broken::subject(Panics) }).await;
    let first = violations.first().expect("broken").to_string();
    assert!(first.contains("a_key_that_was_never_set_is_a_miss"), "{first}");
    assert!(first.contains("out of order"), "{first}");
}

async fn broken_by(fault: Fault) -> BTreeSet<&'static str> {
    let violations = violations(|| async { Broken::subject(fault) }).await;
    violations.iter().map(Violation::promise).collect()
}
