//! What a failing disk does to a journal.

mod slow;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cache_core::{Due, Error, ErrorKind, Journal, Seq};
use cache_serde::Postcard;
use tempfile::TempDir;

use crate::log::tests::Faults;
use crate::{DiskJournal, salvage};

type Disk = DiskJournal<u64, Vec<u8>>;

async fn open(path: &Path) -> Disk {
    DiskJournal::open(path, Postcard::new()).await.expect("a journal")
}

async fn close(journal: Disk) {
    journal.close(Duration::from_secs(60)).await.expect("closed");
}

/// What the file has, by a journal that is closed again.
async fn replayed(path: &Path) -> BTreeMap<u64, (Seq, Option<Vec<u8>>)> {
    let journal = open(path).await;
    let all = journal.backlog().take(EVERYTHING).await;
    close(journal).await;
    all.into_iter().map(|taken| (taken.write.key, (taken.write.seq, taken.write.value))).collect()
}

const EVERYTHING: Due = Due { writes: 100_000, bytes: usize::MAX, age: Duration::ZERO };

fn directory() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal");
    (directory, path)
}

#[tokio::test]
async fn a_full_disk_fails_the_put_and_loses_nothing_and_puts_work_again_when_there_is_room() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    Faults::of(&path).room(std::fs::metadata(&path).unwrap().len());
    let mut acknowledged = BTreeMap::new();
    let mut refused = 0;
    for key in 0..100 {
        let value = Some(vec![7; 300_000]);
        match journal.append(key, value.clone()).await {
            Ok(seq) => drop(acknowledged.insert(key, (seq, value))),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Journal, "{error}");
                refused += 1;
                assert_eq!(journal.pending(&key.to_string()).await.unwrap(), None);
                if refused == 3 {
                    break;
                }
            }
        }
    }
    assert_eq!(refused, 3, "the disk was never full");
    assert!(Faults::of(&path).over());
    let seq = journal.append(1_000_000, Some(vec![8])).await.expect("there is room again");
    acknowledged.insert(1_000_000, (seq, Some(vec![8])));
    close(journal).await;
    assert_eq!(replayed(&path).await, acknowledged);
}

/// Each step of each commit fails once: the writes of what is done, what is replaced, what is new.
#[tokio::test]
async fn wherever_a_commit_fails_what_was_acknowledged_stays_and_what_was_not_does_not_come() {
    for (step, sync) in (0..24).map(|step| (step, false)).chain([(0, true)]) {
        let (_directory, path) = directory();
        let journal = open(&path).await;
        for key in 0..12 {
            journal.append(key, Some(vec![1; 3000])).await.unwrap();
        }
        let batch = journal.backlog().take(EVERYTHING).await;
        let (done, kept) = batch.split_at(5);

        let faults = Faults::of(&path);
        if sync {
            faults.no_sync();
        } else {
            faults.writes_left(step);
        }
        let was_done = journal.done(done).await;
        journal.backlog().done(done);
        let replaced = journal.append(7, Some(vec![2; 3000])).await;
        let new = journal.append(100, None).await;
        let parked = journal.park(&kept[0], &Error::new(ErrorKind::Write)).await;
        let failed = faults.over();
        assert_eq!(
            failed,
            [was_done.is_ok(), replaced.is_ok(), new.is_ok(), parked.is_ok()].contains(&false)
        );

        let after = journal.append(101, Some(vec![3])).await.expect("the disk is well again");
        let mut expected: BTreeMap<_, _> = kept
            .iter()
            .map(|taken| (taken.write.key, (taken.write.seq, taken.write.value.clone())))
            .collect();
        if parked.is_ok() {
            expected.remove(&kept[0].write.key);
        }
        if let Ok(seq) = replaced {
            expected.insert(7, (seq, Some(vec![2; 3000])));
        }
        if let Ok(seq) = new {
            expected.insert(100, (seq, None));
        }
        expected.insert(101, (after, Some(vec![3])));
        let dead = journal.dead();
        assert_eq!(dead, usize::from(parked.is_ok()));
        assert_eq!(journal.dead_letters(10).await.unwrap().len(), dead);
        close(journal).await;
        assert_eq!(replayed(&path).await, expected, "step {step}, sync {sync}");
    }
}

/// Others would see what is in the file, and acknowledge writes that are taken away when it is opened anew.
#[tokio::test]
async fn a_journal_whose_commit_has_failed_still_keeps_others_from_its_file() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    let first = journal.append(1, None).await.unwrap();
    let faults = Faults::of(&path);
    faults.writes_left(0);
    journal.append(2, None).await.expect_err("nothing can be written");
    assert!(faults.over());

    let second = Disk::open(&path, Postcard::new()).await.expect_err("a second one");
    let salvaged = salvage::<u64, Vec<u8>>(&path, Postcard::new()).expect_err("in use");
    for refused in [second, salvaged] {
        assert_eq!(refused.kind(), ErrorKind::Journal);
        assert!(refused.to_string().contains("is in use"), "{refused}");
    }
    let third = journal.append(3, None).await.expect("the disk is well again");
    close(journal).await;
    assert_eq!(replayed(&path).await, BTreeMap::from([(1, (first, None)), (3, (third, None))]));
}

/// The system shows what a failed sync has not written, as if it had, and no later sync writes it.
#[tokio::test]
async fn what_is_acknowledged_after_a_failed_sync_survives_a_loss_of_power() {
    for by_another in [false, true] {
        let (_directory, path) = directory();
        close(open(&path).await).await;
        let faults = Faults::of(&path);
        faults.watch_the_disk(&path);
        let mut journal = open(&path).await;
        let mut acknowledged = BTreeMap::new();
        for round in 0..5_u64 {
            for key in 100 * round..100 * round + 50 {
                let value = Some(vec![1; 3000]);
                let seq = journal.append(key, value.clone()).await.expect("acknowledged");
                acknowledged.insert(key, (seq, value));
            }
            faults.no_sync();
            for key in 100 * round + 50..100 * round + 53 {
                journal.append(key, Some(vec![2; 3000])).await.expect_err("not on the disk");
            }
            if by_another {
                close(journal).await;
                Disk::open(&path, Postcard::new()).await.expect_err("not on the disk yet");
                assert!(faults.over());
                journal = open(&path).await;
            } else {
                assert!(faults.over());
            }
            let seq = journal.append(7, None).await.expect("the disk is well again");
            acknowledged.insert(7, (seq, None));

            let after = path.with_extension(round.to_string());
            std::fs::write(&after, faults.on_the_disk()).unwrap();
            let mut found = replayed(&after).await;
            // A write that failed may be made, if there was an end before the next.
            found.retain(|key, _| !by_another || acknowledged.contains_key(key));
            assert!(found == acknowledged, "round {round}, by another: {by_another}");
        }
        close(journal).await;
    }
}

/// The file is not what it was: without one of the acknowledged writes, it takes no others as if nothing had happened.
#[tokio::test]
async fn a_file_that_cant_be_brought_back_takes_nothing_until_it_can() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    let first = journal.append(1, Some(vec![1])).await.unwrap();
    let second = journal.append(2, Some(vec![2])).await.unwrap();
    let faults = Faults::of(&path);
    faults.writes_left(0);
    journal.append(3, None).await.expect_err("nothing can be written");
    assert!(faults.over());
    let whole = std::fs::read(&path).unwrap();
    {
        let db = redb::Database::open(&path).unwrap();
        let write = db.begin_write().unwrap();
        let pending = redb::TableDefinition::<&str, &[u8]>::new("pending");
        write.open_table(pending).unwrap().remove("1").unwrap();
        write.commit().unwrap();
    }
    for _ in 0..3 {
        let lost = journal.append(3, None).await.expect_err("a write is lost");
        assert!(lost.to_string().contains("not in the file any more"), "{lost}");
    }
    std::fs::write(&path, whole).unwrap();
    let third = journal.append(3, None).await.expect("all is there again");
    close(journal).await;
    let expected = [(1, (first, Some(vec![1]))), (2, (second, Some(vec![2]))), (3, (third, None))];
    assert_eq!(replayed(&path).await, BTreeMap::from(expected));
}

#[tokio::test]
async fn dead_letters_are_read_after_a_failed_commit_as_soon_as_the_disk_is_well() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    journal.append(1, None).await.unwrap();
    let batch = journal.backlog().take(EVERYTHING).await;
    journal.park(&batch[0], &Error::new(ErrorKind::Write)).await.unwrap();
    let faults = Faults::of(&path);
    faults.no_sync();
    journal.append(2, None).await.expect_err("not on the disk");
    let error = journal.dead_letters(10).await.expect_err("nor is it known what is");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert!(faults.over());
    assert_eq!(journal.dead_letters(10).await.expect("letters").len(), 1);
    close(journal).await;
    assert_eq!(open(&path).await.depth().writes(), 0, "what has failed is taken away");
}
