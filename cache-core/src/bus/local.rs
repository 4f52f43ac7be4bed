use bytes::Bytes;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Bus, Delivery, Subscription};
use crate::{Error, ErrorKind, Result};

/// A bus within this process: for tests, and for several tiers in one process. Clones are the same bus.
///
/// It holds a limited number of messages; who is slower than that misses some, and is told.
///
/// ```
/// use cache_core::{Broadcast, LocalBus, Tiered};
/// use cache_memory::MemoryStore;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (bus, far) = (LocalBus::new(1024), MemoryStore::<u32>::new(10_000));
/// let tiers = |far: &MemoryStore<u32>| {
///     Tiered::builder(MemoryStore::new(1_000), far.clone())
///         .coherent_by(Broadcast::over(bus.clone()))
///         .build()
/// };
/// let (here, there) = (tiers(&far)?, tiers(&far)?);
/// # let _ = (here, there); Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LocalBus(broadcast::Sender<Bytes>);

/// What [`LocalBus`] gives to listeners.
#[derive(Debug)]
pub struct LocalSubscription(broadcast::Receiver<Bytes>);

impl LocalBus {
    /// A bus that holds up to so many messages (at least one) for the slowest listener.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(broadcast::Sender::new(capacity.clamp(1, 1 << 20)))
    }
}

impl Bus for LocalBus {
    type Subscription = LocalSubscription;

    async fn publish(&self, message: Bytes) -> Result<()> {
        // An error says that nobody listens.
        let _ = self.0.send(message);
        Ok(())
    }

    async fn subscribe(&self) -> Result<LocalSubscription> {
        Ok(LocalSubscription(self.0.subscribe()))
    }
}

impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        match self.0.recv().await {
            Ok(message) => Ok(Delivery::Message(message)),
            Err(RecvError::Lagged(_)) => Ok(Delivery::Missed),
            Err(RecvError::Closed) => {
                Err(Error::with_cause(ErrorKind::Unavailable, "the bus is gone"))
            }
        }
    }
}
