use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use smol_str::SmolStr;

/// What a store has been built with.
pub(crate) struct Settings {
    pub(crate) server: ConnectionInfo,
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
}

impl Settings {
    pub(crate) fn new(prefix: SmolStr) -> Self {
        let local = ConnectionAddr::Tcp("127.0.0.1".to_owned(), 6379).into_connection_info();
        Self {
            server: local.expect("an address alone is always valid"),
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
        }
    }

    /// How long to wait before the next attempt to connect: exponential, with full jitter.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let (least, most) = self.reconnect;
        let ceiling = least.saturating_mul(1 << failures.min(16)).min(most);
        ceiling.mul_f64(fastrand::f64())
    }
}
