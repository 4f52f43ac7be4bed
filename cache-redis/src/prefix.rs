//! Removal of all keys with a prefix.

use cache_core::Result;
use redis::Value;

use crate::error::unexpected;
use crate::link::{Link, Live};

/// How many keys the server looks at for one answer.
const STEP: usize = 1000;

/// Removes every key that begins with `prefix`, one batch at a time, so that the server is never
/// blocked for long.
pub(crate) async fn remove(link: &Link, live: &Live, prefix: &str) -> Result<()> {
    let pattern = format!("{}*", escaped(prefix));
    let mut cursor = Value::Int(0);
    loop {
        let mut scan = redis::cmd("SCAN");
        match &cursor {
            Value::BulkString(cursor) => scan.arg(&cursor[..]),
            _ => scan.arg(0),
        };
        scan.arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
        let answer = link.send(live, &scan, link.deadline()).await?;
        // A page may be empty, and a key may come twice; only the cursor says when it is over.
        let Value::Array(mut answer) = link.accepted(live, answer)? else {
            return Err(unexpected());
        };
        let (Some(Value::Array(keys)), Some(next)) = (answer.pop(), answer.pop()) else {
            return Err(unexpected());
        };
        if !keys.is_empty() {
            let mut unlink = redis::cmd("UNLINK");
            for key in keys {
                if let Value::BulkString(key) = key {
                    unlink.arg(key);
                }
            }
            let answer = link.send(live, &unlink, link.deadline()).await?;
            link.accepted(live, answer)?;
        }
        if matches!(&next, Value::BulkString(next) if next == b"0") {
            return Ok(());
        }
        cursor = next;
    }
}

/// The text with all that means something in a pattern made to mean itself.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn patterns_mean_what_they_say() {
        assert_eq!(escaped(r"a*b?[c]\d^-ü"), r"a\*b\?\[c\]\\d^-ü");
    }
}
