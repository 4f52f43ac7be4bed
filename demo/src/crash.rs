//! `cache-demo crash`: a child writes behind into a journal on disk and is killed in the middle of it, again and again; each
//! time what it has acknowledged has to be in SQLite after the journal was opened again.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use cache_core::{
    BatchWriter, BehindOptions, BoxError, Loader, ReadOptions, ReadThrough, Write, WriteBehind,
    Writer,
};
use cache_journal::DiskJournal;
use cache_memory::MemoryStore;
use cache_serde::Postcard;
use rusqlite::{Connection, OptionalExtension};

use crate::failure::{Failure, Result};

const CLIENTS: u64 = 64;
const PRODUCTS_OF_A_CLIENT: u64 = 10;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// The newest version of each product that was acknowledged.
type Acknowledged = HashMap<u64, u64>;

/// Kills the child so often, and compares.
pub(crate) fn run(rounds: u32, seed: u64) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|e| Failure::new("a temporary folder", e))?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut acknowledged = Acknowledged::new();
    say("round  acknowledged   in SQLite when killed   replayed from the journal   missing")?;
    for round in 1..=rounds {
        let child = Doomed::start(folder.path(), u64::from(round) << 32)?;
        let writes = child.die_after(random.u64(500..5_000), &mut acknowledged)?;
        let rows = Rows::open(folder.path())?;
        let before = rows.older_than(&acknowledged)?;
        let replayed = replay(folder.path(), &rows)?;
        let missing = rows.older_than(&acknowledged)?;
        let arrived = acknowledged.len() - before;
        let all = acknowledged.len();
        say(&format!(
            "{round:>5}  {writes:>12}   {arrived:>8} of {all:>4} products   {replayed:>25}   {missing:>7}"
        ))?;
        if missing > 0 {
            let lost = format!("{missing} products are older than what was acknowledged");
            return Err(Failure::new("writes were lost", lost));
        }
    }
    say("Every acknowledged write was in SQLite after the restart.")
}

/// What the child does: writes with many clients until it is killed, and says what was acknowledged.
pub(crate) fn child(folder: &Path, first_version: u64) -> Result<()> {
    in_runtime(async {
        let cache = Arc::new(open(folder, &Rows::open(folder)?).await?);
        let clients = (0..CLIENTS).map(|client| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move {
                for version in first_version.. {
                    let product = client * PRODUCTS_OF_A_CLIENT + version % PRODUCTS_OF_A_CLIENT;
                    cache.put(&product, version).await?;
                    say(&format!("{product} {version}"))?;
                }
                Ok::<_, Failure>(())
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.map_err(|e| Failure::new("a client", e))??;
        }
        Ok(())
    })
}

/// Opens the journal as the next start of a service does, and waits until it is empty: how much was in it.
fn replay(folder: &Path, rows: &Rows) -> Result<usize> {
    in_runtime(async {
        let cache = open(folder, rows).await?;
        let replayed = cache.stats().depth.writes();
        let left = cache.shutdown(LIMIT).await?;
        if left.is_empty() {
            return Ok(replayed);
        }
        Err(Failure::new("the journal can't be emptied", format!("{left:?}")))
    })
}

type Products = WriteBehind<ReadThrough<MemoryStore<u64>, Rows>, Rows, DiskJournal<u64, u64>>;

async fn open(folder: &Path, rows: &Rows) -> Result<Products> {
    let journal = DiskJournal::open(folder.join("journal"), Postcard::new()).await?;
    let options = ReadOptions::ttl(Duration::from_secs(600));
    let reads = ReadThrough::new(MemoryStore::new(10_000), rows.clone(), options)?;
    Ok(WriteBehind::new(reads, rows.clone(), journal, BehindOptions::default())?)
}

pub(crate) fn in_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| Failure::new("can't start the runtime", e))?.block_on(work)
}

pub(crate) fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").map_err(|e| Failure::new("standard output", e))
}

/// The child. It does not outlive this.
struct Doomed(Child);

impl Doomed {
    fn start(folder: &Path, first_version: u64) -> Result<Self> {
        let failed = |e| Failure::new("the child", e);
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("crash-child").arg(folder).arg(first_version.to_string());
        command.stdout(Stdio::piped()).spawn().map(Self).map_err(failed)
    }

    /// Kills it when it has said so many lines, and reads what else it had said by then.
    fn die_after(mut self, lines: u64, acknowledged: &mut Acknowledged) -> Result<u64> {
        let Some(output) = self.0.stdout.take() else {
            return Err(Failure::new("the child", "it has no output"));
        };
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(io::Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut count = 0;
        while let Ok(line) = said.recv_timeout(LIMIT) {
            // The last line may be torn, and says nothing then.
            let words = line.split_once(' ').map(|(key, version)| (key.parse(), version.parse()));
            if let Some((Ok(key), Ok(version))) = words
                && version >= 1_u64 << 32
            {
                acknowledged.insert(key, version);
                count += 1;
            }
            if count == lines {
                self.0.kill().map_err(|e| Failure::new("the child", e))?;
            }
        }
        if count < lines {
            return Err(Failure::new("the child", "it ended by itself"));
        }
        Ok(count)
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The source: the version of each product.
#[derive(Clone)]
pub(crate) struct Rows(Arc<Mutex<Connection>>);

impl Rows {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let open = || {
            let rows = Connection::open(folder.join("products.db"))?;
            rows.busy_timeout(LIMIT)?;
            rows.execute_batch(
                "PRAGMA journal_mode = WAL;
                CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)",
            )?;
            Ok(rows)
        };
        let rows = open().map_err(|e: rusqlite::Error| Failure::new("SQLite", e))?;
        Ok(Self(Arc::new(Mutex::new(rows))))
    }

    /// Sets versions, in one transaction.
    pub(crate) fn replace(&self, versions: impl IntoIterator<Item = (u64, u64)>) -> Result<()> {
        let replace = || {
            let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = rows.unchecked_transaction()?;
            for (id, version) in versions {
                transaction
                    .prepare_cached("REPLACE INTO products (id, version) VALUES (?1, ?2)")?
                    .execute([id.cast_signed(), version.cast_signed()])?;
            }
            transaction.commit()
        };
        replace().map_err(|e| Failure::new("SQLite", e))
    }

    pub(crate) fn version(&self, id: u64) -> rusqlite::Result<Option<u64>> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut select = rows.prepare_cached("SELECT version FROM products WHERE id = ?")?;
        let version = select.query_row([id.cast_signed()], |row| row.get(0)).optional()?;
        Ok(version.map(i64::cast_unsigned))
    }

    /// How many products are older than this.
    fn older_than(&self, acknowledged: &Acknowledged) -> Result<usize> {
        let mut older = 0;
        for (id, version) in acknowledged {
            let found = self.version(*id).map_err(|e| Failure::new("SQLite", e))?;
            older += usize::from(found < Some(*version));
        }
        Ok(older)
    }
}

impl Loader<u64> for Rows {
    type Value = u64;
    type Error = rusqlite::Error;

    async fn load(&self, id: u64) -> rusqlite::Result<Option<u64>> {
        self.version(id)
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
        let rows = Arc::clone(&self.0);
        let made = tokio::task::spawn_blocking(move || {
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = rows.transaction()?;
            for Write { key, value, .. } in &writes {
                let row = [Some(key.cast_signed()), value.map(u64::cast_signed)];
                let sql = match value {
                    Some(_) => "REPLACE INTO products (id, version) VALUES (?1, ?2)",
                    None => "DELETE FROM products WHERE id = ?1 AND ?2 IS NULL",
                };
                transaction.prepare_cached(sql)?.execute(row)?;
            }
            transaction.commit()
        });
        Ok(made.await??)
    }
}
