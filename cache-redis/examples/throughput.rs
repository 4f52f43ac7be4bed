//! Reads per second of a store, against the client below it on the same server.
//!
//! `cargo run --release -p cache-redis --example throughput [url]`, with a server at
//! `redis://127.0.0.1:6379` unless it is told otherwise. All candidates take turns in every round,
//! so what else the machine does hits all of them alike. A ratio is that of two neighbours in a round,
//! and what is printed are the medians of the rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::{CacheStore, SetOptions};
use cache_redis::RedisStore;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncCommands, Client, IntoConnectionInfo};

const KEYS: usize = 1000;
const ROUNDS: usize = 31;
const ROUND: Duration = Duration::from_millis(100);

#[derive(Clone)]
enum Candidate {
    Raw(MultiplexedConnection),
    Store(RedisStore),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let store = || RedisStore::builder("throughput").url(&url);
    let nodelay = TcpSettings::default().set_nodelay(true);
    let info = url.as_str().into_connection_info()?.set_tcp_settings(nodelay);
    let raw = Client::open(info)?.get_multiplexed_async_connection().await?;
    let candidates = [
        ("client", Candidate::Raw(raw.clone())),
        ("store", Candidate::Store(store().connect().await?)),
        ("one by one", Candidate::Store(store().largest_batch(1).connect().await?)),
        ("2 connections", Candidate::Store(store().connections(2).connect().await?)),
    ];
    let keys: Arc<Vec<String>> = Arc::new((0..KEYS).map(|i| format!("user:{i}")).collect());
    let value = Bytes::from(vec![b'x'; 200]);
    for key in keys.iter() {
        raw.clone().set::<_, _, ()>(key, &value[..]).await?;
        for (_, candidate) in &candidates {
            if let Candidate::Store(store) = candidate {
                let options = SetOptions::ttl(Duration::from_secs(600));
                store.set(key, Some(value.clone()), options).await?;
            }
        }
    }

    println!("| callers | client | store | store, one by one | store, 2 connections |");
    println!("|---:|---:|---:|---:|---:|");
    for callers in [1, 8, 16, 32, 64, 256] {
        let (mut rates, mut ratios, mut cpu) = (table(), table(), table());
        for _ in 0..ROUNDS {
            let mut of_client = 0.0;
            for (i, (_, candidate)) in candidates.iter().enumerate() {
                let (began, used) = (Instant::now(), cpu_time());
                let reads = round(candidate, &keys, callers).await as f64;
                let rate = reads / began.elapsed().as_secs_f64();
                if i == 0 {
                    of_client = rate;
                }
                rates[i].push(rate);
                ratios[i].push(rate / of_client);
                cpu[i].push((cpu_time() - used).as_secs_f64() * 1e6 / reads);
            }
        }
        print!("| {callers} |");
        for ((rates, ratios), cpu) in rates.into_iter().zip(ratios).zip(cpu) {
            let (rate, ratio, cpu) = (median(rates), median(ratios), mean(&cpu));
            print!(" {rate:.0}, {ratio:.2}x ({cpu:.1} us) |");
        }
        println!();
    }

    let many: Vec<&str> = keys[..100].iter().map(String::as_str).collect();
    let Candidate::Store(store) = &candidates[1].1 else {
        return Ok(());
    };
    let (mut of_client, mut of_store) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let began = Instant::now();
        let _: Vec<Vec<u8>> = raw.clone().mget(&many).await?;
        of_client.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        store.get_many(&many).await;
        of_store.push(began.elapsed().as_secs_f64());
    }
    let (client, store) = (median(of_client), median(of_store));
    println!("100 keys at once: client {:.0} keys/s, store {:.2}x", 100.0 / client, client / store);
    Ok(())
}

/// So many callers read for the length of a round; how often they did.
async fn round(candidate: &Candidate, keys: &Arc<Vec<String>>, callers: usize) -> usize {
    let end = Instant::now() + ROUND;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (candidate, keys) = (candidate.clone(), Arc::clone(keys));
            tokio::spawn(async move {
                let mut reads = 0;
                while Instant::now() < end {
                    let key = &keys[(caller * 37 + reads) % KEYS];
                    let found = match &candidate {
                        Candidate::Raw(raw) => {
                            let value: Option<Bytes> = raw.clone().get(key).await.unwrap_or(None);
                            value.is_some()
                        }
                        Candidate::Store(store) => matches!(store.get(key).await, Ok(Some(_))),
                    };
                    assert!(found, "{key} is there");
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let mut reads = 0;
    for task in tasks {
        reads += task.await.unwrap_or(0);
    }
    reads
}

/// The processor time of this process, where the system tells.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// A column for each candidate.
fn table() -> [Vec<f64>; 4] {
    [const { Vec::new() }; 4]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
