//! Changes: far first, then near, then the announcement. See [`Tiered`](crate::Tiered).

use futures_util::FutureExt;
use smol_str::SmolStr;

use super::near::Fence;
use super::{Change, Inner};
use crate::{CacheStore, Error, ErrorKind, Fill, Lease, Result, SetOptions, Version};

impl<N: CacheStore, F: CacheStore<Value = N::Value>> Inner<N, F> {
    pub(super) async fn set(
        &self,
        key: &str,
        value: Option<N::Value>,
        options: SetOptions,
    ) -> Result<()> {
        options.check()?;
        let options = versioned(options);
        let fence = self.fence_for_write(key).await;
        let unfinished = Unfinished::new(self, Change::key(key));
        let began = self.gate.now();
        let copy = matches!(fence, Fence::Held(_)).then(|| value.clone());
        let set = self.far.set(key, value, options.clone()).await;
        match &set {
            Ok(()) => {
                match copy {
                    Some(value) => {
                        self.copy_as(fence, key, value.as_ref(), options, began).await;
                    }
                    None => self.near.remove(key).await?,
                }
                unfinished.done();
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                drop(fence);
                self.near.remove(key).await?;
                drop(unfinished);
            }
            // Refused, so nothing has changed.
            Err(_) => unfinished.forgotten(),
        }
        set
    }

    pub(super) async fn set_many(
        &self,
        entries: Vec<(&str, Option<N::Value>, SetOptions)>,
    ) -> Vec<Result<()>> {
        if entries.is_empty() {
            return Vec::new();
        }
        let mut copies = Vec::with_capacity(entries.len());
        let mut written = Vec::with_capacity(entries.len());
        for (key, value, options) in entries {
            let options = versioned(options);
            let fence = self.fence_for_write(key).await;
            let copy = matches!(fence, Fence::Held(_)).then(|| value.clone());
            copies.push((key, fence, copy, options.clone()));
            written.push((key, value, options));
        }
        let change = Change::keys(written.iter().map(|(key, ..)| *key));
        let unfinished = Unfinished::new(self, change);
        let began = self.gate.now();
        let results = self.far.set_many(written).await;
        let (mut changed, mut unsettled) = (Vec::new(), Vec::new());
        for ((key, fence, copy, options), result) in copies.into_iter().zip(&results) {
            match (result, copy) {
                (Ok(()), Some(value)) => {
                    self.copy_as(fence, key, value.as_ref(), options, began).await;
                    changed.push(SmolStr::new(key));
                    continue;
                }
                (Ok(()), None) => changed.push(SmolStr::new(key)),
                (Err(error), _) if error.kind() == ErrorKind::Unavailable => {
                    unsettled.push(SmolStr::new(key));
                }
                (Err(_), _) => continue,
            }
            drop(fence);
            // A near store in memory does not fail, and the results are the far store's.
            let _ = self.near.remove(key).await;
        }
        unfinished.forgotten();
        if !changed.is_empty() {
            self.announce(Change::Keys(changed));
        }
        if !unsettled.is_empty() {
            self.announce_unsettled(Change::Keys(unsettled));
        }
        results
    }

    pub(super) async fn remove(&self, keys: &[&str]) -> Result<()> {
        if keys.is_empty() {
            return self.far.remove_many(keys).await;
        }
        let unfinished = Unfinished::new(self, Change::keys(keys.iter().copied()));
        let removed = match keys {
            [key] => self.far.remove(key).await,
            keys => self.far.remove_many(keys).await,
        };
        let forgotten = match keys {
            [key] => self.near.remove(key).await,
            keys => self.near.remove_many(keys).await,
        };
        unfinished.ended(&removed);
        removed.and(forgotten)
    }

    /// Removes a prefix, or everything, or what has a tag.
    pub(super) async fn remove_all(&self, change: &Change) -> Result<()> {
        let prefixes = self.near.capabilities().prefix && self.far.capabilities().prefix;
        let refused = match change {
            Change::Prefix(_) if !prefixes => Some("remove_prefix"),
            Change::Tags(_) if !self.far.capabilities().tags => Some("remove_tagged"),
            _ => None,
        };
        if let Some(refused) = refused {
            return Err(Error::with_cause(ErrorKind::Unsupported, refused));
        }
        if change.count() == 0 {
            return remove_from(&self.far, change).await;
        }
        let unfinished = Unfinished::new(self, change.clone());
        let removed = remove_from(&self.far, change).await;
        let forgotten = self.forget_near(change).await;
        unfinished.ended(&removed);
        removed.and(forgotten)
    }

    pub(super) async fn fill(
        &self,
        mut lease: Lease,
        value: Option<N::Value>,
        options: SetOptions,
    ) -> Result<Fill> {
        // A lease that these tiers have not handed out was made by who stands right above them.
        let (key, replaces) = match lease.take_note() {
            Some(note) => (note.key, note.replaces),
            None => (SmolStr::new(lease.key()), true),
        };
        let options = versioned(options);
        let fence = self.fence_for_write(&key).await;
        let mut unfinished = Unfinished::new(self, Change::key(&key));
        unfinished.fill(replaces);
        let began = self.gate.now();
        let copy = matches!(fence, Fence::Held(_)).then(|| value.clone());
        let filled = self.far.fill(lease, value, options.clone()).await;
        match (&filled, copy) {
            (Ok(Fill::Stored), Some(value)) => {
                self.copy_as(fence, &key, value.as_ref(), options, began).await;
                unfinished.done();
            }
            // Somebody else has changed the key. Who gets what was loaded is not to find anything older.
            (Ok(Fill::Refused), _) => {
                drop(fence);
                self.near.remove(&key).await?;
                unfinished.forgotten();
            }
            (Ok(Fill::Stored), None) | (Err(_), _) => {
                drop(fence);
                self.near.remove(&key).await?;
                unfinished.done();
            }
        }
        filled
    }

    /// A ticket for what is about to be written. Reads that are under way find something older.
    async fn fence_for_write(&self, key: &str) -> Fence<'_, N> {
        match self.fence_over(key).await {
            Fence::None if self.copies && self.gate.is_open() => {
                if self.near.remove(key).await.is_err() {
                    return Fence::None;
                }
                self.fence_over(key).await
            }
            fence => fence,
        }
    }

    /// Drops from the near store what has changed in the far one.
    pub(super) async fn forget_near(&self, change: &Change) -> Result<()> {
        match change {
            // Which copies are of entries with these tags, nobody knows.
            Change::Tags(tags) if !tags.is_empty() && self.far.capabilities().tags => {
                self.near.clear().await
            }
            // It is about marks that are on the same bus.
            Change::Tags(_) => Ok(()),
            change => remove_from(&self.near, change).await,
        }
    }

    /// Drops everything from the near store, and from those in front of it.
    pub(super) async fn forget_all_near(&self) -> Result<()> {
        let forgotten = self.near.clear().await;
        forgotten.and(self.above.forget_all().await)
    }

    pub(super) fn announce(&self, change: Change) {
        if let Some(announcer) = self.keeper.get().and_then(|keeper| keeper.announcer.as_ref()) {
            announcer.changed(change);
        }
    }

    pub(super) fn announce_unsettled(&self, change: Change) {
        if let Some(announcer) = self.keeper.get().and_then(|keeper| keeper.announcer.as_ref()) {
            announcer.unsettled(change);
        }
    }
}

/// A write has one version, wherever it goes.
fn versioned(options: SetOptions) -> SetOptions {
    match options.version() {
        Some(_) => options,
        None => options.with_version(Version::random()),
    }
}

/// Removes what has changed from a store.
pub(super) async fn remove_from<S: CacheStore>(store: &S, change: &Change) -> Result<()> {
    match change {
        Change::Keys(keys) => {
            let keys: Vec<_> = keys.iter().map(SmolStr::as_str).collect();
            store.remove_many(&keys).await
        }
        Change::Prefix(prefix) => store.remove_prefix(prefix).await,
        Change::Tags(tags) => {
            let tags: Vec<_> = tags.iter().map(SmolStr::as_str).collect();
            store.remove_tagged(&tags).await
        }
        Change::Clear => store.clear().await,
    }
}

/// A change on its way. If it is dropped, nobody knows whether it has been made.
struct Unfinished<'a, N: CacheStore, F: CacheStore<Value = N::Value>> {
    tiers: &'a Inner<N, F>,
    change: Option<Change>,
    how: How,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Change,
    /// A fill that replaces what others may have copied, or not. It is safe to be made late, so it is not made up for.
    Fill {
        replaces: bool,
    },
}

impl<'a, N: CacheStore, F: CacheStore<Value = N::Value>> Unfinished<'a, N, F> {
    fn new(tiers: &'a Inner<N, F>, change: Change) -> Self {
        Self { tiers, change: Some(change), how: How::Change }
    }

    fn fill(&mut self, replaces: bool) {
        self.how = How::Fill { replaces };
    }

    /// It has been made.
    fn done(mut self) {
        if let Some(change) = self.change.take()
            && self.how != (How::Fill { replaces: false })
        {
            self.tiers.announce(change);
        }
    }

    /// It has been made, or not.
    fn ended(self, result: &Result<()>) {
        match result {
            Err(error) if error.kind() == ErrorKind::Unavailable => drop(self),
            // What is refused will be refused again. Some of it may have been done.
            Ok(()) | Err(_) => self.done(),
        }
    }

    /// It has not been made, or is taken care of.
    fn forgotten(mut self) {
        self.change = None;
    }
}

impl<N: CacheStore, F: CacheStore<Value = N::Value>> Drop for Unfinished<'_, N, F> {
    fn drop(&mut self) {
        let Some(change) = self.change.take() else {
            return;
        };
        // A store in memory does it at once; any other one keeps its copy until it ends.
        let _ = self.tiers.forget_near(&change).now_or_never();
        match self.how {
            How::Change => self.tiers.announce_unsettled(change),
            How::Fill { replaces: true } => self.tiers.announce(change),
            How::Fill { replaces: false } => {}
        }
    }
}
