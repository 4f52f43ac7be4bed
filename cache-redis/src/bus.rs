use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{Bus, CacheKey, Delivery, Error, ErrorKind, Key, Result, Subscription};

use redis::Value;

use crate::RedisStore;
use crate::canary::{Canaries, Watch};
use crate::error::failure_in_cluster;
use crate::link::Link;
use crate::listener::{Listener, Push, Pushes};

/// A [`Bus`] over Redis pub/sub, for [`Broadcast`](cache_core::Broadcast).
///
/// It listens on a connection of its own, and publishes over the store's.
///
/// Pub/sub says nothing of `FLUSHALL`. So each listener has a key on every server, which expires a minute after
/// it, and looks four times a second whether it is still there; if not, the near tier is emptied
/// ([`Resync::Flushed`](cache_core::Resync)).
///
/// # In a cluster
///
/// Messages go by the *shard* that the channel's slot belongs to (`SPUBLISH`, Redis 7), so the other nodes have nothing to do
/// with them. When the slot moves, or its primary dies, the subscription ends, and the near tier is emptied once there is a
/// new one. If a node or the user's permissions refuse that, plain messages are sent, which every node hands
/// to every other; [`kept_by`](cache_core::TierSnapshot::kept_by) says so. Plain ones are heard in either case. Sharded ones
/// have to be refused to all processes of a fleet, or to none: who may not hear them does not hear who may send them.
///
/// A shard hands on all messages in one order, on which the bound of [`Broadcast`](cache_core::Broadcast) relies: what was published before
/// a heartbeat that comes back has been heard. Plain ones go from node to node, each by a connection of its own, so what is published at a
/// node whose link lags comes after heartbeats that are newer, and no number is missing that would tell. A near hit is
/// behind by the trust *and that lag* then.
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
/// The server's user needs `+publish +subscribe`, in a cluster `+spublish +ssubscribe`, and `&shop:bus:*` for the channel. What is
/// refused is named in [`kept_by`](cache_core::TierSnapshot::kept_by), and tried again.
#[derive(Clone)]
pub struct RedisBus {
    store: RedisStore,
    channel: String,
    /// What the keys begin with that tell of a flush.
    canaries: String,
    /// Why messages are not sharded, though it is a cluster.
    refused: Arc<Mutex<Option<String>>>,
}

/// What [`RedisBus`] gives to listeners.
pub struct RedisSubscription {
    pushes: Pushes,
    /// These end with the subscription.
    _listener: Listener,
    _watch: Watch,
}

impl RedisBus {
    /// The bus with this name on the store's server, within the store's service. Tiers that hold the same have
    /// the same bus; others have another.
    #[must_use]
    pub fn new(store: &RedisStore, name: &str) -> Self {
        let name = Key::join(&[&name as &dyn CacheKey]);
        let prefix = &store.0.settings.prefix;
        let channel = format!("{prefix}bus:{name}");
        // A lone `%` is in no key and no namespace, which escape it.
        let canaries = format!("{prefix}%bus:{name}:");
        Self { store: store.clone(), channel, canaries, refused: Arc::default() }
    }

    async fn publish_plain(&self, message: &Bytes) -> Result<()> {
        let link = self.store.0.any_link()?;
        let live = link.live()?;
        let answer = link.send(&live, &self.message("PUBLISH", message), link.deadline()).await?;
        link.accepted(&live, answer).map(drop)
    }

    fn message(&self, command: &str, message: &Bytes) -> redis::Cmd {
        let mut publish = redis::cmd(command);
        publish.arg(&self.channel).arg(&message[..]);
        publish
    }

    /// Begins to hear the messages of the shard, if that is not refused.
    async fn subscribe_sharded(&self, listener: &Listener, link: &Link) -> Result<()> {
        let mut subscribe = redis::cmd("SSUBSCRIBE");
        subscribe.arg(&self.channel);
        let refused = match listener.ask(&subscribe, self.within()).await? {
            Value::ServerError(error) => {
                // It may be another node's slot by now.
                link.place.doubt();
                let error = failure_in_cluster(&error.into()).error;
                if error.kind() == ErrorKind::Unavailable {
                    return Err(error);
                }
                Some(error.to_string())
            }
            _ => None,
        };
        *self.lock() = refused;
        Ok(())
    }

    // Nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within(&self) -> Duration {
        self.store.0.settings.operation_timeout
    }
}

impl Bus for RedisBus {
    type Subscription = RedisSubscription;

    async fn publish(&self, message: Bytes) -> Result<()> {
        if self.store.0.is_cluster() && self.lock().is_none() {
            let publish = || self.message("SPUBLISH", &message);
            match self.store.0.ask(&self.channel, publish).await {
                Err(error) if error.kind() != ErrorKind::Unavailable => {
                    *self.lock() = Some(error.to_string());
                }
                sent => return sent.map(drop),
            }
        }
        self.publish_plain(&message).await
    }

    async fn subscribe(&self) -> Result<RedisSubscription> {
        let pushes = Pushes::new();
        let store = &self.store.0;
        let link = match store.is_cluster() {
            true => Arc::clone(&*store.link(&self.channel)?),
            false => store.any_link()?,
        };
        let listener = pushes.listen(&link).await?;
        listener.subscribe(&self.channel, self.within()).await?;
        if store.is_cluster() {
            self.subscribe_sharded(&listener, &link).await?;
        }
        let canaries = Canaries::put(&self.store, self.canaries.clone()).await;
        let watch = canaries.watch(pushes.flushed());
        Ok(RedisSubscription { pushes, _listener: listener, _watch: watch })
    }

    fn describe(&self) -> String {
        match (self.store.0.is_cluster(), &*self.lock()) {
            (false, _) => "a bus".to_owned(),
            (true, None) => "a bus on a shard of the cluster".to_owned(),
            (true, Some(why)) => {
                let late = "as late as the links between them";
                format!(
                    "a bus on all nodes of the cluster, {late}, since a shard was refused: {why}"
                )
            }
        }
    }
}

impl Subscription for RedisSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            match self.pushes.next().await? {
                Push::Message(message) => return Ok(Delivery::Message(message)),
                Push::Missed => return Ok(Delivery::Missed),
                Push::Flushed => return Ok(Delivery::Flushed),
                Push::Invalidated(_) => {}
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
