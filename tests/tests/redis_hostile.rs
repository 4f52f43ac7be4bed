//! A server that answers anything at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{CacheStore, CacheStoreExt, ClaimOptions, ErrorKind};
use cache_redis::RedisStore;
use cache_tests::redis::{eventually, patient_at};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const MINUTE: Duration = Duration::from_secs(60);

/// The name of a command, and what it is answered.
type Odd = Arc<Mutex<Option<(&'static str, Answer)>>>;

type Answer = Box<dyn FnMut() -> String + Send>;

/// What this one says is by the protocol, but makes no sense.
const ODD: [&str; 14] = [
    ":7\r\n",
    "_\r\n",
    "+OK\r\n",
    "$3\r\nabc\r\n",
    "*0\r\n",
    "*-1\r\n",
    "*1\r\n*1\r\n*0\r\n",
    "*2\r\n:0\r\n*0\r\n",
    "*2\r\n$1\r\n0\r\n*1\r\n$5\r\nother\r\n",
    "*2\r\n$20\r\n18446744073709551615\r\n$20\r\n18446744073709551615\r\n",
    "*3\r\n:1\r\n:-9223372036854775808\r\n$0\r\n\r\n",
    "*2\r\n:2\r\n:9223372036854775807\r\n",
    "%1\r\n+a\r\n+b\r\n",
    "-WHAT is this\r\n",
];

async fn serve(odd: Odd) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let removed = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&removed);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(converse(client, Arc::clone(&odd), Arc::clone(&log)));
        }
    });
    (format!("redis://127.0.0.1:{port}"), removed)
}

async fn converse(client: TcpStream, odd: Odd, removed: Arc<Mutex<Vec<String>>>) {
    let mut client = BufReader::new(client);
    while let Some(command) = command(&mut client).await {
        let answer = match &mut *odd.lock().expect("no panic") {
            Some((name, answer)) if *name == command[0] => answer(),
            _ => sensible(&command),
        };
        if command[0] == "UNLINK" {
            removed.lock().expect("no panic").extend_from_slice(&command[1..]);
        }
        if client.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next command of a client, if there is one.
async fn command(client: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for _ in 0..number(client, '*').await? {
        let length = number(client, '$').await?;
        let mut part = vec![0; length + 2];
        client.read_exact(&mut part).await.ok()?;
        parts.push(String::from_utf8_lossy(&part[..length]).into_owned());
    }
    (!parts.is_empty()).then_some(parts)
}

async fn number(client: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    client.read_line(&mut line).await.ok()?;
    line.strip_prefix(kind)?.trim_end().parse().ok()
}

/// What a server says that has nothing of this store's.
fn sensible(command: &[String]) -> String {
    match command[0].as_str() {
        "HELLO" => "%2\r\n+version\r\n+7.0.0\r\n+mode\r\n+standalone\r\n".to_owned(),
        "TIME" => "*2\r\n$10\r\n1800000000\r\n$1\r\n0\r\n".to_owned(),
        "GET" => "_\r\n".to_owned(),
        "MGET" => format!("*{}\r\n{}", command.len() - 1, "_\r\n".repeat(command.len() - 1)),
        "EVALSHA" | "EVAL" | "UNLINK" => ":1\r\n".to_owned(),
        "DBSIZE" => ":10000\r\n".to_owned(),
        "SCAN" => "*2\r\n$1\r\n0\r\n*0\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    }
}

/// All that a store does: what comes of it does not matter, if only it ends.
async fn everything(store: &RedisStore) {
    let _ = store.get("key").await;
    let many = store.get_many(&["key", "other", "key"]).await;
    assert_eq!(many.len(), 3);
    let _ = store.put("key", Bytes::from_static(b"value"), MINUTE).await;
    let _ = store.claim("key", ClaimOptions::new(MINUTE)).await;
    let _ = store.remove("key").await;
    let _ = store.remove_prefix("k").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_makes_no_sense_costs_one_operation_and_not_the_store() {
    let odd = Odd::default();
    let (url, removed) = serve(Arc::clone(&odd)).await;
    let store = RedisStore::builder("s")
        .url(&url)
        .connect_timeout(Duration::from_secs(20))
        .reconnect_pauses(Duration::from_millis(1), Duration::from_millis(10));
    let store = store.connect().await.expect("a server");
    for name in ["GET", "MGET", "EVALSHA", "EVAL", "UNLINK", "SCAN", "TIME", "HELLO"] {
        for answer in ODD {
            eventually("there is a connection", async || store.get("key").await.is_ok()).await;
            *odd.lock().expect("no panic") = Some((name, Box::new(|| answer.to_owned())));
            everything(&store).await;
            *odd.lock().expect("no panic") = None;
        }
    }
    // Who watches over the connection has not been brought down by any of them: what is pending is made up for.
    eventually("it is all well", async || store.get("key").await.is_ok() && store.pending() == 0)
        .await;
    let removed = removed.lock().expect("no panic");
    assert!(removed.iter().all(|key| key.starts_with("s:")), "what is others' stays: {removed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_said_while_connecting_the_store_connects_once_it_makes_sense() {
    let odd = Odd::default();
    let (url, _) = serve(Arc::clone(&odd)).await;
    for name in ["HELLO", "TIME", "SCRIPT", "EVALSHA", "GET", "SCAN"] {
        for answer in ODD {
            *odd.lock().expect("no panic") = Some((name, Box::new(|| answer.to_owned())));
            let store = RedisStore::builder("s")
                .url(&url)
                .reconnect_pauses(Duration::from_millis(1), Duration::from_millis(10))
                .connect_lazily()
                .expect("valid options");
            // It has been answered by now, or is about to be.
            let _ = store.get("key").await;
            tokio::task::yield_now().await;
            *odd.lock().expect("no panic") = None;
            eventually("it is connected", async || store.get("key").await.is_ok()).await;
        }
    }
}

/// The cursor behind a page, by the number of that.
type Cursors = fn(u64) -> u64;

/// What a page of a scan is answered, with the cursor of the next one.
fn page(cursor: u64, keys: &[&str]) -> String {
    let cursor = cursor.to_string();
    let keys: Vec<String> = keys.iter().map(|key| format!("${}\r\n{key}\r\n", key.len())).collect();
    format!("*2\r\n${}\r\n{cursor}\r\n*{}\r\n{}", cursor.len(), keys.len(), keys.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_never_ends_is_given_up_and_costs_one_operation() {
    let odd = Odd::default();
    let (url, _) = serve(Arc::clone(&odd)).await;
    let store = patient_at(&url, "s").connect().await.expect("a server");
    // The same cursor, a circle behind a way that leads to it, and cursors that never come again.
    let endless: [(Cursors, _, _); 3] = [
        (|_| 7, 3, "where it was before"),
        (|page| if page < 100 { 1000 + page } else { page % 3 + 1 }, 400, "where it was before"),
        (|page| page, 100_101, "100101 pages, and by its own account 10000 keys"),
    ];
    for (cursor, most, said) in endless {
        let pages = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&pages);
        let answer = move || {
            let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
            // The keys that it makes up are no way ahead.
            page(cursor(number), if number % 100 == 1 { &["s:a", "s:b"] } else { &[] })
        };
        *odd.lock().expect("no panic") = Some(("SCAN", Box::new(answer)));
        let error = store.remove_prefix("").await.expect_err("it does not end");
        *odd.lock().expect("no panic") = None;
        assert_eq!(error.kind(), ErrorKind::Store, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        let pages = pages.load(Ordering::Relaxed);
        assert!(pages <= most, "{pages} pages");
        // It is not begun again, and all else goes on.
        assert_eq!(store.pending(), 0);
        store.get("key").await.expect("an answer");
        store.remove_prefix("").await.expect("a scan with an end");
    }
}
