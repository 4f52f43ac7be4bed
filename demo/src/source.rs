//! The system of record behind the caches: a SQLite database of products in a temporary folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::failure::{Failure, Result};
use crate::loads::{Load, Loads, Overtaking};
use crate::pool::Pool;

/// Connections that read at the same time.
const READERS: usize = 4;

/// One row of the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) price_cents: u32,
    pub(crate) stock: u32,
    /// Goes up by one with every write.
    pub(crate) version: u64,
}

/// What a write changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) price_cents: u32,
    pub(crate) stock: u32,
}

/// A handle on the database; it counts what is asked of it since [`counted_anew`](Self::counted_anew).
#[derive(Clone)]
pub(crate) struct Source {
    database: Arc<Database>,
    counters: Arc<Counters>,
    delay: Duration,
}

struct Database {
    readers: Pool,
    writer: Pool,
    // Last, so that the folder goes when the connections are closed.
    _folder: TempDir,
}

struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    loads: Box<[Loads]>,
    most_loads: AtomicU64,
}

impl Source {
    /// Makes a database of products with the ids `0..products`. Ids up to `ids` will be asked for.
    /// Every answer takes `delay` longer than SQLite does.
    pub(crate) fn create(products: u64, ids: u64, delay: Duration) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("cache-demo-")
            .tempdir()
            .map_err(|e| Failure::new("no temporary folder for the database", e))?;
        let file = folder.path().join("catalogue.sqlite");
        let fill = || -> rusqlite::Result<Database> {
            let mut writer = connect(&file)?;
            fill(&mut writer, products)?;
            let readers = (0..READERS).map(|_| connect(&file)).collect::<Result<Vec<_>, _>>()?;
            Ok(Database {
                readers: Pool::start(readers),
                writer: Pool::start(vec![writer]),
                _folder: folder,
            })
        };
        let database = fill().map_err(|e| Failure::new("can't make the database", e))?;
        let source = Self { database: Arc::new(database), counters: Counters::new(ids), delay };
        Ok(source)
    }

    /// The same database, with counters that begin at zero.
    pub(crate) fn counted_anew(&self) -> Self {
        let ids = self.counters.loads.len() as u64;
        Self { counters: Counters::new(ids), ..self.clone() }
    }

    /// The product with this id, if there is one.
    pub(crate) async fn read(&self, id: u64) -> Result<Option<Product>> {
        let _load = self.counters.begin_read(id);
        self.network().await;
        let row = move |connection: &Connection| {
            connection
                .prepare_cached("SELECT id, name, description, price_cents, stock, version FROM product WHERE id = ?1")?
                .query_row([id as i64], product)
                .optional()
        };
        self.database.readers.ask(row).await
    }

    /// Changes a product and returns it as it is then.
    pub(crate) async fn write(&self, id: u64, change: Change) -> Result<Product> {
        self.counters.writes.fetch_add(1, Ordering::Relaxed);
        self.network().await;
        let row = move |connection: &Connection| {
            connection
                .prepare_cached(
                    "UPDATE product SET price_cents = ?2, stock = ?3, version = version + 1 WHERE id = ?1
                     RETURNING id, name, description, price_cents, stock, version",
                )?
                .query_row(params![id as i64, change.price_cents, change.stock], product)
        };
        self.database.writer.ask(row).await
    }

    /// Makes these products what they are here, in one transaction, which counts as one write.
    pub(crate) async fn put(&self, products: Vec<Arc<Product>>) -> Result<()> {
        self.counters.writes.fetch_add(1, Ordering::Relaxed);
        self.network().await;
        let rows = move |connection: &Connection| {
            let transaction = connection.unchecked_transaction()?;
            for product in &products {
                let Product { id, price_cents, stock, version, .. } = **product;
                transaction
                    .prepare_cached("UPDATE product SET price_cents = ?2, stock = ?3, version = ?4 WHERE id = ?1")?
                    .execute(params![id as i64, price_cents, stock, version as i64])?;
            }
            transaction.commit()
        };
        self.database.writer.ask(rows).await
    }

    /// Reads asked for so far.
    pub(crate) fn reads(&self) -> u64 {
        self.counters.reads.load(Ordering::Relaxed)
    }

    /// Writes asked for so far.
    pub(crate) fn writes(&self) -> u64 {
        self.counters.writes.load(Ordering::Relaxed)
    }

    /// The most loads of one key that went on at the same time, of those that no write had overtaken.
    pub(crate) fn most_concurrent_loads(&self) -> u64 {
        self.counters.most_loads.load(Ordering::Relaxed)
    }

    /// To be kept while the source and the cache are told of a write: loads that began before are not
    /// counted any more by [`most_concurrent_loads`](Self::most_concurrent_loads).
    pub(crate) fn overtake_loads(&self, id: u64) -> Overtaking<'_> {
        Overtaking::begin(self.counters.loads.get(id as usize))
    }

    async fn network(&self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

impl Counters {
    fn new(ids: u64) -> Arc<Self> {
        Arc::new(Self {
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            loads: (0..ids).map(|_| Loads::default()).collect(),
            most_loads: AtomicU64::new(0),
        })
    }

    fn begin_read(&self, id: u64) -> Option<Load<'_>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let (load, at_once) = self.loads.get(id as usize)?.begin();
        self.most_loads.fetch_max(at_once, Ordering::Relaxed);
        Some(load)
    }
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With a WAL the database stays whole after a crash, and a commit need not wait for the disk.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

fn fill(connection: &mut Connection, products: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL,
             price_cents INTEGER NOT NULL, stock INTEGER NOT NULL, version INTEGER NOT NULL)",
    )?;
    {
        let mut insert =
            transaction.prepare("INSERT INTO product VALUES (?1, ?2, ?3, ?4, ?5, 1)")?;
        for id in 0..products {
            let (name, description) = texts(id);
            let price_cents = 99 + id * 7_919 % 50_000;
            insert.execute(params![
                id as i64,
                name,
                description,
                price_cents as i64,
                id as i64 % 500
            ])?;
        }
    }
    transaction.commit()
}

fn texts(id: u64) -> (String, String) {
    const KINDS: [&str; 8] =
        ["Lamp", "Kettle", "Rucksack", "Notebook", "Chair", "Tent", "Clock", "Bowl"];
    const MAKES: [&str; 7] = ["Oak", "Steel", "Linen", "Glass", "Copper", "Felt", "Cork"];
    let kind = KINDS[id as usize % KINDS.len()];
    let make = MAKES[id as usize / KINDS.len() % MAKES.len()];
    let name = format!("{make} {kind} No. {id}");
    let description = format!(
        "{name} is made of {make} in small series. It comes in three sizes, is sent within two days, and can \
         be given back for thirty. Care: wipe with a dry cloth. Parts can be ordered under {id:08}."
    );
    (name, description)
}

fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: row.get::<_, i64>(0)? as u64,
        name: row.get(1)?,
        description: row.get(2)?,
        price_cents: row.get(3)?,
        stock: row.get(4)?,
        version: row.get::<_, i64>(5)? as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_is_seen_by_the_reads_that_follow() {
        let source = Source::create(3, 4, Duration::ZERO).unwrap();
        let before = source.read(2).await.unwrap().unwrap();
        let change = Change { price_cents: 7, stock: 9 };
        let written = source.write(2, change).await.unwrap();
        assert_eq!(written, Product { price_cents: 7, stock: 9, version: 2, ..before });
        assert_eq!(source.read(2).await.unwrap(), Some(written));
        assert_eq!(source.read(3).await.unwrap(), None);
        assert!(source.write(3, change).await.is_err());
        assert_eq!((source.reads(), source.writes(), source.most_concurrent_loads()), (3, 2, 1));
        assert_eq!(source.counted_anew().reads(), 0);
    }
}
