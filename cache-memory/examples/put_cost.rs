//! What a write-behind `put` into memory costs, beside a `set` of the store alone. For instructions, each with two
//! numbers of writes; the difference of the totals by the difference of the writes is what one of them costs:
//!
//! ```text
//! cargo build --release -p cache-memory --example put_cost
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/put_cost put 200000
//! ```

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cache_core::{
    BehindOptions, Bounds, CacheStore, MemoryJournal, ReadOptions, ReadThrough, SetOptions, Write,
    WriteBatch, WriteBehind,
};
use cache_memory::MemoryStore;

const KEYS: u64 = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, writes] = &arguments[..] else { panic!("put_cost set|put|write-behind <writes>") };
    let writes: u64 = writes.parse().expect("a number of writes");
    let began = Instant::now();
    match &**what {
        "set" => {
            let store = MemoryStore::new(100_000);
            for n in 0..writes {
                let key = format!("user:profile:{:08}", n % KEYS);
                let options = SetOptions::ttl(Duration::from_secs(60));
                store.set(black_box(&key), Some(n), options).await.expect("set");
            }
        }
        "cache-put" => {
            let load = |_: String| async { Ok::<_, Infallible>(None::<u64>) };
            let options = ReadOptions::ttl(Duration::from_secs(60));
            let cache = ReadThrough::new(MemoryStore::new(100_000), load, options).expect("valid");
            for n in 0..writes {
                let key = format!("user:profile:{:08}", n % KEYS);
                cache.put(black_box(&key), Some(n)).await.expect("put");
            }
        }
        "put" => {
            let load = |_: String| async { Ok::<_, Infallible>(None::<u64>) };
            let writer = WriteBatch(|_: Vec<Write<String, u64>>| async { Ok::<_, Infallible>(()) });
            let options = ReadOptions::ttl(Duration::from_secs(60));
            let inner = ReadThrough::new(MemoryStore::new(100_000), load, options).expect("valid");
            let journal = MemoryJournal::new(Bounds::default());
            let options =
                BehindOptions::default().delay(Duration::from_secs(3600)).batch(1_000_000);
            let cache = WriteBehind::new(inner, writer, journal, options).expect("valid");
            for n in 0..writes {
                let key = format!("user:profile:{:08}", n % KEYS);
                cache.put(black_box(&key), n).await.expect("acknowledged");
            }
        }
        other => panic!("{other}"),
    }
    println!("{} ns a write", began.elapsed().as_nanos() / u128::from(writes));
}
