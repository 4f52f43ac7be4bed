//! Opens connections: TCP or a Unix socket, TLS, then `HELLO` with user and password, and `SELECT`.

use std::io;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use redis::{AsyncConnectionConfig, PushInfo, RedisConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::error::failure;
use crate::settings::{Address, Settings};

/// How many commands the client takes before senders wait, which they do within their deadline.
const QUEUE: usize = 1024;

/// So much is read at a time: the client alone reads 8 KiB, which takes four calls of the system for a hundred
/// small values.
const READ: usize = 64 * 1024;

/// A connection, and the task that moves its bytes, which ends with it.
pub(crate) struct Dialled {
    pub(crate) connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens a connection. `pushed` is called with what the server sends by itself, and with the end of the
/// connection; it must not wait. There is no time limit in here.
pub(crate) async fn dial(
    settings: &Settings,
    address: &Address,
    login: &RedisConnectionInfo,
    pushed: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<Dialled> {
    let unreachable = |error: io::Error| {
        Error::with_cause(ErrorKind::Unavailable, format!("no connection to {address}: {error}"))
    };
    // Deadlines are kept around everything; the client's own would only be in the way.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE)
        .set_write_backpressure_boundary(64 * 1024)
        .set_push_sender(move |push| {
            pushed(push);
            Ok::<_, std::convert::Infallible>(())
        });
    match address {
        Address::Tcp(host, port) => {
            let tcp = connect(host, *port).await.map_err(unreachable)?;
            #[cfg(feature = "tls")]
            if let Some(tls) = &settings.tls {
                return talk(tls.wrap(host, tcp).await?, login, config).await;
            }
            let _ = settings;
            talk(tcp, login, config).await
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            let socket = tokio::net::UnixStream::connect(path).await.map_err(unreachable)?;
            talk(socket, login, config).await
        }
        #[cfg(not(unix))]
        Address::Unix(_) => Err(unreachable(io::ErrorKind::Unsupported.into())),
    }
}

/// The first of the host's addresses that answers: one that does not must not take all the time.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port)).await?;
    let attempts: Vec<_> = addresses.map(|one| Box::pin(TcpStream::connect(one))).collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3));
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    login: &RedisConnectionInfo,
    config: AsyncConnectionConfig,
) -> Result<Dialled> {
    let stream = BufReader::with_capacity(READ, stream);
    let made = MultiplexedConnection::new_with_config(login, stream, config).await;
    let (connection, driver) = made.map_err(|error| failure(&error).error)?;
    Ok(Dialled { connection, driver: tokio::spawn(driver).abort_handle() })
}
