//! How do I write behind in a service? Reads come from memory, writes are on the disk when they are acknowledged,
//! and `SQLite` gets them in batches. When the service is told to stop, it answers what it has begun and writes the rest; when
//! it is killed, it does so after its next start.
//!
//! ```text
//! cargo run -p cache-examples --example axum_service
//! curl -X PUT localhost:3000/users/7 -H 'content-type: application/json' -d '{"name": "Ada"}'
//! curl localhost:3000/users/7
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use cache_core::{
    BatchWriter, BehindOptions, BoxError, ErrorKind, Leftover, Loader, ReadOptions, ReadThrough,
    Write, WriteBehind, Writer,
};
use cache_journal::DiskJournal;
use cache_memory::MemoryStore;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

/// Each of the three is chosen here, and nowhere else.
type Users =
    WriteBehind<ReadThrough<MemoryStore<User>, Database>, Database, DiskJournal<u64, User>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}/users/7", listener.local_addr()?);
    let directory = std::env::temp_dir().join("axum_service");
    std::fs::create_dir_all(&directory)?;
    let left = serve(listener, &directory, told_to_stop()).await?;
    if left.is_empty() {
        println!("everything is in the database");
    } else {
        println!("in the journal, for the next start: {left:?}");
    }
    Ok(())
}

/// Ctrl-C, or the SIGTERM of whoever supervises the service.
async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

async fn serve(
    listener: TcpListener,
    directory: &Path,
    told_to_stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Leftover, Box<dyn Error>> {
    let users = Arc::new(open(directory).await?);
    let app = Router::new()
        .route("/users/{id}", get(read).put(write).delete(remove))
        .with_state(Arc::clone(&users));

    // First it takes no new requests, and answers those that it has, within their time; then it writes what is left.
    let (stopping, is_stopping) = oneshot::channel();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        told_to_stop.await;
        let _ = stopping.send(());
    });
    let grace = async {
        let _ = is_stopping.await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    tokio::select! {
        ended = server => ended?,
        () = grace => {}
    }
    Ok(users.shutdown(Duration::from_secs(10)).await?)
}

async fn open(directory: &Path) -> Result<Users, Box<dyn Error>> {
    let database = Database::open(&directory.join("users.db"))?;
    let journal =
        DiskJournal::open(directory.join("users.journal"), cache_serde::Json::new()).await?;
    let options = ReadOptions::ttl(Duration::from_secs(60)).negative_ttl(Duration::from_secs(5));
    let reads = ReadThrough::new(MemoryStore::new(10_000), database.clone(), options)?;
    Ok(WriteBehind::new(reads, database, journal, BehindOptions::default())?)
}

async fn read(
    State(users): State<Arc<Users>>,
    Segment(id): Segment<u64>,
) -> Result<Json<User>, StatusCode> {
    let user = users.get(&id).await.map_err(|error| status(&error))?;
    user.map(Json).ok_or(StatusCode::NOT_FOUND)
}

/// The answer goes out when the write is on the disk.
async fn write(
    State(users): State<Arc<Users>>,
    Segment(id): Segment<u64>,
    Json(user): Json<User>,
) -> Result<StatusCode, StatusCode> {
    users.put(&id, user).await.map_err(|error| status(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(users): State<Arc<Users>>,
    Segment(id): Segment<u64>,
) -> Result<StatusCode, StatusCode> {
    users.remove(&id).await.map_err(|error| status(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn status(error: &cache_core::Error) -> StatusCode {
    eprintln!("{error}");
    match error.kind() {
        // The journal is full, or the service is being stopped: try again, or elsewhere.
        ErrorKind::Full | ErrorKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Load | ErrorKind::LoadTimeout => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The source of truth.
#[derive(Clone)]
struct Database(Arc<Mutex<Connection>>);

impl Database {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
        )?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// `SQLite` blocks, so it is asked where that does not matter.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BoxError> {
        let connection = Arc::clone(&self.0);
        let answer = tokio::task::spawn_blocking(move || {
            question(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(answer.await??)
    }
}

impl Loader<u64> for Database {
    type Value = User;
    type Error = BoxError;

    async fn load(&self, id: u64) -> Result<Option<User>, BoxError> {
        self.ask(move |connection| {
            let mut select = connection.prepare_cached("SELECT name FROM users WHERE id = ?")?;
            select.query_row([id.cast_signed()], |row| Ok(User { name: row.get(0)? })).optional()
        })
        .await
    }
}

impl Writer<u64, User> for Database {
    type Error = BoxError;

    async fn write(&self, write: Write<u64, User>) -> Result<(), BoxError> {
        self.write_many(vec![write]).await
    }
}

impl BatchWriter<u64, User> for Database {
    /// One transaction for all of them. It may be made again, which changes nothing.
    async fn write_many(&self, writes: Vec<Write<u64, User>>) -> Result<(), BoxError> {
        self.ask(move |connection| {
            let transaction = connection.transaction()?;
            for write in &writes {
                let id = write.key.cast_signed();
                match &write.value {
                    Some(user) => transaction
                        .prepare_cached("REPLACE INTO users (id, name) VALUES (?, ?)")?
                        .execute(params![id, user.name])?,
                    None => transaction
                        .prepare_cached("DELETE FROM users WHERE id = ?")?
                        .execute([id])?,
                };
            }
            transaction.commit()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// The status and the body of the answer to a request.
    async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_written_is_read_at_once_and_in_the_database_after_a_clean_shutdown() {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, told_to_stop) = oneshot::channel::<()>();
        let path = directory.path().to_owned();
        let service = tokio::spawn(async move {
            let stopped = async { drop(told_to_stop.await) };
            serve(listener, &path, stopped).await.map_err(|error| error.to_string())
        });

        assert_eq!(ask(address, "GET", "/users/7", "").await.0, 404);
        for name in ["Ada", "Grace"] {
            let body = format!(r#"{{"name":"{name}"}}"#);
            assert_eq!(ask(address, "PUT", "/users/7", &body).await.0, 204);
            assert_eq!(ask(address, "GET", "/users/7", "").await, (200, body));
        }
        assert_eq!(ask(address, "PUT", "/users/8", r#"{"name":"Alan"}"#).await.0, 204);
        assert_eq!(ask(address, "DELETE", "/users/8", "").await.0, 204);
        assert_eq!(ask(address, "GET", "/users/8", "").await.0, 404);

        stop.send(()).unwrap();
        let left = service.await.unwrap().unwrap();
        assert!(left.is_empty(), "{left:?}");
        assert!(TcpStream::connect(address).await.is_err(), "it takes no more requests");
        let database = Database::open(&directory.path().join("users.db")).unwrap();
        assert_eq!(database.load(7).await.unwrap(), Some(User { name: "Grace".to_owned() }));
        assert_eq!(database.load(8).await.unwrap(), None);
    }
}
