use super::{Broken, Comparable, KEY, Kept, Subject, ensure};
use crate::{ErrorKind, Result};

/// Keys and prefixes, with all that patterns, cases and encodings could take for something else.
const KEYS: [&str; 22] = [
    "", "a", "ab", "abc", "a*", "a*b", "a?", "a?c", "a[b]", "a[b]c", "a\\", "a\\*", "*", "?",
    "[ab]", "A", "ba", "a:b", "a b", "ä", "äb", "a%",
];

pub(super) async fn remove_removes_this_key_and_no_other<S: Comparable>(s: Subject<S>) -> Kept {
    for key in KEYS {
        s.put_keys().await?;
        s.store().remove(key).await?;
        for (other, number) in KEYS.into_iter().zip(0..) {
            if other == key {
                s.misses(other).await?;
            } else {
                s.holds(other, number).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn remove_of_an_absent_key_is_fine<S: Comparable>(s: Subject<S>) -> Kept {
    s.store().remove(KEY).await?;
    s.put(KEY, 1).await?;
    s.store().remove(KEY).await?;
    s.store().remove(KEY).await?;
    s.misses(KEY).await
}

pub(super) async fn a_removed_key_can_be_set_again<S: Comparable>(s: Subject<S>) -> Kept {
    for number in 0..3 {
        s.put(KEY, number).await?;
        s.holds(KEY, number).await?;
        s.store().remove(KEY).await?;
        s.misses(KEY).await?;
        s.store().set(KEY, None, s.lasting()).await?;
        s.store().remove(KEY).await?;
        s.misses(KEY).await?;
    }
    Ok(())
}

pub(super) async fn remove_prefix_removes_the_keys_that_begin_with_it<S: Comparable>(
    s: Subject<S>,
) -> Kept {
    for prefix in KEYS {
        s.put_keys().await?;
        if !s.removes_prefix(s.store().remove_prefix(prefix).await).await? {
            return Ok(());
        }
        for key in KEYS.into_iter().filter(|key| key.starts_with(prefix)) {
            s.misses(key).await.map_err(|Broken(m)| Broken(format!("after {prefix:?}*: {m}")))?;
        }
    }
    Ok(())
}

pub(super) async fn remove_prefix_keeps_all_other_keys<S: Comparable>(s: Subject<S>) -> Kept {
    for prefix in KEYS {
        s.put_keys().await?;
        if !s.removes_prefix(s.store().remove_prefix(prefix).await).await? {
            return Ok(());
        }
        for (key, number) in KEYS.into_iter().zip(0..) {
            if !key.starts_with(prefix) {
                s.holds(key, number)
                    .await
                    .map_err(|Broken(m)| Broken(format!("after {prefix:?}*: {m}")))?;
            }
        }
    }
    Ok(())
}

pub(super) async fn clear_removes_everything<S: Comparable>(s: Subject<S>) -> Kept {
    s.put_keys().await?;
    s.store().set("none", None, s.lasting()).await?;
    let result = s.store().clear().await;
    // A store may clear itself and still not know prefixes.
    if result.is_err() && !s.removes_prefix(result).await? {
        return Ok(());
    }
    for key in KEYS {
        s.misses(key).await?;
    }
    s.misses("none").await?;
    s.put(KEY, 1).await?;
    s.holds(KEY, 1).await?;
    Ok(())
}

impl<S: Comparable> Subject<S> {
    async fn put_keys(&self) -> Kept {
        for (key, number) in KEYS.into_iter().zip(0..) {
            self.put(key, number).await?;
        }
        Ok(())
    }

    /// Whether the store can do it. One that can't has to say so, both ways, and to keep its entries.
    async fn removes_prefix(&self, result: Result<()>) -> Kept<bool> {
        if self.store().capabilities().prefix {
            result?;
            return Ok(true);
        }
        let kind = result.err().map(|error| error.kind());
        ensure!(
            kind == Some(ErrorKind::Unsupported),
            "the error is {kind:?}, of a store with prefix = false"
        );
        for (key, number) in KEYS.into_iter().zip(0..) {
            self.holds(key, number).await?;
        }
        Ok(false)
    }
}
