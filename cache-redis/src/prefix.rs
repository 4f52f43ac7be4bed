//! Removal of all keys with a prefix.

use cache_core::Result;
use redis::{Cmd, Pipeline, Value};

use crate::course::{Course, STEP};
use crate::error::unexpected;
use crate::link::{Link, Live, is_redirection};
use crate::marks::own_and_log;

/// Removes every key on this server that begins with `prefix`, one batch at a time, so that the server is
/// never blocked for long. Returns the keys that have moved to another node meanwhile.
///
/// It takes as long as the server has keys, but no server makes it go on for ever: see [`Course`].
pub(crate) async fn remove(link: &Link, live: &Live, prefix: &str) -> Result<Vec<String>> {
    forget_log(link, live, prefix).await?;
    let pattern = format!("{}*", escaped(prefix));
    let mut moved = Vec::new();
    let (mut cursor, mut course) = (b"0".to_vec(), Course::new());
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
        let answer = link.send(live, &scan, link.deadline()).await?;
        // A page may be empty, and a key may come twice; only the cursor says when it is over.
        let Value::Array(mut answer) = link.accepted(live, answer)? else {
            return Err(unexpected());
        };
        let (Some(Value::Array(keys)), Some(Value::BulkString(next))) =
            (answer.pop(), answer.pop())
        else {
            return Err(unexpected());
        };
        // A key that is not text is not one of this crate's. And whatever the server takes the pattern for, nothing
        // else is removed.
        let keys = keys.into_iter().filter_map(|key| redis::from_redis_value(key).ok());
        let keys = keys.filter(|key: &String| key.starts_with(prefix)).collect();
        remove_page(link, live, keys, &mut moved).await?;
        if next == b"0" {
            return Ok(moved);
        }
        course.goes_on(&next)?;
        if course.asks_for_keys() {
            let answer = link.send(live, &redis::cmd("DBSIZE"), link.deadline()).await?;
            // Who may not ask goes as far as without an answer.
            if let Value::Int(keys) = answer {
                course.keys(u64::try_from(keys).unwrap_or(0));
            }
        }
        cursor = next;
    }
}

/// Removes the log of the marks before them: a mark that is made anew in between is to be later than the one that went.
async fn forget_log(link: &Link, live: &Live, prefix: &str) -> Result<()> {
    let (_, log) = own_and_log(&link.settings.prefix);
    if log.starts_with(prefix) {
        let answer = link.send(live, &unlink(&[log.into()]), link.deadline()).await?;
        // On another node it goes with the marks that are there.
        if !is_redirection(&answer) {
            link.accepted(live, answer)?;
        }
    }
    Ok(())
}

async fn remove_page(
    link: &Link,
    live: &Live,
    keys: Vec<String>,
    moved: &mut Vec<String>,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    if !link.place.is_in_cluster() {
        let answer = link.send(live, &unlink(&keys), link.deadline()).await?;
        return link.accepted(live, answer).map(drop);
    }
    // A command for each key: in a cluster they are in different slots.
    let mut commands = Pipeline::new();
    for key in &keys {
        commands.add_command(unlink(std::slice::from_ref(key)));
    }
    let answers = link.send_all(live, &commands, link.deadline()).await?;
    for (key, answer) in keys.into_iter().zip(answers) {
        match answer {
            answer if is_redirection(&answer) => moved.push(key),
            answer => link.accepted(live, answer).map(drop)?,
        }
    }
    Ok(())
}

fn unlink(keys: &[String]) -> Cmd {
    let mut unlink = redis::cmd("UNLINK");
    for key in keys {
        unlink.arg(key);
    }
    unlink
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
