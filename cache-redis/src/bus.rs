use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use cache_core::{Bus, CacheKey, Delivery, Error, ErrorKind, Key, Result, Subscription};

use crate::RedisStore;
use crate::listener::{Listener, Push, Pushes};

/// A [`Bus`] over Redis pub/sub, for [`Broadcast`](cache_core::Broadcast).
///
/// It listens on a connection of its own, and publishes over the store's. In a cluster the messages are plain
/// ones, which every node hands to every other; they are not sharded.
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use cache_core::{Broadcast, CacheStoreExt, Tiered};
/// use cache_redis::{RedisBus, RedisStore};
/// # use {bytes::Bytes, cache_core::{Codec, Result}};
/// # struct Utf8;
/// # impl Codec<String> for Utf8 {
/// #     fn encode(&self, value: &String) -> Result<Bytes> { Ok(Bytes::from(value.clone())) }
/// #     fn decode(&self, bytes: &Bytes) -> Result<String> { Ok(String::from_utf8_lossy(bytes).into()) }
/// # }
/// # use cache_core::testing::ModelStore;
/// # let near = ModelStore::<String>::new(cache_core::Clock::system());
///
/// let redis = RedisStore::connect("redis://127.0.0.1:6379", "shop").await?;
/// let bus = RedisBus::new(&redis, "page"); // the channel `shop:bus:page`
/// let pages = Tiered::builder(near, redis.namespaced("page").encoded(Utf8))
///     .coherent_by(Broadcast::over(bus))
///     .build()?;
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
///
/// The server's user needs `+publish +subscribe`, and `&shop:bus:*` for the channel.
#[derive(Clone)]
pub struct RedisBus {
    store: RedisStore,
    channel: String,
}

/// What [`RedisBus`] gives to listeners.
pub struct RedisSubscription {
    pushes: Pushes,
    /// Ends with the subscription.
    _listener: Listener,
}

impl RedisBus {
    /// The bus with this name on the store's server, within the store's service. Tiers that hold the same have
    /// the same bus; others have another.
    #[must_use]
    pub fn new(store: &RedisStore, name: &str) -> Self {
        let name = Key::join(&[&name as &dyn CacheKey]);
        let channel = format!("{}bus:{name}", store.0.settings.prefix);
        Self { store: store.clone(), channel }
    }

    fn within(&self) -> Duration {
        self.store.0.settings.operation_timeout
    }
}

impl Bus for RedisBus {
    type Subscription = RedisSubscription;

    async fn publish(&self, message: Bytes) -> Result<()> {
        let link = self.store.0.any_link()?;
        let live = link.live()?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(&message[..]);
        let answer = link.send(&live, &publish, link.deadline()).await?;
        link.accepted(&live, answer).map(drop)
    }

    async fn subscribe(&self) -> Result<RedisSubscription> {
        let pushes = Pushes::new();
        let listener = pushes.listen(&*self.store.0.any_link()?).await?;
        listener.subscribe(&self.channel, self.within()).await?;
        Ok(RedisSubscription { pushes, _listener: listener })
    }
}

impl Subscription for RedisSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            match self.pushes.next().await? {
                Push::Message(message) => return Ok(Delivery::Message(message)),
                Push::Missed => return Ok(Delivery::Missed),
                Push::Invalidated(_) | Push::Flushed => {}
            }
        }
    }
}

/// For a store that knows no server yet.
pub(crate) fn nowhere() -> Error {
    Error::with_cause(ErrorKind::Unavailable, "not yet connected")
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSubscription").finish_non_exhaustive()
    }
}
