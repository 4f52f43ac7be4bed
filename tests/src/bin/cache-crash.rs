//! Writes behind until it is killed, for `cache_tests::crash`:
//!
//! ```text
//! cache-crash DATABASE FIRST-VERSION disk FILE
//! cache-crash DATABASE FIRST-VERSION redis URL
//! cache-crash fill FILE
//! ```

use std::path::Path;

use cache_core::Journal;
use cache_journal::DiskJournal;
use cache_serde::Postcard;
use cache_tests::crash::{Rows, behind, redis_journal, write_for_ever};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["fill", file] = arguments[..] {
        return fill(file).await;
    }
    let [database, first_version, ref journal @ ..] = arguments[..] else { panic!("arguments") };
    let rows = Rows::open(Path::new(database));
    let first_version = first_version.parse().expect("a number");
    match journal {
        ["disk", file] => {
            let journal = DiskJournal::open(file, Postcard::new()).await.expect("a journal");
            write_for_ever(behind(&rows, journal), first_version).await;
        }
        ["redis", url] => {
            let journal = redis_journal(url).await;
            write_for_ever(behind(&rows, journal), first_version).await;
        }
        _ => panic!("which journal?"),
    }
}

/// Appends writes that nobody makes until one fails, then, after a line on standard input, one more. Says which were
/// acknowledged, and that it is full.
async fn fill(file: &str) {
    let journal =
        DiskJournal::<u64, Vec<u8>>::open(file, Postcard::new()).await.expect("a journal");
    for key in 0..10_000 {
        match journal.append(key, Some(vec![7; 100_000])).await {
            Ok(_) => println!("! {key}"),
            Err(error) => {
                println!("full {error}");
                break;
            }
        }
    }
    std::io::stdin().read_line(&mut String::new()).expect("standard input");
    journal.append(10_000, Some(vec![8])).await.expect("there is room again");
    println!("! 10000");
    // It ends without closing anything.
    std::process::exit(0);
}
