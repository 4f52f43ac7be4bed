//! The journal on disk, by what its users see.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Bounds, Due, Error, ErrorKind, Journal, Seq, Taken};
use cache_journal::{DiskJournal, salvage};
use cache_serde::{Json, Postcard};
use tempfile::TempDir;

type Disk = DiskJournal<u64, String>;

const EVERYTHING: Due = Due { writes: 100_000, bytes: usize::MAX, age: Duration::ZERO };

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.journal");
    (directory, path)
}

async fn open(path: &Path) -> Disk {
    DiskJournal::open(path, Json::new()).await.expect("a journal")
}

async fn close(journal: Disk) {
    journal.close(Duration::from_secs(60)).await.expect("closed");
}

async fn append(journal: &Disk, key: u64, value: &str) -> Seq {
    journal.append(key, Some(value.to_owned())).await.expect("appended")
}

async fn take(journal: &Disk) -> Vec<Taken<u64, String>> {
    journal.backlog().take(EVERYTHING).await
}

/// As a flusher does it.
async fn done(journal: &Disk, writes: &[Taken<u64, String>]) {
    journal.done(writes).await.expect("done");
    journal.backlog().done(writes);
}

fn seen(writes: &[Taken<u64, String>]) -> Vec<(u64, Option<&str>, Seq)> {
    writes.iter().map(|t| (t.write.key, t.write.value.as_deref(), t.write.seq)).collect()
}

async fn refused(path: &Path) -> Error {
    DiskJournal::<u64, String>::open(path, Json::new()).await.expect_err("refused")
}

#[tokio::test]
async fn what_was_acknowledged_is_there_when_it_is_opened_again_the_last_of_each_key_in_order() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    append(&journal, 1, "a").await;
    let two = append(&journal, 2, "b").await;
    let one = append(&journal, 1, "c").await;
    append(&journal, 3, "d").await;
    let three = journal.append(3, None).await.unwrap();
    assert!(two < one && one < three);
    close(journal).await;

    let journal = open(&path).await;
    assert_eq!(journal.pending("1").await.unwrap(), Some((one, Some("c".to_owned()))));
    assert_eq!(journal.depth().writes(), 3);
    let batch = take(&journal).await;
    assert_eq!(seen(&batch), [(2, Some("b"), two), (1, Some("c"), one), (3, None, three)]);
}

#[tokio::test]
async fn what_is_done_does_not_come_back_but_a_newer_write_of_the_key_does() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    append(&journal, 1, "old").await;
    append(&journal, 2, "done").await;
    let batch = take(&journal).await;
    let new = append(&journal, 1, "new").await; // while the old one is being made
    done(&journal, &batch).await;
    close(journal).await;

    let journal = open(&path).await;
    assert_eq!(seen(&take(&journal).await), [(1, Some("new"), new)]);
}

#[tokio::test]
async fn numbers_go_on_when_all_is_done_and_in_a_new_file() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    let first = append(&journal, 1, "a").await;
    let batch = take(&journal).await;
    done(&journal, &batch).await;
    close(journal).await;

    let journal = open(&path).await;
    let second = append(&journal, 1, "b").await;
    assert!(second > first);
    close(journal).await;

    fs::rename(&path, path.with_extension("away")).unwrap();
    let journal = open(&path).await;
    let third = append(&journal, 1, "c").await;
    assert!(third > second, "a source that compares numbers would refuse it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_come_together_share_a_commit() {
    let (_directory, path) = directory();
    let journal = Arc::new(open(&path).await);
    let put = |key: u64| {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move { append(&journal, key % 50, "v").await })
    };
    let puts: Vec<_> = (0..4000).map(put).collect();
    for put in puts {
        put.await.unwrap();
    }
    assert_eq!(journal.depth().writes(), 50);
    assert!(journal.commits() < 1000, "{} commits", journal.commits());
}

#[tokio::test]
async fn a_dead_letter_stays_with_its_cause_until_it_is_discarded() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    let seq = append(&journal, 1, "bad").await;
    append(&journal, 2, "good").await;
    let batch = take(&journal).await;
    let cause = Error::with_cause(ErrorKind::Write, "violates a constraint");
    journal.park(&batch[0], &cause).await.unwrap();
    journal.backlog().done(&batch[..1]);
    close(journal).await;

    let journal = open(&path).await;
    assert_eq!(seen(&take(&journal).await).len(), 1, "what is parked is not tried again");
    assert_eq!(journal.dead(), 1);
    let letters = journal.dead_letters(10).await.unwrap();
    assert_eq!((letters[0].key.as_str(), letters[0].seq), ("1", seq));
    let write = letters[0].write.as_ref().unwrap();
    assert_eq!((write.key, write.value.as_deref()), (1, Some("bad")));
    assert_eq!(letters[0].cause, cause.to_string());
    assert!(!journal.discard("2", seq).await.unwrap(), "another key");
    assert!(journal.discard("1", seq).await.unwrap());
    assert!(!journal.discard("1", seq).await.unwrap());
    close(journal).await;

    let journal = open(&path).await;
    assert!(journal.dead_letters(10).await.unwrap().is_empty());
}

/// The type of the values has changed, say.
#[tokio::test]
async fn a_dead_letter_that_cant_be_read_is_listed_among_the_others_and_can_be_discarded() {
    let (_directory, path) = directory();
    let journal = DiskJournal::<u64, u64>::open(&path, Json::new()).await.unwrap();
    for (key, value) in [(1, 7), (2, 700)] {
        journal.append(key, Some(value)).await.unwrap();
    }
    let batch = journal.backlog().take(EVERYTHING).await;
    let cause = Error::with_cause(ErrorKind::Write, "violates a constraint");
    for taken in &batch {
        journal.park(taken, &cause).await.unwrap();
    }
    journal.close(Duration::from_secs(60)).await.unwrap();

    let journal = DiskJournal::<u64, u8>::open(&path, Json::new()).await.unwrap();
    let letters = journal.dead_letters(10).await.unwrap();
    assert_eq!(letters[0].write.as_ref().map(|write| write.value), Some(Some(7)));
    let unreadable = &letters[1];
    assert_eq!((unreadable.key.as_str(), unreadable.seq), ("2", batch[1].write.seq));
    assert_eq!(unreadable.write, None);
    for why in ["violates a constraint", "can't be read"] {
        assert!(unreadable.cause.contains(why), "{}", unreadable.cause);
    }
    assert!(journal.discard(&unreadable.key, unreadable.seq).await.unwrap());
    assert_eq!(journal.dead_letters(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn parking_an_older_write_leaves_the_newer_one_of_its_key() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    append(&journal, 1, "bad").await;
    let batch = take(&journal).await;
    let new = append(&journal, 1, "good").await;
    journal.park(&batch[0], &Error::new(ErrorKind::Write)).await.unwrap();
    close(journal).await;
    assert_eq!(seen(&take(&open(&path).await).await), [(1, Some("good"), new)]);
}

#[tokio::test]
async fn there_are_only_so_many_dead_letters() {
    let (_directory, path) = directory();
    let journal: Disk =
        DiskJournal::builder(Json::new()).most_dead_letters(1).open(&path).await.unwrap();
    append(&journal, 1, "a").await;
    append(&journal, 2, "b").await;
    let batch = take(&journal).await;
    let cause = Error::new(ErrorKind::Write);
    journal.park(&batch[0], &cause).await.unwrap();
    let full = journal.park(&batch[1], &cause).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Full);
    close(journal).await;
    assert_eq!(seen(&take(&open(&path).await).await).len(), 1, "it is still in the journal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_no_more_than_its_bounds_however_many_come_together() {
    let (_directory, path) = directory();
    let bounds = Bounds { writes: 10, ..Bounds::default() };
    let journal: Disk = DiskJournal::builder(Json::new()).bounds(bounds).open(&path).await.unwrap();
    let journal = Arc::new(journal);
    let puts = (0..100).map(|key| {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move { journal.append(key, Some("v".to_owned())).await })
    });
    let mut taken = 0;
    for put in puts.collect::<Vec<_>>() {
        match put.await.unwrap() {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Full),
        }
    }
    assert_eq!((taken, journal.depth().writes()), (10, 10));
    let batch = take(&journal).await;
    done(&journal, &batch).await;
    append(&journal, 1000, "there is room again").await;
}

#[tokio::test]
async fn it_takes_only_so_many_bytes_but_one_write_of_any_size() {
    let (_directory, path) = directory();
    let bounds = Bounds { bytes: 1000, ..Bounds::default() };
    let journal: Disk = DiskJournal::builder(Json::new()).bounds(bounds).open(&path).await.unwrap();
    append(&journal, 1, &"x".repeat(5000)).await;
    let full = journal.append(2, Some("y".to_owned())).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Full);
    append(&journal, 1, "smaller, in its place").await;
    append(&journal, 2, "y").await;
}

#[tokio::test]
async fn an_append_whose_caller_goes_away_is_done_completely_or_not_at_all() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    for key in 0..200_u64 {
        let append = journal.append(key, Some("v".to_owned()));
        // Polled so often, and dropped then.
        let polls = key % 3;
        let mut append = std::pin::pin!(append);
        for _ in 0..polls {
            let once = std::future::poll_fn(|cx| std::task::Poll::Ready(append.as_mut().poll(cx)));
            if once.await.is_ready() {
                break;
            }
        }
    }
    let last = append(&journal, 1000, "v").await;
    let there: Vec<_> = take(&journal).await;
    assert!(there.iter().all(|taken| taken.write.seq <= last));
    let before: Vec<_> = there.iter().map(|t| (t.write.key, t.write.seq)).collect();
    close(journal).await;
    let after = take(&open(&path).await).await;
    let after: Vec<_> = after.iter().map(|t| (t.write.key, t.write.seq)).collect();
    assert_eq!(before, after, "the log and the backlog agree");
}

#[tokio::test]
async fn a_second_journal_on_the_file_is_refused_until_the_first_is_closed() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    append(&journal, 1, "a").await;
    let error = refused(&path).await;
    assert_eq!(error.kind(), ErrorKind::Journal);
    assert!(error.to_string().contains("is in use"), "{error}");
    append(&journal, 2, "b").await;
    close(journal).await;
    assert_eq!(open(&path).await.depth().writes(), 2);
}

#[tokio::test]
async fn a_closed_journal_takes_nothing_more() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    append(&journal, 1, "a").await;
    journal.close(Duration::from_secs(60)).await.unwrap();
    journal.close(Duration::from_secs(60)).await.unwrap();
    let error = journal.append(2, Some("b".to_owned())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = journal.dead_letters(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_that_names_it() {
    let (_directory, path) = directory();
    let error = refused(&path.join("nowhere/journal")).await;
    assert_eq!(error.kind(), ErrorKind::Journal);
    assert!(error.to_string().contains("nowhere"), "{error}");
}

/// A process that is killed while it makes one leaves it, before it has its name or after.
#[tokio::test]
async fn what_a_crash_leaves_of_a_new_file_is_gone_when_it_is_opened_again() {
    for named in [false, true] {
        let (directory, path) = directory();
        let unfinished = directory.path().join("orders.journal.unfinished");
        if named {
            let journal = open(&path).await;
            append(&journal, 1, "a").await;
            close(journal).await;
            fs::hard_link(&path, &unfinished).unwrap();
        } else {
            fs::write(&unfinished, "not all of it").unwrap();
        }
        let journal = open(&path).await;
        assert_eq!(journal.depth().writes(), usize::from(named));
        let names = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["orders.journal", "orders.journal.lock"]);
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_not_touched() {
    let (_directory, path) = directory();
    close(open(&path).await).await;
    {
        let db = redb::Database::open(&path).unwrap();
        let write = db.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        write.open_table(meta).unwrap().insert("version", 2).unwrap();
        write.commit().unwrap();
    }
    let before = fs::read(&path).unwrap();
    let error = refused(&path).await;
    assert_eq!(error.kind(), ErrorKind::Journal);
    assert!(error.to_string().contains("is of version 2"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_refused_and_not_touched() {
    let (_directory, path) = directory();
    let other = path.with_extension("other");
    drop(redb::Database::create(&other).unwrap());
    let foreign = fs::read(&other).unwrap();
    for bytes in [Vec::new(), b"hello".to_vec(), vec![0; 1 << 20], foreign] {
        fs::write(&path, &bytes).unwrap();
        let error = refused(&path).await;
        assert_eq!(error.kind(), ErrorKind::Journal);
        assert!(error.to_string().contains("It has not been touched"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

/// Of a file that was closed properly no byte that matters can be changed unnoticed.
#[tokio::test]
async fn a_damaged_file_is_refused_and_not_touched_or_has_everything() {
    let (_directory, path) = directory();
    let journal = open(&path).await;
    for key in 0..100 {
        append(&journal, key, &"value".repeat(50)).await;
    }
    let batch = take(&journal).await;
    let expected: Vec<_> = batch.iter().map(|t| t.write.clone()).collect();
    close(journal).await;
    let whole = fs::read(&path).unwrap();

    let (mut refusals, mut seed) = (0, 1_u64);
    let mut damages: Vec<Vec<u8>> = vec![whole[..whole.len() / 2].to_vec(), whole[..5000].to_vec()];
    for _ in 0..80 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = whole.clone();
        // Most of the file is empty.
        let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        let at = used[(seed >> 33) as usize % used.len()];
        bytes[at] ^= 1 << (seed >> 60 & 7);
        damages.push(bytes);
    }
    for bytes in damages {
        fs::write(&path, &bytes).unwrap();
        match DiskJournal::<u64, String>::open(&path, Json::new()).await {
            Ok(journal) => {
                let found: Vec<_> = take(&journal).await.into_iter().map(|t| t.write).collect();
                assert_eq!(found, expected);
                close(journal).await;
            }
            Err(error) => {
                refusals += 1;
                assert_eq!(error.kind(), ErrorKind::Journal, "{error}");
                assert!(error.to_string().contains("It has not been touched"), "{error}");
                assert!(fs::read(&path).unwrap() == bytes);
                fs::rename(&path, path.with_extension("away")).unwrap(); // the way out
                close(open(&path).await).await;
            }
        }
    }
    assert!(refusals > 20, "{refusals} of the changes were noticed");
}

#[tokio::test]
async fn a_write_that_its_codec_does_not_know_is_refused_and_can_be_salvaged() {
    let (_directory, path) = directory();
    let journal: DiskJournal<u64, (u32, String)> =
        DiskJournal::open(&path, Postcard::new()).await.unwrap();
    let seq = journal.append(7, Some((1, "one".to_owned()))).await.unwrap();
    journal.close(Duration::from_secs(60)).await.unwrap();
    let before = fs::read(&path).unwrap();

    let changed = DiskJournal::<u64, u32>::open(&path, Postcard::new()).await.unwrap_err();
    assert_eq!(changed.kind(), ErrorKind::Codec, "{changed}");
    assert!(changed.to_string().contains("\"7\""), "{changed}");
    assert!(fs::read(&path).unwrap() == before);

    let salvaged = salvage::<u64, (u32, String)>(&path, Postcard::new()).unwrap();
    assert_eq!(salvaged.writes[0].seq, seq);
    assert_eq!(salvaged.writes[0].value, Some((1, "one".to_owned())));
    assert_eq!((salvaged.unreadable, salvaged.incomplete), (0, None));
    assert_eq!(salvage::<u64, u32>(&path, Postcard::new()).unwrap().unreadable, 1);
    assert!(fs::read(&path).unwrap() == before);
}
