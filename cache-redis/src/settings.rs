use std::time::Duration;

use redis::ConnectionInfo;
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
