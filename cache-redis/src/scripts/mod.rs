//! The Lua scripts. Each touches one key, or keys of one slot, so they work in a cluster as well.

use bytes::Bytes;
use cache_core::{ClaimOptions, Lease, SetOptions, Version};
use redis::{Cmd, Script};
use smol_str::SmolStr;

use crate::marks::MarkScripts;
use crate::slot::{Ends, Fixed, kept, lease_life};

/// What scripts are put together from: each has only what it needs, since a server runs all of a script at every call.
const NOW: &str = include_str!("now.lua");
const HEADER: &str = include_str!("header.lua");
const SLOT: &str = include_str!("slot.lua");
const STORE: &str = include_str!("store.lua");

/// The scripts with their digests.
pub(crate) struct Scripts {
    set: Text,
    claim: Text,
    fill: Text,
    release: Text,
    pub(crate) marks: MarkScripts,
    remove_unless: Text,
}

/// A script that is ready to be sent.
pub(crate) struct Call<'a> {
    text: &'a Text,
    key: &'a str,
    more_keys: &'a [SmolStr],
    arguments: Vec<Argument<'a>>,
}

pub(crate) struct Text {
    code: String,
    digest: String,
}

enum Argument<'a> {
    Small(Vec<u8>),
    Payload(&'a [u8]),
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            set: Text::of(&[NOW, HEADER, STORE, include_str!("set.lua")]),
            claim: Text::of(&[NOW, HEADER, SLOT, include_str!("claim.lua")]),
            fill: Text::of(&[NOW, HEADER, SLOT, STORE, include_str!("fill.lua")]),
            release: Text::of(&[NOW, HEADER, SLOT, include_str!("release.lua")]),
            marks: MarkScripts::new(),
            remove_unless: Text::of(&[NOW, HEADER, SLOT, include_str!("remove_unless.lua")]),
        }
    }

    /// The code of each.
    pub(crate) fn codes(&self) -> [&str; 5] {
        [&self.set, &self.claim, &self.fill, &self.release, &self.remove_unless]
            .map(|text| text.code.as_str())
    }

    /// A write that does nothing once the server's time is later than this.
    pub(crate) fn set<'a>(
        &'a self,
        key: &'a str,
        value: Option<&'a Bytes>,
        options: &SetOptions,
        not_after: u64,
    ) -> Call<'a> {
        Call::new(&self.set, key).entry(value, options).small(not_after.to_string())
    }

    pub(crate) fn claim<'a>(
        &'a self,
        key: &'a str,
        token: u64,
        options: &ClaimOptions,
    ) -> Call<'a> {
        let life = lease_life(options.life());
        Call::new(&self.claim, key)
            .token(token)
            .small(life.micros.to_string())
            .small(life.millis().to_string())
            .small(options.seen().map_or_else(String::new, decimal))
    }

    pub(crate) fn fill<'a>(
        &'a self,
        key: &'a str,
        lease: &Lease,
        value: Option<&'a Bytes>,
        options: &SetOptions,
    ) -> Call<'a> {
        Call::new(&self.fill, key).token(lease.token()).entry(value, options)
    }

    pub(crate) fn release<'a>(&'a self, key: &'a str, token: u64) -> Call<'a> {
        Call::new(&self.release, key).token(token)
    }

    /// Removes what is under a key, unless it has the version that is to be spared.
    pub(crate) fn remove_unless<'a>(&'a self, key: &'a str, spared: Version) -> Call<'a> {
        Call::new(&self.remove_unless, key).small(decimal(spared))
    }
}

impl Text {
    pub(crate) fn of(parts: &[&str]) -> Self {
        let code = parts.concat();
        let digest = Script::new(&code).get_hash().to_owned();
        Self { code, digest }
    }
}

impl<'a> Call<'a> {
    pub(crate) fn new(text: &'a Text, key: &'a str) -> Self {
        Self { text, key, more_keys: &[], arguments: Vec::with_capacity(6) }
    }

    /// With further keys, of the same slot.
    pub(crate) fn and_keys(mut self, keys: &'a [SmolStr]) -> Self {
        self.more_keys = keys;
        self
    }

    pub(crate) fn small(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.arguments.push(Argument::Small(argument.into()));
        self
    }

    fn token(self, token: u64) -> Self {
        self.small(token.to_be_bytes())
    }

    fn entry(mut self, value: Option<&'a Bytes>, options: &SetOptions) -> Self {
        let ends = Ends::of(options);
        self = self
            .small(Fixed::new(value, options).bytes())
            .small(ends.fresh.map_or_else(String::new, |life| life.micros.to_string()))
            .small(ends.usable.map_or_else(String::new, |life| life.micros.to_string()))
            .small(ends.usable.map_or_else(String::new, |life| life.millis().to_string()));
        self.arguments.push(Argument::Payload(value.map_or(&[], |value| value)));
        self
    }

    /// By its digest, which the server knows unless it has been restarted or flushed.
    pub(crate) fn by_digest(&self) -> Cmd {
        self.command("EVALSHA", &self.text.digest)
    }

    /// By its code, which the server then knows.
    pub(crate) fn by_code(&self) -> Cmd {
        self.command("EVAL", &self.text.code)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1 + self.more_keys.len()).arg(self.key);
        for key in self.more_keys {
            command.arg(key.as_str());
        }
        for argument in &self.arguments {
            match argument {
                Argument::Small(bytes) => command.arg(&bytes[..]),
                Argument::Payload(bytes) => command.arg(*bytes),
            };
        }
        command
    }
}

/// A version as scripts compare it.
fn decimal(version: Version) -> String {
    kept(version).get().to_string()
}
