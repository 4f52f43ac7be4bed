//! A store that breaks one promise, chosen by its `Fault`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use cache_core::testing::{ModelStore, Operation, Subject};
use cache_core::{
    CacheStore, CacheStoreExt, Capabilities, Claim, ClaimOptions, Clock, Entry, Error, ErrorKind,
    Fill, Lease, Marked, MemoryMarks, Result, SetOptions, Tagged, Version,
};
use futures_util::FutureExt;
use tokio::task::yield_now;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Nothing,
    Hangs,
    Panics,
    SaysItIsNotFenced,
    SaysItHasNoVersions,
    SaysItKnowsNoPrefixes,
    SaysItKnowsNoTags,
    RefusesTagsAndRemovesThem,

    FirstReadFindsSomething,
    CorruptsOneValue,
    KeepsAnOldValue,
    NegativeIsAMiss,
    NegativeBlocksCreation,
    CutsLongKeys,
    GetNowFindsNothing,
    GetNowAsFindsNothing,
    VersionsStartAgainAfterARemoval,
    MakesUpItsVersions,
    WritesLifetimeBeforeValue,

    StaleIsGone,
    LivesAMillisecondLonger,
    RefusesToBeStaleFromTheStart,
    KeepsALongLifetime,
    KeepsAShortLifetime,
    AcceptsZero,
    ZeroRemoves,
    RefusesShortLifetimes,
    HugeLifetimesOverflow,
    ForEverEnds,
    DropsTheLoadTime,

    GetManyAnswersInReverse,
    SetManyIgnoresLifetimes,
    SetManyKeepsTheFirst,
    SetManyAnswersInReverse,
    RemoveManyTakesPrefixes,
    RemoveManyOfNothingClears,

    RemoveTakesAPrefix,
    RemoveOfNothingFails,
    RemovedKeysStayRemoved,
    PrefixIsAPattern,
    PrefixOverlooksUnicode,
    ClearOverlooksNegatives,

    ClaimsOverNegatives,
    ClaimIsNotGranted,
    HeldGivesUp,
    ReleaseEndsAllLeases,
    ChecksThenClaims,
    LeasesShow,
    LeasesDoNotEnd,
    LeasesEndEarly,
    ReleaseDoesNothing,
    ReleaseAlwaysHeld,
    FillIgnoresTheLifetime,
    RefusedFillKeepsTheLease,

    /// Stores a fill whose lease was taken away by this operation (`Claim`: by time).
    FillsAfter(Operation),
    RemoveKeepsTheLease,
    ReleasesTheLeasesOfOthers,

    RefreshHidesTheEntry,
    RefreshKeepsTheLifetime,
    GrantsASecondRefresh,
    RefreshesAnyVersion,
    HoldsARefreshOfNothing,
    GivingUpARefreshRemoves,

    ADroppedReadRemoves,
    ADroppedBulkWriteMixes,
    ADroppedRemovalCorrupts,
    ADroppedClaimStays,
    ADroppedFillCorrupts,

    RemovesTheFirstTagOnly,
    /// This operation overlooks what has been removed by tag.
    FindsWhatTagsRemoved(Operation),
    GetNowFindsWhatTagsRemoved,
    TagsRemoveEverything,
    TagsRemoveWhatHadThemBefore,
    TagsRemoveTwice,
    ReleaseHeldThroughTags,
}
use Fault::*;

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) struct Broken {
    inner: Tagged<ModelStore<Marked<u32>>, MemoryMarks, u32>,
    fault: Fault,
    used: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// The last operation that was not a read, and its key.
    last: Option<(Operation, String)>,
    removed: HashMap<String, u32>,
    held: HashMap<String, u32>,
    claimed: Vec<String>,
    /// Keys, with the tags of values that have been replaced.
    before: Vec<(String, String)>,
    /// What has been removed by tag last.
    tags: Vec<String>,
}

impl Broken {
    pub(crate) fn subject(fault: Fault) -> Subject<Self> {
        let (clock, hands) = Clock::manual();
        let inner = ModelStore::new(clock).tagged(MemoryMarks::new(), tags);
        let store = Self { inner, fault, used: AtomicBool::new(false), log: Mutex::default() };
        Subject::new(store).manual_clock(hands).tagged_by(tags)
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn key<'a>(&self, key: &'a str) -> &'a str {
        if self.is(CutsLongKeys) { &key[..key.len().min(4096)] } else { key }
    }

    /// Writes the operation down, and returns the one before.
    fn note(&self, operation: Operation, key: &str) -> Option<(Operation, String)> {
        self.used.store(true, Ordering::Relaxed);
        self.log.lock().unwrap().last.replace((operation, key.to_owned()))
    }

    fn last_was(&self, operation: Operation, key: &str) -> bool {
        let log = self.log.lock().unwrap();
        log.last.as_ref().is_some_and(|(last, of)| *last == operation && of == key)
    }

    fn count(&self, of: impl FnOnce(&mut Log) -> &mut HashMap<String, u32>, key: &str) -> u32 {
        let mut log = self.log.lock().unwrap();
        let count = of(&mut log).entry(key.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// The entry, also if it has been removed by tag.
    async fn below(&self, key: &str) -> Option<Entry<u32>> {
        let entry = self.inner.inner().get(key).await.unwrap()?;
        Some(match entry.value().map(|marked| marked.value().copied()) {
            Some(Some(value)) => entry.map(|_| value),
            _ => Entry::new(None, entry.fresh_for(), entry.usable_for()),
        })
    }

    async fn old(&self, key: &str) -> Option<Entry<u32>> {
        self.inner.get(key).await.unwrap()
    }

    /// The options that a faulty store makes of these.
    async fn options(&self, key: &str, options: SetOptions) -> SetOptions {
        let (fresh, usable) = (options.fresh_for(), options.usable_for());
        let old = self.old(key).await.map(|old| (old.usable_for(), old.options()));
        let stale = usable.saturating_sub(fresh);
        match (self.fault, old) {
            (LivesAMillisecondLonger, _) if stale.is_zero() && !fresh.is_zero() && fresh < HOUR => {
                SetOptions::ttl(fresh + Duration::from_millis(1))
            }
            (KeepsALongLifetime, Some((left, old)))
                if left > HOUR && usable < HOUR && !usable.is_zero() =>
            {
                old
            }
            (KeepsAShortLifetime, Some((left, old))) if left < HOUR && usable > HOUR => old,
            (HugeLifetimesOverflow, _) if usable > 100 * YEAR && usable != Duration::MAX => {
                SetOptions::ttl(Duration::from_millis(1))
            }
            (ForEverEnds, _) if usable == Duration::MAX => SetOptions::ttl(99 * YEAR),
            (DropsTheLoadTime, _) => match options.version() {
                Some(version) => SetOptions::ttl(fresh).stale_for(stale).with_version(version),
                None => SetOptions::ttl(fresh).stale_for(stale),
            },
            (MakesUpItsVersions, _) if options.version().is_some() => {
                SetOptions::ttl(fresh).stale_for(stale)
            }
            _ => options,
        }
    }
}

/// The length of the key, and whether the value is even.
fn tags(key: &str, value: Option<&u32>) -> [String; 2] {
    let parity = value.map_or("none", |value| if value % 2 == 0 { "even" } else { "odd" });
    [key.len().to_string(), parity.to_owned()]
}

impl CacheStore for Broken {
    type Value = u32;

    async fn get(&self, key: &str) -> Result<Option<Entry<u32>>> {
        let key = self.key(key);
        match self.fault {
            Hangs => std::future::pending().await,
            Panics => panic!("out of order"),
            _ => {}
        }
        if !self.used.swap(true, Ordering::Relaxed) && self.is(FirstReadFindsSomething) {
            return Ok(Some(Entry::new(None, HOUR, HOUR)));
        }
        if self.is(TagsRemoveTwice) {
            let again = std::mem::take(&mut self.log.lock().unwrap().tags);
            let again: Vec<_> = again.iter().map(String::as_str).collect();
            self.inner.remove_tagged(&again).await?;
        }
        let entry = self.inner.get(key).await?;
        let Some(entry) = entry else {
            if self.is(FindsWhatTagsRemoved(Operation::Get)) {
                return Ok(self.below(key).await);
            }
            let shows = self.is(LeasesShow) && self.last_was(Operation::Claim, key);
            return Ok(shows.then(|| Entry::new(None, HOUR, HOUR)));
        };
        Ok(match self.fault {
            CorruptsOneValue if key == "key 12" => Some(entry.map(|value| value + 1)),
            NegativeIsAMiss if entry.is_negative() => None,
            StaleIsGone if !entry.is_fresh() => None,
            RefreshHidesTheEntry if self.last_was(Operation::Claim, key) => None,
            SaysItHasNoVersions => Some(entry.with_version(Version::UNKNOWN)),
            VersionsStartAgainAfterARemoval if !self.log.lock().unwrap().removed.is_empty() => {
                Some(entry.with_version(Version::new(1)))
            }
            _ => Some(entry),
        })
    }

    fn get_now(&self, key: &str) -> Poll<Option<Entry<u32>>> {
        match self.fault {
            GetNowFindsNothing => Poll::Ready(None),
            GetNowFindsWhatTagsRemoved => Poll::Ready(self.below(key).now_or_never().flatten()),
            _ => Poll::Pending,
        }
    }

    fn get_now_as<T>(
        &self,
        key: &str,
        look: impl FnOnce(Option<u32>) -> Poll<Option<Option<T>>>,
    ) -> Poll<Option<Entry<T>>> {
        match self.get_now(key) {
            _ if self.is(GetNowAsFindsNothing) => Poll::Ready(None),
            Poll::Ready(Some(entry)) => {
                let lives = (entry.fresh_for(), entry.usable_for());
                let seen = look(entry.into_value());
                seen.map(|seen| seen.map(|value| Entry::new(value, lives.0, lives.1)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    async fn set(&self, key: &str, value: Option<u32>, options: SetOptions) -> Result<()> {
        let key = self.key(key);
        self.note(Operation::Set, key);
        let zero = options.usable_for().is_zero();
        let old = self.old(key).await;
        let old = old.as_ref().map(|entry| entry.value().copied());
        let removed = self.log.lock().unwrap().removed.get(key).copied().unwrap_or(0);
        match self.fault {
            AcceptsZero if zero => return Ok(()),
            ZeroRemoves if zero => self.inner.remove(key).await?,
            KeepsAnOldValue if old == Some(Some(14)) && value == Some(15) => return Ok(()),
            NegativeBlocksCreation if old == Some(None) => return Ok(()),
            TagsRemoveWhatHadThemBefore => {
                let before = old.iter().flat_map(|value| tags(key, value.as_ref()));
                let before = before.map(|tag| (key.to_owned(), tag));
                self.log.lock().unwrap().before.extend(before);
            }
            RemovedKeysStayRemoved if removed >= 2 && value.is_some() => return Ok(()),
            RefusesToBeStaleFromTheStart if options.fresh_for().is_zero() => {
                return Err(Error::new(ErrorKind::InvalidOption));
            }
            RefusesShortLifetimes if !zero && options.usable_for().as_millis() < 10 => {
                return Err(Error::new(ErrorKind::InvalidOption));
            }
            WritesLifetimeBeforeValue => {
                if let Some(old) = old {
                    self.inner.set(key, old, options.clone()).await?;
                    yield_now().await;
                }
            }
            _ => {}
        }
        let options = self.options(key, options).await;
        self.inner.set(key, value, options).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        let last = self.note(Operation::Remove, key);
        self.count(|log| &mut log.removed, key);
        let again = last.is_some_and(|(last, of)| last == Operation::Remove && of == key);
        match self.fault {
            RemoveTakesAPrefix => self.inner.remove_prefix(key).await,
            RemoveOfNothingFails if again => Err(Error::new(ErrorKind::Store)),
            RemoveKeepsTheLease if self.old(key).await.is_none() => Ok(()),
            _ => self.inner.remove(self.key(key)).await,
        }
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry<u32>>>> {
        if self.is(ADroppedReadRemoves) {
            for key in keys {
                if let Some(old) = self.old(key).await {
                    self.inner.remove(key).await.unwrap();
                    yield_now().await;
                    self.inner.set(key, old.value().copied(), old.options()).await.unwrap();
                }
            }
        }
        let mut entries = self.inner.get_many(keys).await;
        if self.is(FindsWhatTagsRemoved(Operation::GetMany)) {
            for (key, entry) in keys.iter().zip(&mut entries) {
                *entry = Ok(self.below(key).await);
            }
        }
        if self.is(GetManyAnswersInReverse) {
            entries.reverse();
        }
        entries
    }

    async fn set_many(&self, mut entries: Vec<(&str, Option<u32>, SetOptions)>) -> Vec<Result<()>> {
        self.note(Operation::SetMany, "");
        for (key, _, options) in &mut entries {
            let left = options.usable_for();
            if self.is(SetManyIgnoresLifetimes) && left < HOUR && !left.is_zero() {
                *options = SetOptions::ttl(HOUR);
            }
            if self.is(ADroppedBulkWriteMixes)
                && let Some(old) = self.old(key).await
            {
                self.inner.set(key, old.value().copied(), options.clone()).await.unwrap();
                yield_now().await;
            }
        }
        if self.is(SetManyKeepsTheFirst) {
            entries.reverse();
        }
        let mut results = self.inner.set_many(entries).await;
        if self.is(SetManyKeepsTheFirst) || self.is(SetManyAnswersInReverse) {
            results.reverse();
        }
        results
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<()> {
        self.note(Operation::RemoveMany, "");
        for key in keys {
            match self.fault {
                RemoveManyTakesPrefixes => self.inner.remove_prefix(key).await?,
                ADroppedRemovalCorrupts => {
                    self.inner.set(key, Some(999), SetOptions::ttl(HOUR)).await?;
                    yield_now().await;
                }
                _ => {}
            }
        }
        if self.is(RemoveManyOfNothingClears) && keys.is_empty() {
            return self.inner.clear().await;
        }
        self.inner.remove_many(keys).await
    }

    async fn remove_prefix(&self, prefix: &str) -> Result<()> {
        self.note(Operation::RemovePrefix, "");
        let star = prefix.find('*').filter(|_| self.is(PrefixIsAPattern));
        let overlooked = self.old("ä").await.filter(|_| self.is(PrefixOverlooksUnicode));
        self.inner.remove_prefix(&prefix[..star.unwrap_or(prefix.len())]).await?;
        match overlooked {
            Some(old) => self.inner.set("ä", old.value().copied(), old.options()).await,
            None => Ok(()),
        }
    }

    async fn remove_tagged(&self, tags: &[&str]) -> Result<()> {
        self.note(Operation::RemoveTagged, "");
        self.log.lock().unwrap().tags = tags.iter().map(ToString::to_string).collect();
        match self.fault {
            RefusesTagsAndRemovesThem => {
                self.inner.remove_tagged(tags).await?;
                return Err(Error::new(ErrorKind::Unsupported));
            }
            RemovesTheFirstTagOnly => {
                return self.inner.remove_tagged(&tags[..tags.len().min(1)]).await;
            }
            TagsRemoveEverything => self.inner.clear().await?,
            TagsRemoveWhatHadThemBefore => {
                let mut before = std::mem::take(&mut self.log.lock().unwrap().before);
                before.retain(|(_, tag)| tags.contains(&tag.as_str()));
                let before: Vec<_> = before.iter().map(|(key, _)| key.as_str()).collect();
                self.inner.remove_many(&before).await?;
            }
            _ => {}
        }
        self.inner.remove_tagged(tags).await
    }

    async fn clear(&self) -> Result<()> {
        self.note(Operation::Clear, "");
        let negative = self.old("none").await.filter(|_| self.is(ClearOverlooksNegatives));
        self.inner.clear().await?;
        match negative {
            Some(old) => self.inner.set("none", None, old.options()).await,
            None => Ok(()),
        }
    }

    async fn claim(&self, key: &str, options: ClaimOptions) -> Result<Claim<u32>> {
        let life = options.life();
        let old = self.old(key).await;
        let with_life = |life| match options.seen() {
            Some(seen) => ClaimOptions::new(life).refreshing(seen),
            None => ClaimOptions::new(life),
        };
        let options = match (self.fault, &old) {
            (LeasesDoNotEnd, _) if life < HOUR => with_life(24 * HOUR),
            (LeasesEndEarly, _) if life < HOUR => with_life(life - Duration::from_secs(1)),
            (ClaimsOverNegatives, Some(entry)) if entry.is_negative() => {
                options.refreshing(entry.version())
            }
            (RefreshesAnyVersion, Some(entry)) if options.seen().is_some() => {
                options.refreshing(entry.version())
            }
            _ => options,
        };
        let held = Ok(Claim::Held { retry_in: Duration::ZERO });
        let mut claim = self.inner.claim(key, options).await?;
        if let (Claim::Granted(_), FindsWhatTagsRemoved(Operation::Claim)) = (&claim, self.fault)
            && options.seen().is_none()
            && let Some(entry) = self.below(key).await
        {
            return Ok(Claim::Found(entry));
        }
        match (&claim, self.fault) {
            (Claim::Granted(_), HoldsARefreshOfNothing)
                if old.is_none() && options.seen().is_some() =>
            {
                return held;
            }
            (Claim::Granted(_), ClaimIsNotGranted) if key == "removed" => return held,
            (Claim::Granted(lease), ChecksThenClaims) => {
                self.inner.release(lease.clone()).await?;
                yield_now().await;
                claim = self.inner.claim(key, options).await?;
                if let Claim::Held { .. } = claim {
                    claim = Claim::Granted(Lease::new(key, 0));
                }
            }
            (Claim::Granted(lease), ADroppedClaimStays) => {
                self.inner.release(lease.clone()).await?;
                let Claim::Granted(first) = self.inner.claim(key, with_life(24 * HOUR)).await?
                else {
                    return held;
                };
                yield_now().await;
                self.inner.release(first).await?;
                claim = self.inner.claim(key, options).await?;
            }
            (Claim::Held { .. }, HeldGivesUp)
                if key == "key" && self.count(|log| &mut log.held, key) > 1 =>
            {
                claim = Claim::Granted(Lease::new(key, 0));
            }
            (Claim::Held { .. }, GrantsASecondRefresh) if options.seen().is_some() => {
                claim = Claim::Granted(Lease::new(key, 0));
            }
            _ => {}
        }
        if let Claim::Granted(_) = claim {
            self.note(Operation::Claim, key);
            self.log.lock().unwrap().claimed.push(key.to_owned());
        }
        Ok(claim)
    }

    async fn fill(&self, lease: Lease, value: Option<u32>, options: SetOptions) -> Result<Fill> {
        let key = lease.key().to_owned();
        let last = self.note(Operation::Fill, &key).map(|(last, _)| last);
        let options = match self.old(&key).await {
            Some(old) if self.is(RefreshKeepsTheLifetime) => old.options(),
            _ if self.is(FillIgnoresTheLifetime) && options.check().is_ok() => {
                let version = options.version();
                let options = SetOptions::ttl(24 * HOUR);
                version.map_or(options.clone(), |version| options.with_version(version))
            }
            _ => options,
        };
        if self.is(RefusedFillKeepsTheLease) {
            options.check()?;
        }
        // Of the same parity, so that it has the same tags.
        let corrupt = |value: u32| if self.is(ADroppedFillCorrupts) { value + 1000 } else { value };
        let first = value.map(corrupt);
        let fill = self.inner.fill(lease, first, options.clone()).await?;
        if self.is(ADroppedFillCorrupts) && fill == Fill::Stored {
            yield_now().await;
            self.inner.set(&key, value, options.clone()).await?;
        }
        if fill == Fill::Refused && last.is_some_and(|last| self.is(FillsAfter(last))) {
            self.inner.set(&key, value, options).await?;
            return Ok(Fill::Stored);
        }
        Ok(fill)
    }

    async fn release(&self, lease: Lease) -> Result<bool> {
        let key = lease.key().to_owned();
        let last = self.note(Operation::Release, &key).map(|(last, _)| last);
        let entry = self.old(&key).await;
        match self.fault {
            ReleaseHeldThroughTags if last == Some(Operation::RemoveTagged) => {
                self.inner.release(lease).await.map(|_| true)
            }
            ReleaseDoesNothing => Ok(true),
            ReleasesTheLeasesOfOthers if entry.is_none() => {
                let held = self.inner.release(lease).await;
                self.inner.remove(&key).await.and(held)
            }
            GivingUpARefreshRemoves if entry.is_some() => {
                self.inner.remove(&key).await.map(|()| true)
            }
            ReleaseAlwaysHeld => self.inner.release(lease).await.map(|_| true),
            ReleaseEndsAllLeases if entry.is_none() => {
                let claimed = std::mem::take(&mut self.log.lock().unwrap().claimed);
                let claimed: Vec<_> = claimed.iter().map(String::as_str).collect();
                self.inner.remove_many(&claimed).await.map(|()| true)
            }
            _ => self.inner.release(lease).await,
        }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        match self.fault {
            SaysItIsNotFenced => capabilities.fenced = false,
            SaysItHasNoVersions => capabilities.versioned = false,
            SaysItKnowsNoPrefixes => capabilities.prefix = false,
            SaysItKnowsNoTags | RefusesTagsAndRemovesThem => capabilities.tags = false,
            _ => {}
        }
        capabilities
    }
}
