use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::RedisConnectionInfo;
use smol_str::SmolStr;

#[cfg(feature = "tls")]
use crate::tls::Tls;

/// What a store has been built with.
pub(crate) struct Settings {
    pub(crate) servers: Servers,
    /// User, password and database, on every server.
    pub(crate) login: RedisConnectionInfo,
    #[cfg(feature = "sentinel")]
    pub(crate) sentinel_login: RedisConnectionInfo,
    /// How connections are encrypted, if they are.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    /// The service's name and a colon, which every key begins with.
    pub(crate) prefix: SmolStr,
    pub(crate) operation_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// The shortest and the longest pause before another attempt to connect.
    pub(crate) reconnect: (Duration, Duration),
    /// How often a connection is probed.
    pub(crate) probe_every: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) max_value: usize,
    pub(crate) max_pending: usize,
    pub(crate) connections: usize,
    /// The most reads that go together; with one, all go by themselves.
    pub(crate) largest_batch: usize,
    /// Whether a slot is the payload and nothing else.
    pub(crate) bare: bool,
    /// Whether the servers are to tell of changes of what is read.
    pub(crate) tracked: bool,
}

/// Which servers there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    One(Address),
    /// Some of the nodes, of which the others are learnt.
    #[cfg(feature = "cluster")]
    Cluster(Vec<Address>),
    /// Sentinels, and the name by which they know the server.
    #[cfg(feature = "sentinel")]
    Sentinels(Vec<Address>, String),
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp(SmolStr, u16),
    Unix(PathBuf),
}

impl Settings {
    pub(crate) fn new(prefix: SmolStr) -> Self {
        Self {
            servers: Servers::One(Address::Tcp("127.0.0.1".into(), 6379)),
            login: RedisConnectionInfo::default(),
            #[cfg(feature = "sentinel")]
            sentinel_login: RedisConnectionInfo::default(),
            #[cfg(feature = "tls")]
            tls: None,
            prefix,
            operation_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            reconnect: (Duration::from_millis(50), Duration::from_secs(1)),
            probe_every: Duration::from_secs(1),
            max_in_flight: 8192,
            max_value: 16 << 20,
            max_pending: 10_000,
            connections: 1,
            largest_batch: 128,
            bare: false,
            tracked: false,
        }
    }

    /// How long to wait before the next attempt to connect: exponential, with full jitter.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let (least, most) = self.reconnect;
        let ceiling = least.saturating_mul(1 << failures.min(16)).min(most);
        ceiling.mul_f64(fastrand::f64())
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => address.fmt(f),
            #[cfg(feature = "cluster")]
            Self::Cluster(seeds) => list(f, seeds),
            #[cfg(feature = "sentinel")]
            Self::Sentinels(sentinels, name) => {
                list(f, sentinels)?;
                write!(f, "/{name}")
            }
        }
    }
}

#[cfg(any(feature = "cluster", feature = "sentinel"))]
fn list(f: &mut fmt::Formatter<'_>, addresses: &[Address]) -> fmt::Result {
    for (number, address) in addresses.iter().enumerate() {
        if number > 0 {
            f.write_str(",")?;
        }
        fmt::Display::fmt(address, f)?;
    }
    Ok(())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
