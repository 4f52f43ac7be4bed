//! Does what could not be done before.

use cache_core::{ErrorKind, Result};
use redis::{Pipeline, Value};

use super::{Kept, Link, Live, Pending, is_redirection};
use crate::prefix;

/// So many pending invalidations are sent together.
const TOGETHER: usize = 256;

impl Link {
    /// Does what is pending, in its order, for the keys that are `mine`. What the server refuses stays, and holds up nothing
    /// behind it.
    ///
    /// # Errors
    ///
    /// That of the connection, or the first of the server's.
    pub(crate) async fn do_pending(
        &self,
        live: &Live,
        mine: &(impl Fn(&str) -> bool + Sync),
    ) -> Result<()> {
        let alone = !self.place.is_in_cluster();
        let (mut after, mut result) = (0, Ok(()));
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
                return result;
            };
            after = *last;
            let done = if singles == 0 {
                let done = self.do_prefix(live, first).await;
                done.inspect(|()| self.backlog.done(after))
            } else {
                self.do_singles(live, &pending).await
            };
            if matches!(&done, Err(error) if error.kind() == ErrorKind::Unavailable) {
                return done;
            }
            result = result.and(done);
        }
    }

    /// Does a removal by prefix, on this server.
    pub(crate) async fn do_prefix(&self, live: &Live, kept: &Kept) -> Result<()> {
        if let Pending::RemovePrefix(prefix) = &kept.what {
            prefix::remove(self, live, prefix).await?;
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
            match (&kept.what, kept.spared) {
                (Pending::Remove(key), None) => {
                    commands.cmd("UNLINK").arg(key.as_str());
                }
                (Pending::Remove(key), Some(version)) => {
                    commands.add_command(self.scripts.remove_unless(key, version).by_code());
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
        let mut result = Ok(());
        for ((order, kept), answer) in pending.iter().zip(answers) {
            if is_redirection(&answer) {
                // It stays until the map is right again, and the others need not wait for it.
                self.place.doubt();
                continue;
            }
            let done = match (self.accepted(live, answer), &kept.what) {
                (Err(_), Pending::Invalidate { log, mark, .. }) => {
                    self.forget_mark(live, log, mark).await
                }
                // A lease ends by itself.
                (Ok(_), _) | (Err(_), Pending::Release(..)) => Ok(()),
                (Err(error), _) => Err(error),
            };
            result = result.and(done.inspect(|()| self.backlog.done(*order)));
        }
        result
    }

    /// Invalidates a tag on a server that refuses the script: it has no memory left, or something else is where the log
    /// should be. A mark that is not there is one of nothing, and without the log it does not come back as it was.
    async fn forget_mark(&self, live: &Live, log: &str, mark: &str) -> Result<()> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(log).arg(mark);
        let answer: Value = self.send(live, &unlink, self.deadline()).await?;
        self.accepted(live, answer).map(drop)
    }
}
