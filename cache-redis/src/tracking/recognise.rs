//! Finds out whether the far store is what is heard of.

use std::time::Duration;

use bytes::Bytes;
use cache_core::{Error, ErrorKind, NearTier, Resync, SetOptions};
use tokio::time::timeout;

use super::ears::Ears;
use super::watch::{End, Of, Watch};
use crate::listener::{Push, Pushes};
use crate::unique::unique;

/// What the far store may take beyond the time that its news may take.
const SPARE: Duration = Duration::from_secs(60);

impl Watch {
    /// Begins to hear of every change, and drops what was copied before.
    pub(super) async fn begin(&self, near: &NearTier) -> Result<(Ears, Pushes), End> {
        let mark = format!("probe-{:016x}", unique());
        let full = format!("{}{mark}", self.prefix);
        self.prepare(&full).await?;
        let begun = self.listen(near, &mark, &full).await;
        if begun.is_err() {
            self.tidy(&full).await;
        }
        begun
    }

    async fn listen(&self, near: &NearTier, mark: &str, full: &str) -> Result<(Ears, Pushes), End> {
        let (ears, mut pushes) = Ears::open(self).await?;
        // From now on every change is heard of. What was copied before goes.
        near.resync(Resync::Connected).await?;
        self.recognise(near, mark, full, &mut pushes).await?;
        Ok((ears, pushes))
    }

    /// Finds out whether what the tiers read and write is what is heard of.
    async fn recognise(
        &self,
        near: &NearTier,
        mark: &str,
        full: &str,
        pushes: &mut Pushes,
    ) -> Result<(), End> {
        near.mark_far(mark).await?;
        let heard = timeout(self.patience(), async {
            loop {
                let push = pushes.next().await?;
                if let Push::Invalidated(keys) = &push
                    && keys.iter().any(|key| key[..] == *full.as_bytes())
                {
                    return Ok(());
                }
                self.heard(near, push, None).await?;
            }
        });
        heard.await.unwrap_or_else(|_| {
            let mut why =
                format!("namespace: the far store's keys do not begin with {:?}", self.prefix);
            if self.by_key {
                why += ", or it does not read by the store that is tracked";
            }
            Err(End::Other(Error::with_cause(ErrorKind::InvalidOption, why)))
        })
    }

    /// Puts the key that the far store is to write where that is a removal, of which there is news only if there is something
    /// to remove. It is too early to be heard of itself.
    async fn prepare(&self, full: &str) -> Result<(), End> {
        if self.removes() {
            let options = SetOptions::ttl(self.patience().saturating_add(SPARE));
            self.store.0.set_bare(full, Some(&Bytes::new()), &options).await?;
        }
        Ok(())
    }

    /// Takes the key away that nobody has found. If it fails, the key ends by itself.
    async fn tidy(&self, full: &str) {
        if self.removes() {
            let _ = self.store.0.set_bare(full, None, &SetOptions::ttl(SPARE)).await;
        }
    }

    /// Whether a negative entry is none: in a bare store there is nothing but values.
    fn removes(&self) -> bool {
        self.store.0.settings.bare && matches!(self.of, Of::Entries)
    }

    fn patience(&self) -> Duration {
        self.trust.max(self.store.0.settings.operation_timeout)
    }
}
