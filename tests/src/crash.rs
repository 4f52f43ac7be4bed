//! Processes that write behind and are killed, and what has to be true afterwards. `src/bin/cache-crash.rs` is the
//! process; the source is `SQLite`, in a file.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{
    BatchWriter, BehindOptions, BoxError, Journal, Loader, ReadOptions, ReadThrough, Write,
    WriteBehind, Writer,
};
use cache_memory::MemoryStore;
use cache_redis::RedisJournal;
use cache_serde::Postcard;
use rusqlite::{Connection, OptionalExtension, params};

use crate::redis::{answered, connected, patient_at};

/// Nothing takes as long, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(120);

/// The source: rows with a version, and a line for each write that was ever made.
#[derive(Clone, Debug)]
pub struct Rows(Arc<Mutex<Connection>>);

impl Rows {
    /// Opens the database, or makes it.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let rows = Connection::open(path).expect("a database");
        rows.busy_timeout(LIMIT).expect("a time limit");
        // It has to survive the end of a process, not of the machine.
        let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
            CREATE TABLE IF NOT EXISTS rows (key INTEGER PRIMARY KEY, version INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS audit (
                id INTEGER PRIMARY KEY, key INTEGER NOT NULL, version INTEGER, seq INTEGER NOT NULL
            );";
        rows.execute_batch(setup).expect("tables");
        Self(Arc::new(Mutex::new(rows)))
    }

    /// The version in the row.
    ///
    /// # Panics
    ///
    /// If the database fails.
    #[must_use]
    pub fn version(&self, key: u64) -> Option<u64> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut select =
            rows.prepare_cached("SELECT version FROM rows WHERE key = ?").expect("SQL");
        let version = select.query_row([key.cast_signed()], |row| row.get(0)).optional();
        version.expect("an answer").map(i64::cast_unsigned)
    }

    /// One transaction for all. No row is compared with what it was: order is the cache's business.
    fn make(&self, writes: &[Write<u64, u64>]) -> rusqlite::Result<()> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = rows.transaction()?;
        for Write { key, value, seq, .. } in writes {
            let (key, value) = (key.cast_signed(), value.map(u64::cast_signed));
            transaction
                .prepare_cached("INSERT INTO audit (key, version, seq) VALUES (?, ?, ?)")?
                .execute(params![key, value, seq.get().cast_signed()])?;
            let change = match value {
                Some(_) => {
                    "INSERT INTO rows (key, version) VALUES (?1, ?2)
                    ON CONFLICT (key) DO UPDATE SET version = ?2"
                }
                None => "DELETE FROM rows WHERE key = ?1 AND ?2 IS NULL",
            };
            transaction.prepare_cached(change)?.execute(params![key, value])?;
        }
        transaction.commit()
    }

    /// How many writes of a key came after a later one, and how many numbers stand for two different writes.
    ///
    /// # Panics
    ///
    /// If the database fails.
    #[must_use]
    pub fn disorder(&self) -> (i64, i64) {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |sql| rows.query_row(sql, [], |row| row.get(0)).expect("an answer");
        let backwards = "SELECT count(*) FROM (
            SELECT seq, version,
                max(seq) OVER before AS seen, max(version) OVER before AS newest
            FROM audit WINDOW before AS (PARTITION BY key ORDER BY id)
        ) WHERE seq < seen OR version < newest";
        let differing = "SELECT count(*) FROM (
            SELECT 1 FROM audit GROUP BY key, seq
            HAVING count(DISTINCT version) + max(version IS NULL) > 1
        )";
        (count(backwards), count(differing))
    }

    /// How many writes were made.
    ///
    /// # Panics
    ///
    /// If the database fails.
    #[must_use]
    pub fn writes(&self) -> i64 {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.query_row("SELECT count(*) FROM audit", [], |row| row.get(0)).expect("an answer")
    }
}

impl Loader<u64> for Rows {
    type Value = u64;
    type Error = Infallible;

    async fn load(&self, key: u64) -> Result<Option<u64>, Infallible> {
        Ok(self.version(key))
    }
}

impl Writer<u64, u64> for Rows {
    type Error = BoxError;

    async fn write(&self, write: Write<u64, u64>) -> Result<(), BoxError> {
        self.write_many(vec![write]).await
    }
}

impl BatchWriter<u64, u64> for Rows {
    async fn write_many(&self, writes: Vec<Write<u64, u64>>) -> Result<(), BoxError> {
        let rows = self.clone();
        // It goes on if this is given up, as a transaction on a server does.
        tokio::task::spawn_blocking(move || rows.make(&writes)).await??;
        Ok(())
    }
}

/// What is written behind.
pub type Behind<J> = WriteBehind<ReadThrough<MemoryStore<u64>, Rows>, Rows, J>;

/// A cache on these rows, which writes behind, in small batches and soon.
///
/// # Panics
///
/// If there is no runtime.
pub fn behind<J: Journal<Key = u64, Value = u64>>(rows: &Rows, journal: J) -> Behind<J> {
    let options = ReadOptions::ttl(Duration::from_secs(600));
    let cache = ReadThrough::new(MemoryStore::new(1_000), rows.clone(), options);
    let options = BehindOptions::default()
        .batch(20)
        .delay(Duration::from_millis(2))
        .parallel(3)
        .backoff(Duration::from_millis(5), Duration::from_millis(100));
    let cache = cache.expect("valid options");
    WriteBehind::new(cache, rows.clone(), journal, options).expect("valid options")
}

/// The journal in Redis that the processes share.
///
/// # Panics
///
/// If it can't be opened.
pub async fn redis_journal(url: &str) -> RedisJournal<u64, u64> {
    // It may still be loading what it has.
    let store = patient_at(url, "crash").operation_timeout(Duration::from_secs(2));
    let store = connected(store).await;
    let journal = || RedisJournal::<u64, u64>::builder(&store, "rows", Postcard::new());
    let journal = || journal().partitions(2).lease(Duration::from_millis(400));
    answered(async || journal().open().await).await
}

/// How many tasks write, each to keys of its own, and to how many.
const TASKS: u64 = 8;
const KEYS: u64 = 4;

/// Writes until the process is killed, and says on standard output what it begins (`?`) and what was acknowledged (`!`):
/// the key, the version, and 1 for a value or 0 for a removal.
///
/// # Panics
///
/// If an acknowledged write is not read.
pub async fn write_for_ever<J>(cache: Behind<J>, first_version: u64)
where
    J: Journal<Key = u64, Value = u64>,
{
    let cache = Arc::new(cache);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let cache = Arc::clone(&cache);
        tasks.spawn(async move {
            for version in first_version.. {
                let key = task * KEYS + version % KEYS;
                let removes = version % 7 == 3;
                println!("? {key} {version} {}", u8::from(!removes));
                let done = match removes {
                    true => cache.remove(&key).await,
                    false => cache.put(&key, version).await,
                };
                if done.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                println!("! {key} {version} {}", u8::from(!removes));
                // The journal may be out of reach.
                if version % 5 == 0
                    && let Ok(read) = cache.get(&key).await
                {
                    assert_eq!(read, (!removes).then_some(version), "of key {key}");
                }
            }
        });
    }
    // It ends by being killed, or by a panic.
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
}

/// A process that [writes for ever](write_for_ever). It is killed when it is dropped.
#[derive(Debug)]
pub struct Doomed {
    process: Child,
    lines: Receiver<String>,
}

impl Doomed {
    /// Starts the program with these arguments.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program that is killed");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // It is read to its end, however much anybody wants to know.
                let _ = sender.send(line);
            }
        });
        Self { process, lines }
    }

    /// Puts down what it has said so far until so many more writes were acknowledged.
    ///
    /// # Panics
    ///
    /// If it ends by itself.
    pub fn acknowledge(&mut self, ledger: &mut Ledger, writes: usize) {
        let mut left = writes;
        while left > 0 {
            let line = self.lines.recv_timeout(LIMIT).expect("it goes on");
            left -= usize::from(ledger.note(&line));
        }
    }

    /// Kills it, and puts down what else it has said.
    ///
    /// # Panics
    ///
    /// If it has ended by itself.
    pub fn kill(mut self, ledger: &mut Ledger) {
        assert_eq!(
            self.process.try_wait().expect("it can be asked"),
            None,
            "it panicked; see above"
        );
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            ledger.note(&line);
        }
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What was begun, and what was acknowledged.
#[derive(Debug, Default)]
pub struct Ledger {
    keys: BTreeMap<u64, Account>,
    acknowledged: usize,
}

#[derive(Debug, Default)]
struct Account {
    /// What may be there: the last acknowledged write, and those that were begun since. Version and value.
    possible: Vec<(u64, Option<u64>)>,
}

impl Ledger {
    /// How many writes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Puts a line down; says whether it was an acknowledgement.
    fn note(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        // The last line may be torn.
        let [what @ ("?" | "!"), key, version, is_value @ ("0" | "1")] = words[..] else {
            return false;
        };
        let (Ok(key), Ok(version)) = (key.parse(), version.parse()) else { return false };
        let possible = &mut self
            .keys
            .entry(key)
            .or_insert_with(|| Account { possible: vec![(0, None)] })
            .possible;
        let write = (version, (is_value == "1").then_some(version));
        if what == "!" {
            self.acknowledged += 1;
            possible.retain(|(begun, _)| *begun > version);
            possible.insert(0, write);
        } else {
            possible.push(write);
        }
        what == "!"
    }

    /// Compares with the rows, once all that was in the journal is in them.
    ///
    /// # Panics
    ///
    /// If an acknowledged write is missing, or something is there that nobody has written, or that is older.
    pub fn check(&self, rows: &Rows) {
        for (key, Account { possible }) in &self.keys {
            let found = rows.version(*key);
            assert!(
                possible.iter().any(|(_, value)| *value == found),
                "key {key} has {found:?}, of {possible:?}"
            );
        }
        assert_eq!(rows.disorder(), (0, 0), "backwards, and one number for two writes");
    }
}
