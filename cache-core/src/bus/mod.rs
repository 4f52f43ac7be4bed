//! Invalidations between processes.
//!
//! A [`Bus`] carries bytes and may lose them. [`Broadcast`] makes of it what keeps near tiers coherent: it
//! numbers what it sends (`publish.rs`, `outbox.rs`, `message.rs`), notices what is missing from others
//! (`receive.rs`, `peers.rs`), and hears itself to know that it hears at all. What the far store may not have removed is
//! removed until that is certain (`settle.rs`, `unsettled.rs`).

mod broadcast;
mod local;
mod message;
mod outbox;
mod peers;
mod publish;
mod receive;
mod settle;
mod shared;
mod unsettled;

use std::future::Future;

use bytes::Bytes;

pub use broadcast::Broadcast;
pub use local::{LocalBus, LocalSubscription};

use crate::Result;

/// Carries messages to everybody who has subscribed, the publisher included.
///
/// What one publisher sends arrives in its order. Messages may be lost, and nobody has to be told: whoever
/// listens finds out by their numbers. They may come twice.
///
/// What others send does not arrive later than what the listener sends itself: who hears its own message takes it that what others
/// sent before it has been heard, or is missing. That is so on a bus that has one order for all messages. Where what one of the
/// publishers sends takes longer by some time than the listener's own, at times or always, a near hit is behind by up to
/// [`trust`](Broadcast::trust) and that time.
///
/// Whoever may publish on it is trusted: bytes that are no message change nothing, but a forged one can empty near tiers, keep them
/// from being used, or hide that others are missing.
///
/// ```
/// use bytes::Bytes;
/// use cache_core::{Bus, Delivery, LocalBus, Subscription};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let bus = LocalBus::new(16);
/// let mut subscription = bus.subscribe().await?;
/// bus.publish(Bytes::from_static(b"news")).await?;
/// assert_eq!(subscription.next().await?, Delivery::Message(Bytes::from_static(b"news")));
/// # Ok::<(), cache_core::Error>(()) }).unwrap();
/// ```
pub trait Bus: Send + Sync + 'static {
    /// What [`subscribe`](Self::subscribe) returns.
    type Subscription: Subscription;

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it can't be sent now. Then it may have been sent
    /// or not, and is sent again.
    fn publish(&self, message: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Begins to listen. Everything that is published after this has returned is heard, or
    /// [missed](Delivery::Missed), or the subscription ends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    fn subscribe(&self) -> impl Future<Output = Result<Self::Subscription>> + Send;

    /// What it is in words, and what is not as it should be, for
    /// [`kept_by`](crate::TierSnapshot::kept_by).
    fn describe(&self) -> String {
        "a bus".to_owned()
    }
}

/// Messages as they come.
pub trait Subscription: Send + 'static {
    /// The next message. It waits until there is one.
    ///
    /// # Errors
    ///
    /// The subscription has ended. Who wants to hear more subscribes again.
    ///
    /// # Cancellation
    ///
    /// No message may be lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Result<Delivery>> + Send;
}

/// What comes from a [`Subscription`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A message.
    Message(Bytes),
    /// Messages have been lost, and it goes on.
    Missed,
    /// The far store may have been emptied by somebody who says nothing on the bus.
    Flushed,
}
