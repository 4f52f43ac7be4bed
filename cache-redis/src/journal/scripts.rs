//! The scripts of the journal, and the keys of a partition, which have one hash tag and so one slot.

use cache_core::Result;
use redis::{Cmd, Script, Value};
use smol_str::{SmolStr, format_smolstr};

use crate::inner::Inner;
use crate::link::{Live, is_no_script};

pub(super) struct Scripts {
    pub(super) append: Text,
    pub(super) lease: Text,
    pub(super) fetch: Text,
    pub(super) done: Text,
}

pub(super) struct Text {
    code: &'static str,
    digest: String,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let text = |code| Text { code, digest: Script::new(code).get_hash().to_owned() };
        Self {
            append: text(include_str!("lua/append.lua")),
            lease: text(include_str!("lua/lease.lua")),
            fetch: text(include_str!("lua/fetch.lua")),
            done: text(include_str!("lua/done.lua")),
        }
    }
}

/// The keys of a partition.
pub(super) struct Keys {
    /// The stream of the writes that are not done.
    pub(super) log: SmolStr,
    /// Number and body of the last write of each key.
    pub(super) last: SmolStr,
    /// The highest number, the bytes of all writes, who the last owner is and its number.
    state: SmolStr,
    /// The token of the owner, for as long as its lease lives.
    owner: SmolStr,
    /// The dead letters, by their numbers.
    pub(super) dead: SmolStr,
}

impl Keys {
    /// None of them begins with the prefix of the store, whose `clear` is about entries.
    pub(super) fn new(journal: &str, partition: usize) -> Self {
        let key = |name: &str| format_smolstr!("{{{journal}:{partition}}}:{name}");
        Self {
            log: key("log"),
            last: key("last"),
            state: key("state"),
            owner: key("owner"),
            dead: key("dead"),
        }
    }

    fn all(&self) -> [&str; 5] {
        [&self.log, &self.last, &self.state, &self.owner, &self.dead].map(SmolStr::as_str)
    }
}

impl Text {
    /// Runs it once; by its code if the server does not know it any more.
    pub(super) async fn run(
        &self,
        inner: &Inner,
        keys: &Keys,
        arguments: &[&[u8]],
    ) -> Result<Value> {
        self.run_with(inner, keys, arguments, |_| None).await
    }

    /// Runs it with a last argument more: when, by the clock of the server that gets it, the caller has given up.
    pub(super) async fn run_in_time(
        &self,
        inner: &Inner,
        keys: &Keys,
        arguments: &[&[u8]],
    ) -> Result<Value> {
        self.run_with(inner, keys, arguments, |live| Some(inner.not_after(live))).await
    }

    async fn run_with(
        &self,
        inner: &Inner,
        keys: &Keys,
        arguments: &[&[u8]],
        last: impl Fn(&Live) -> Option<u64>,
    ) -> Result<Value> {
        let command = |live: &Live, name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(5).arg(&keys.all()).arg(arguments).arg(last(live));
            command
        };
        let by_digest = |live: &Live| command(live, "EVALSHA", &self.digest);
        let answer = send(inner, &keys.log, by_digest).await?;
        let answer = match is_no_script(&answer) {
            true => send(inner, &keys.log, |live| command(live, "EVAL", self.code)).await?,
            false => answer,
        };
        inner.route(&keys.log)?.accepted(answer)
    }
}

/// Sends a command, which may depend on the connection, to where this key is. An error of the server's is an answer here.
async fn send(inner: &Inner, key: &str, command: impl Fn(&Live) -> Cmd) -> Result<Value> {
    let route = inner.route(key)?;
    let deadline = route.link.deadline();
    let answer = route.send(command(&route.live), deadline).await?;
    match inner.redirected(&route, key, &answer) {
        None => Ok(answer),
        Some(route) => {
            let route = route?;
            route.send(command(&route.live), deadline).await
        }
    }
}

/// Sends a command to where this key is, and returns its answer.
pub(super) async fn ask(inner: &Inner, key: &str, command: impl Fn() -> Cmd) -> Result<Value> {
    let answer = send(inner, key, |_| command()).await?;
    inner.route(key)?.accepted(answer)
}
