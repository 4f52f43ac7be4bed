mod servers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheKey, Error, ErrorKind, Key, Result};
use redis::{ProtocolVersion, RedisConnectionInfo};
use smol_str::format_smolstr;
use tokio::sync::Semaphore;

use crate::RedisStore;
use crate::inner::Inner;
use crate::settings::{Address, Servers, Settings};
#[cfg(feature = "tls")]
use crate::tls::{Certificates, Tls};

/// Longer than this is as good as for ever, and can be added to any moment.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The options of a [`RedisStore`]; [`RedisStore::builder`] begins one.
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use cache_redis::RedisStore;
/// use std::time::Duration;
///
/// let store = RedisStore::builder("shop")
///     .address("redis.internal", 6379)
///     .user("shop")
///     .password("secret")
///     .operation_timeout(Duration::from_millis(100))
///     .connections(2)
///     .connect()
///     .await?;
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[must_use = "a builder does nothing until `connect` is called"]
pub struct RedisBuilder {
    settings: Settings,
    encrypted: bool,
    #[cfg(feature = "tls")]
    certificates: Certificates,
    /// The first mistake in what has been set so far.
    invalid: Option<Error>,
}

impl RedisBuilder {
    pub(crate) fn new(service: &str) -> Self {
        let prefix = format_smolstr!("{}:", Key::join(&[&service as &dyn CacheKey]));
        let settings = Settings::new(prefix);
        let mut builder = Self {
            settings,
            encrypted: false,
            #[cfg(feature = "tls")]
            certificates: Certificates::default(),
            invalid: None,
        };
        if service.is_empty() {
            builder.refuse("service", "must not be empty: it tells this store's keys from others'");
        }
        builder
    }

    /// How long an operation may take, 250 ms by default. It is an error then, and the connection is
    /// replaced if the server does not answer at all.
    ///
    /// Operations on many keys, and removals by prefix, take several steps, and each has this long.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.settings.operation_timeout = timeout.min(DAY);
        self
    }

    /// How long it may take to connect, log in and probe the server, 1 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// The pauses between attempts to connect again: up to `least` before the first, doubling up to
    /// `most`, each drawn evenly from zero to there. The default is 50 ms to 1 s.
    pub fn reconnect_pauses(mut self, least: Duration, most: Duration) -> Self {
        self.settings.reconnect = (least, most.max(least));
        self
    }

    /// How many connections there are, 1 by default. Each key has its own. Two may pay from about a
    /// hundred concurrent readers on, and cost below that.
    pub fn connections(mut self, connections: usize) -> Self {
        self.settings.connections = connections;
        self
    }

    /// The most reads that go to the server together when many are made at the same time, 128 by
    /// default. With 1, each goes by itself.
    pub fn largest_batch(mut self, reads: usize) -> Self {
        self.settings.largest_batch = reads;
        self
    }

    /// How many operations may be in flight, 8192 by default. One more is an error at once.
    pub fn max_in_flight(mut self, operations: usize) -> Self {
        self.settings.max_in_flight = operations.min(Semaphore::MAX_PERMITS);
        self
    }

    /// The largest value in bytes, 16 MiB by default. A larger one is
    /// [`TooLarge`](ErrorKind::TooLarge) and not sent.
    ///
    /// All operations of a connection go one after the other: what is behind a large value waits for
    /// it. So this should take much less than the operation timeout on your network.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_value = bytes;
        self
    }

    /// How many invalidations are kept while the server can't be reached, 10 000 by default. If there
    /// are more, all keys of the service are removed instead.
    pub fn max_pending(mut self, invalidations: usize) -> Self {
        self.settings.max_pending = invalidations;
        self
    }

    /// Stores the payload alone, for keys that are shared with other languages.
    ///
    /// See [bare slots](crate#bare-slots) for what is lost.
    pub fn bare(mut self) -> Self {
        self.settings.bare = true;
        self
    }

    /// Has the servers remember which keys each connection of this store has read, and tell it when they change, for
    /// [`Tracking::by_key`](crate::Tracking::by_key).
    ///
    /// They do so for every read, so read by this store what there is to be a near copy of, and nothing else. A server that refuses
    /// is used all the same; who keeps the tiers coherent finds out.
    pub fn tracked(mut self) -> Self {
        self.settings.tracked = true;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option; [`ErrorKind::Unavailable`] if the server can't
    /// be reached; [`ErrorKind::Store`] if it can, but refuses the user, lacks something that the store
    /// needs, or is a node of a cluster. [`ErrorKind::NoRuntime`] outside a tokio runtime.
    ///
    /// # Cancellation
    ///
    /// Nothing is left.
    pub async fn connect(self) -> Result<RedisStore> {
        let inner = Inner::new(self.checked()?)?;
        inner.connect().await?;
        inner.supervise();
        Ok(RedisStore(Arc::new(inner)))
    }

    /// Makes a store that connects in the background. Until it is connected, every operation is an
    /// error at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`], naming the option; [`ErrorKind::NoRuntime`] outside a tokio
    /// runtime.
    pub fn connect_lazily(self) -> Result<RedisStore> {
        let inner = Inner::new(self.checked()?)?;
        inner.supervise();
        Ok(RedisStore(Arc::new(inner)))
    }

    fn checked(mut self) -> Result<Settings> {
        let settings = &self.settings;
        let zeros = [
            ("operation_timeout", settings.operation_timeout.is_zero()),
            ("connect_timeout", settings.connect_timeout.is_zero()),
            ("reconnect_pauses", settings.reconnect.0.is_zero()),
            ("connections", settings.connections == 0),
            ("largest_batch", settings.largest_batch == 0),
            ("max_in_flight", settings.max_in_flight == 0),
            ("max_pending", settings.max_pending == 0),
        ];
        if let Some((option, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            self.refuse(option, "must not be zero");
        }
        if self.settings.max_value > 512 << 20 {
            self.refuse("max_value_bytes", "Redis holds no values above 512 MiB");
        }
        match &self.settings.servers {
            Servers::One(_) => {}
            #[cfg(feature = "cluster")]
            Servers::Cluster(nodes) => {
                if nodes.is_empty() {
                    self.refuse("cluster", "needs the address of a node");
                }
                if self.settings.login.db() != 0 {
                    self.refuse("database", "a cluster has only the database 0");
                }
            }
            #[cfg(feature = "sentinel")]
            Servers::Sentinels(sentinels, _) => {
                if sentinels.is_empty() {
                    self.refuse("sentinels", "needs the address of one");
                }
            }
        }
        if self.encrypted && matches!(self.settings.servers, Servers::One(Address::Unix(_))) {
            self.refuse("tls", "a Unix socket is not encrypted");
        }
        if let Some(invalid) = self.invalid {
            return Err(invalid);
        }
        #[cfg(feature = "tls")]
        if self.encrypted {
            self.settings.tls = Some(Tls::new(&self.certificates)?);
        }
        // It has the connection say when it has ended.
        Ok(self.login(|login| login.set_protocol(ProtocolVersion::RESP3)).settings)
    }

    fn login(mut self, change: impl FnOnce(RedisConnectionInfo) -> RedisConnectionInfo) -> Self {
        self.settings.login = change(self.settings.login.clone());
        self
    }

    fn refuse(&mut self, option: &str, why: impl fmt::Display) {
        let invalid = || Error::with_cause(ErrorKind::InvalidOption, format!("{option}: {why}"));
        self.invalid.get_or_insert_with(invalid);
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder")
            .field("servers", &format_args!("{}", self.settings.servers))
            .field("prefix", &self.settings.prefix)
            .finish_non_exhaustive()
    }
}
