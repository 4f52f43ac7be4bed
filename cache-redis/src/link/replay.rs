//! Does what could not be done before.

use cache_core::Result;
use redis::Pipeline;

use super::{Kept, Link, Live, Pending, is_redirection};
use crate::prefix::{self, Removal};

/// So many pending invalidations are sent together.
const TOGETHER: usize = 256;

impl Link {
    /// Does what is pending, in its order, for the keys that are `mine`. An entry which is known to be
    /// newer than its invalidation stays.
    pub(crate) async fn do_pending(
        &self,
        live: &Live,
        mine: &(impl Fn(&str) -> bool + Sync),
    ) -> Result<()> {
        let alone = !self.place.is_in_cluster();
        let mut after = 0;
        loop {
            let mut pending = self.backlog.oldest(after, TOGETHER, |pending| match pending {
                Pending::Remove(key)
                | Pending::Release(key, _)
                | Pending::Invalidate { mark: key, .. } => mine(key),
                // In a cluster it takes all nodes, and the task that keeps the map does it.
                Pending::RemovePrefix(_) => alone,
            });
            // A prefix takes many commands, so it goes by itself.
            let singles = pending
                .iter()
                .take_while(|(_, kept)| !matches!(kept.what, Pending::RemovePrefix(_)))
                .count();
            pending.truncate(singles.max(1));
            let (Some((_, first)), Some((last, _))) = (pending.first(), pending.last()) else {
                return Ok(());
            };
            after = *last;
            if singles == 0 {
                self.do_prefix(live, first).await?;
                self.backlog.done(after);
            } else {
                self.do_singles(live, &pending).await?;
            }
        }
    }

    /// Does a removal by prefix, on this server.
    pub(crate) async fn do_prefix(&self, live: &Live, kept: &Kept) -> Result<()> {
        if let Pending::RemovePrefix(prefix) = &kept.what {
            let older = match self.newer_than(live, kept) {
                Some(time) => Removal::OfOlderThan(time),
                None => Removal::OfAll,
            };
            prefix::remove(self, live, prefix, older).await?;
        }
        Ok(())
    }

    /// Does the removals by prefix on a server that has just been connected to. They stay pending, for the
    /// other servers of the cluster.
    pub(super) async fn do_prefixes(&self, live: &Live) -> Result<()> {
        for (_, kept) in self.backlog.prefixes() {
            self.do_prefix(live, &kept).await?;
        }
        Ok(())
    }

    async fn do_singles(&self, live: &Live, pending: &[(u64, Kept)]) -> Result<()> {
        let mut commands = Pipeline::new();
        for (_, kept) in pending {
            match (&kept.what, self.newer_than(live, kept)) {
                (Pending::Remove(key), None) if kept.spared.is_none() => {
                    commands.cmd("UNLINK").arg(key.as_str());
                }
                (Pending::Remove(key), time) => {
                    let time = time.unwrap_or(u64::MAX);
                    let removal = self.scripts.remove_older(key, time, kept.spared);
                    commands.add_command(removal.by_code());
                }
                (Pending::Release(key, token), _) => {
                    commands.add_command(self.scripts.release(key, *token).by_code());
                }
                (Pending::Invalidate { log, mark, tag }, _) => {
                    let marks = std::slice::from_ref(mark);
                    let call = self.scripts.marks.invalidate(log, marks, &[tag]);
                    commands.add_command(call.by_code());
                }
                (Pending::RemovePrefix(_), _) => {}
            }
        }
        let answers = self.send_all(live, &commands, self.deadline()).await?;
        for ((order, _), answer) in pending.iter().zip(answers) {
            match answer {
                // It stays until the map is right again, and the others need not wait for it.
                answer if is_redirection(&answer) => self.place.doubt(),
                answer => {
                    self.accepted(live, answer)?;
                    self.backlog.done(*order);
                }
            }
        }
        Ok(())
    }

    /// The server's time after which an entry is newer than an invalidation, if that can be told.
    fn newer_than(&self, live: &Live, kept: &Kept) -> Option<u64> {
        // A bare slot does not say when it was written.
        if self.settings.bare { None } else { kept.newer_than(|instant| live.clock.at(instant)) }
    }
}
