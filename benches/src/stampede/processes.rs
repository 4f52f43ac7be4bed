//! A cold key, and callers in several processes.

use std::env;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use cache_core::{CacheAside, ReadOptions};
use cache_redis::RedisStore;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::time::sleep;

use crate::redis::{Server, value};
use crate::report::{Bar, Section, Table, short};

const PROCESSES: usize = 4;
const CALLERS: usize = 250;
const READY: &str = "benches-ready";
const GO: &str = "benches-go";
const LOADS: &str = "benches-loads";

/// So many processes, all of which miss the same key at once.
///
/// # Errors
///
/// What is missing, or did not happen.
pub async fn measure(server: &Server) -> Result<Section, String> {
    let mut redis = connection(&server.url()).await?;
    let own = env::current_exe().map_err(|e| e.to_string())?;
    let spawn = |_| Command::new(&own).args(["stampede-child", &server.url()]).spawn();
    let children: std::io::Result<Vec<Child>> = (0..PROCESSES).map(spawn).collect();
    let children = children.map_err(|e| e.to_string())?;
    until(&mut redis, READY, PROCESSES as u64).await?;
    let began = Instant::now();
    let go: redis::RedisResult<()> = redis.set(GO, 1).await;
    go.map_err(|e| e.to_string())?;
    for mut child in children {
        let ended = child.wait().map_err(|e| e.to_string())?;
        if !ended.success() {
            return Err(format!("a process of the stampede: {ended}"));
        }
    }
    let wall = began.elapsed();
    let loads: u64 = redis.get(LOADS).await.map_err(|e| e.to_string())?;
    let mut section = Section::new(
        "A stampede of four processes",
        format!(
            "{PROCESSES} processes with {CALLERS} callers each miss one key on one Redis server at the same moment; the load takes 50 ms."
        ),
    );
    let mut table = Table::new(["", "loads", "ms until all processes have ended"]);
    let name = "CacheAside<RedisStore>".to_owned();
    table.row([name, loads.to_string(), short(wall.as_secs_f64() * 1000.0)]);
    section.tables.push(table);
    section.bars.push(Bar::at_most("loads of a cold key by four processes", loads as f64, 1.0));
    Ok(section)
}

/// What each of the processes does.
///
/// # Errors
///
/// What went wrong.
pub async fn child(url: &str) -> Result<(), String> {
    let mut redis = connection(url).await?;
    let patience = Duration::from_secs(20);
    let builder = RedisStore::builder("stampede").url(url).operation_timeout(patience);
    let store = builder.connect_timeout(patience).connect().await.map_err(|e| e.to_string())?;
    let options = ReadOptions::ttl(Duration::from_secs(60)).store_timeout(patience);
    let cache = CacheAside::new(store, options).map_err(|e| e.to_string())?;
    let ready: redis::RedisResult<()> = redis.incr(READY, 1).await;
    ready.map_err(|e| e.to_string())?;
    until(&mut redis, GO, 1).await?;
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (cache, mut redis) = (cache.clone(), redis.clone());
            tokio::spawn(async move {
                let load = || async move {
                    redis.incr::<_, _, ()>(LOADS, 1).await?;
                    sleep(Duration::from_millis(50)).await;
                    redis::RedisResult::Ok(Some(value()))
                };
                cache.get_or_load("key", load).await
            })
        })
        .collect();
    for caller in callers {
        let got = caller.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        if got != Some(value()) {
            return Err("a caller got no value".to_owned());
        }
    }
    Ok(())
}

async fn connection(url: &str) -> Result<MultiplexedConnection, String> {
    let client = redis::Client::open(url).map_err(|e| e.to_string())?;
    client.get_multiplexed_async_connection().await.map_err(|e| e.to_string())
}

/// Waits until a number on the server has been reached.
async fn until(redis: &mut MultiplexedConnection, key: &str, number: u64) -> Result<(), String> {
    for _ in 0..10_000 {
        let is: Option<u64> = redis.get(key).await.map_err(|e| e.to_string())?;
        if is.unwrap_or(0) >= number {
            return Ok(());
        }
        sleep(Duration::from_millis(2)).await;
    }
    Err(format!("{key} never became {number}"))
}
