use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What goes wrong between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Connections are accepted and closed at once.
    Refuse,
    /// Nothing goes through, in either direction, and nothing is lost.
    Hang,
    /// Every piece of an answer comes this much later.
    Delay(Duration),
    /// The server gets what is sent, and its answers are thrown away.
    DropAnswers,
    /// After so many bytes of answers a connection ends.
    CutAfter(usize),
    /// Every byte of the answers is another one.
    Corrupt,
    /// Of what is published in channels, one message in so many does not arrive; all else does.
    LoseMessages(u32),
}

/// Stands between a client and a server.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    /// Where the server is.
    server: AtomicU16,
    fault: watch::Sender<Fault>,
    /// Changes when all connections are to be reset.
    resets: watch::Sender<usize>,
    connections: AtomicUsize,
    answers: AtomicUsize,
    lost: AtomicUsize,
}

impl Proxy {
    /// A proxy to the server at this port.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            server: AtomicU16::new(port),
            fault: watch::Sender::new(Fault::None),
            resets: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port: own, shared, task: task.abort_handle() }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// From now on this goes wrong.
    pub fn fault(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// Connections that are made from now on go to the server at this port; the others stay as they are.
    pub fn lead_to(&self, port: u16) {
        self.shared.server.store(port, Ordering::SeqCst);
    }

    /// Resets all connections.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|resets| *resets += 1);
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many pieces of answers there have been, passed on or not.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.shared.answers.load(Ordering::SeqCst)
    }

    /// How many messages, or groups of them, have been lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Ends with the task, and all connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        // Before the look at what goes wrong: a reset that comes after that is for this one as well.
        let mut resets = shared.resets.subscribe();
        if *shared.fault.borrow() == Fault::Refuse {
            continue;
        }
        let server = SocketAddr::from(([127, 0, 0, 1], shared.server.load(Ordering::SeqCst)));
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                _ = questions(from_client, to_server, &shared) => {}
                _ = answers(from_server, to_client, &shared) => {}
                _ = resets.changed() => {}
            }
        });
    }
}

async fn questions(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        unless_hanging(shared).await;
        to.write_all(&buffer[..length]).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        shared.answers.fetch_add(1, Ordering::SeqCst);
        unless_hanging(shared).await;
        let fault = *shared.fault.borrow();
        let mut answer = &mut buffer[..length];
        match fault {
            Fault::None | Fault::Refuse | Fault::Hang => {}
            Fault::Delay(by) => tokio::time::sleep(by).await,
            Fault::DropAnswers => continue,
            Fault::CutAfter(most) => {
                let left = most.saturating_sub(passed).min(length);
                answer = &mut answer[..left];
            }
            Fault::LoseMessages(one_in) => {
                if fastrand::u32(..one_in) == 0 && are_messages(answer) {
                    shared.lost.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
            }
            Fault::Corrupt => answer.iter_mut().for_each(|byte| *byte ^= 0x55),
        }
        passed += answer.len();
        to.write_all(answer).await?;
        if matches!(fault, Fault::CutAfter(most) if passed >= most) {
            return Ok(());
        }
    }
}

/// Whether these are messages of channels, whole ones, and nothing else.
fn are_messages(bytes: &[u8]) -> bool {
    let after = |bytes: &[u8]| {
        let message = bytes.strip_prefix(b">3\r\n$7\r\nmessage\r\n")?;
        // The channel, and what was published there.
        Some(after_string(after_string(message)?)?.len())
    };
    let mut left = bytes;
    while let Some(length) = after(left) {
        left = &left[left.len() - length..];
        if left.is_empty() {
            return true;
        }
    }
    false
}

/// What comes after a string of the protocol.
fn after_string(bytes: &[u8]) -> Option<&[u8]> {
    let text = bytes.strip_prefix(b"$")?;
    let end = text.iter().position(|byte| *byte == b'\r')?;
    let length: usize = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    text.get(end + 2 + length + 2..)
}

async fn unless_hanging(shared: &Shared) {
    let mut fault = shared.fault.subscribe();
    let _ = fault.wait_for(|fault| *fault != Fault::Hang).await;
}
