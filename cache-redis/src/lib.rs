//! The Redis store for [`cache_core`]: fenced across processes, bounded in time when the server is
//! not there, and at many callers faster than the client it is made of.
//!
//! ```no_run
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use cache_core::{CacheAside, CacheStoreExt, ReadOptions};
//! use cache_redis::RedisStore;
//! use cache_serde::Json;
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct User { id: u64, name: String }
//! # async fn from_database(id: u64) -> Result<Option<User>, std::io::Error> { Ok(None) }
//!
//! let redis = RedisStore::connect("redis://127.0.0.1:6379", "shop").await?;
//! let store = redis.clone().namespaced("user").encoded(Json::new());
//! let users = CacheAside::new(store, ReadOptions::ttl(Duration::from_secs(60)))?;
//! let user = users.get_or_load(&7, || from_database(7)).await?; // `shop:user:7`
//! # Ok::<_, cache_core::Error>(()) }).unwrap();
//! ```
//!
//! # Where the server is
//!
//! | URL | [`RedisBuilder`] | feature | what it is |
//! |---|---|---|---|
//! | `redis://user:password@host:6379/0` | [`address`](RedisBuilder::address) | | one server |
//! | `unix:///run/redis.sock?db=0&user=u&pass=p` | [`unix_socket`](RedisBuilder::unix_socket) | | its socket on this machine |
//! | `redis+cluster://user:password@host1:6379,host2:6379` | `cluster` | `cluster` | some nodes of a Redis Cluster |
//! | `redis+sentinel://user:password@host1:26379,host2:26379/mymaster/0` | `sentinels` | `sentinel` | the server that Sentinels know as `mymaster` |
//! | `rediss` in place of `redis` | `tls` | `tls` | the same, encrypted |
//!
//! User, password, database and TLS are the same for every server, and after every reconnect. A user or
//! password in the URL is meant for the server; Sentinels have a `sentinel_login` of their own. For
//! `redis` one may write `valkey`. Without the feature the error names it.
//!
//! **Redis Cluster.** The store connects to every primary, and asks for the map of the slots when it does not
//! fit any more, and once a minute. The connections of each node, its clock, its gathered reads and the
//! pauses when it is down are its own: a dead node costs the keys of its slots, and the others go on. A
//! command that is redirected (`MOVED`, `ASK`) is sent once more, to where it belongs. Only primaries are
//! asked: a replica may have what was invalidated. When a primary dies, its keys are misses until the
//! cluster has elected a replica (`cluster-node-timeout` and about a second) and the store has
//! found out, which takes another second at most. A key that the cluster has not replicated in time is lost, an
//! invalidation too: if it must not be, `WAIT` for the replicas after it, or invalidate again. A lease which is lost that
//! way refuses its fill. While slots are being moved, `remove_prefix` may miss a key that is on its
//! way from one node to the other. With a hash tag, `{acme}` as a namespace for example, all of a
//! tenant's keys are in one slot; nothing here needs that.
//!
//! **Sentinel.** Whoever connects asks the Sentinels first, one after the other, each for its part of
//! the [`connect_timeout`](RedisBuilder::connect_timeout). A server that turns out to be a replica is left, and they are
//! asked again.
//!
//! **TLS** is by rustls with ring, whichever provider the program has chosen for itself. Certificates are
//! always checked: there is no switch for that. The roots are those of the system, read once when the
//! store is made, or your own by `root_certificates`. In a cluster each node's certificate has to
//! name the node as `CLUSTER SLOTS` does, by address or by host.
//!
//! # Keys
//!
//! `service:entity:id`, as in `shop:user:7`:
//!
//! - The **service** is the name that the store was built with. It is required, because it is what
//!   [`clear`](cache_core::CacheStore::clear) removes: never a database, and nothing of others.
//! - The **entity**, and a **tenant** before it, are [namespaces](cache_core::Namespaced):
//!   `store.namespaced("acme").namespaced("user")` has `shop:acme:user:7`. So all that belongs to a
//!   tenant can be removed by its prefix.
//! - The **id** is what [`CacheKey`](cache_core::CacheKey) spells. In each part, `:` and `%` are
//!   written `%3A` and `%25`, so different parts never make the same key.
//! - The version of a **codec** or schema is not in the key but in the bytes, where a reader checks it:
//!   after a deploy the old entries are misses that the new ones replace, instead of garbage under
//!   keys that nobody reads. Put it into a namespace, `user.v2`, while both versions run side by side
//!   and each is to have entries of its own.
//!
//! # What the server needs
//!
//! Redis 6.2 or newer; tested with 7.0. `EVAL` scripts, with `struct` and `TIME`, and `HELLO 3`. When connecting, a
//! replica is refused, and a node of a cluster or a Sentinel that is taken for a single server, and a user without one of the
//! permissions that the store needs; the error says which:
//!
//! ```text
//! ACL SETUSER shop on >password ~shop:* +@connection +time +get +mget +set +setrange +getrange
//!   +strlen +pttl +pexpire +unlink +scan +evalsha +eval +script|load +multi +exec
//! ```
//!
//! With more than 100 million keys `+dbsize` as well, since a scan that has no right to ask for their number ends there. In a
//! cluster also `+cluster|slots +asking`, on every node. The user of Sentinels needs
//! `+@connection +sentinel|get-master-addr-by-name`.
//!
//! Valkey speaks the same protocol, and has all of these: version 7.2 and newer should do, with the same
//! permissions. Tested by hand with 9.1.2 as a single server: the tests of slots and of fencing.
//!
//! A [`RedisBus`] needs `+publish +subscribe &shop:bus:*` as well, in a cluster `+spublish +ssubscribe`, and [`Tracking`] `+client|tracking`.
//!
//! An eviction policy other than `noeviction` suits a cache; with `noeviction` a full server refuses
//! writes, which are errors here, and reads go on.
//!
//! # What an operation costs
//!
//! | operation | commands | round trips |
//! |---|---|---|
//! | `get` | `GET`, or its share of an `MGET` | 1 |
//! | `set`, `claim`, `fill`, `release` | one script | 1 |
//! | `remove` | `UNLINK` | 1 |
//! | a load of a cold key by a strategy | `get`, `claim`, `fill` | 3 |
//! | `get_many`, `set_many`, `remove_many` | `MGET`, scripts, `UNLINK` | 1 for each 500 keys |
//! | `remove_prefix`, `clear` | `SCAN`, `UNLINK`, and for each million keys `DBSIZE` | up to 2 for each 1000 keys in the database |
//!
//! In a cluster the operations on many keys take one round trip for each 500 keys of a node, to all nodes at
//! the same time, and what would be an `MGET` is a `GET` for each key, since the keys are in different slots. A
//! redirection is one round trip more. With several [`connections`](RedisBuilder::connections) many keys go by
//! all of them at the same time.
//!
//! Reads per second of values of 200 bytes, against the multiplexed connection of the `redis` crate that
//! is below, and in brackets the processor time of the client for one read:
//!
//! | callers | client | store | store, one by one | store, 2 connections |
//! |---:|---:|---:|---:|---:|
//! | 1 | 48,500 (11.8 us) | 0.98x (14.4 us) | 1.00x (14.3 us) | 0.94x (12.7 us) |
//! | 8 | 137,900 (6.0 us) | 0.94x (6.6 us) | 0.93x (6.6 us) | 0.71x (7.9 us) |
//! | 16 | 204,400 (3.9 us) | 0.99x (4.3 us) | 0.99x (3.9 us) | 0.65x (5.2 us) |
//! | 32 | 186,100 (4.4 us) | 1.70x (2.3 us) | 0.98x (4.4 us) | 1.66x (2.5 us) |
//! | 64 | 164,000 (4.2 us) | 2.34x (1.9 us) | 1.13x (3.9 us) | 2.04x (2.1 us) |
//! | 256 | 192,200 (3.5 us) | 1.90x (1.8 us) | 0.97x (3.9 us) | 2.54x (1.3 us) |
//!
//! `get_many` of 100 keys has 0.93x the keys per second of the client's `MGET` of the same values, and 0.96x of an `MGET`
//! of as many bytes: the header of a slot is the rest. Measured
//! on two cores of a virtual machine that client, server and others shared, with Redis 7.0 and Rust 1.95.
//! From run to run the ratios at 64 callers were between 1.3 and 2.8, and at 256 between 1.5 and 2.7:
//!
//! ```text
//! cargo run --release -p cache-redis --example throughput redis://127.0.0.1:6379
//! ```
//!
//! That is with other work on the machine. On one that did nothing else the client itself sends more at a time, and what is
//! gained by gathering is less: 1.48x at 64 callers, and 1.36x at 256, by `cargo run --release -p cache-benches -- redis`.
//!
//! Up to 16 reads are in flight one by one. Beyond that they go together, as one `MGET` of whatever has
//! gathered while the one before was on its way. Nobody waits for others to come.
//!
//! # When the server is not there
//!
//! | what happens | what callers see | what the store does |
//! |---|---|---|
//! | it hangs | an error after [`operation_timeout`](RedisBuilder::operation_timeout) | asks for the time; without an answer in as long again, or after 16 time-outs in a row, the connection is given up |
//! | it dies, or the connection is cut | an error at once | connects again, after pauses that are random and grow |
//! | there is no connection | an error at once | |
//! | too many operations are in flight | an error at once | |
//! | the answer can't be parsed | an error | the connection is given up |
//! | it is out of memory (`OOM`) | an error for writes | reads go on |
//! | it became a replica (`READONLY`), or is loading (`LOADING`) | an error | connects again until it is neither, and asks the Sentinels, if there are any |
//! | it became a node of a cluster (`MOVED`) | an error that says so | |
//! | a slot of a cluster has moved (`MOVED`), or is being moved (`ASK`) | nothing | asks there, once, and has the map brought up to date |
//! | the cluster is down, or has no owner for a slot (`CLUSTERDOWN`, `TRYAGAIN`) | an error | has the map brought up to date |
//! | a primary of a cluster dies | an error at once for keys in its slots | asks the others who has taken over |
//! | a key holds another type (`WRONGTYPE`), or bytes that are no slot | a miss, counted by [`undecodable`](RedisStore::undecodable) | the next load replaces it |
//! | a `SCAN` does not end: its cursor comes again, or it has ten times the pages that the keys of the server take | an error | |
//! | a permission is withdrawn (`NOPERM`) | an error that names it | |
//!
//! The strategies of `cache-core` turn all of these errors into loads. Nothing waits for a connection,
//! and nothing is done twice: a command is sent again only after a server has said that it did not do it, since it
//! has forgotten the script, or the key is at another node.
//!
//! **Invalidations are made up for.** A `remove`, `remove_prefix` or `clear` that fails because the
//! server can't be reached is an error to its caller, and is made up for as soon as the server answers: those that have failed
//! by then before anybody reads from the new connection. So is a `remove`, or an invalidation of tags, whose future is dropped before its answer, as a
//! strategy does after its [`store_timeout`](cache_core::ReadOptions::store_timeout), and a lease that may have been granted to who is not there any
//! more. A `remove_prefix` or `clear` that is dropped is done in part, or not at all: leave it the time. The same goes for the key of a `set` that
//! fails: neither the old value nor, perhaps, the new one is to be found. Of each key the newest is kept,
//! up to [`max_pending`](RedisBuilder::max_pending), and [`pending`](RedisStore::pending) counts
//! them; with more than that, the service's keys are removed altogether. They live in this process, and
//! are lost with it. In a cluster they go to whichever node has the key by then. What a server refuses holds up nothing
//! behind it.
//!
//! What others have stored since is removed as well, which costs a load: that it was written after the invalidation does not say
//! that it was loaded after it. What this process has put under a key by `set` or `set_many` since its `remove` failed stays: it
//! is known by its version.
//!
//! # Memory in front of it
//!
//! [`Tiered`](cache_core::Tiered) copies what it finds here into a store of this process. Three ways keep the copies
//! coherent:
//!
//! | | [`RedisBus`] with [`Broadcast`](cache_core::Broadcast) | [`Tracking`] | [`Tracking::by_key`] |
//! |---|---|---|---|
//! | hears of | what is changed through tiers on the same bus | every change of a key, by anybody, and of a flush | the same, of keys that were read here |
//! | own writes | stay near | come back, and go; the next read copies them again | are copied once they are read |
//! | messages | one for each change, and heartbeats | one for each change, also for leases and for keys that expire | one for each change of a key that was read since its last |
//! | listens | on a connection of its own, in a cluster to a node of the shard | on a connection of its own, in a cluster to each primary | on the connections of a store that is [`tracked`](RedisBuilder::tracked) |
//! | tags of the store behind it | are announced | are refused, unless [`NearMarks`](cache_core::NearMarks) tell of them | the same |
//! | a lost connection | the near tier is emptied, and used when there is a new one | the same | the same |
//! | a hung connection | the near tier is not used after 1 s | the same | the same |
//! | another process dies, or is cut off | the near tier is not used 1 s after it was heard, and emptied then | nothing: it is the server that tells | the same |
//! | something is refused | `kept_by` tells what | the same | the same |
//!
//! An `EXPIRE` by somebody else is heard of when it is made, and again when the server deletes the key: a copy that is made in
//! between lives until then, since a reader knows of the end of life that an entry was written with alone.
//!
//! # Slots
//!
//! What is under a key is a header of 60 bytes and the payload, which is what the codec made. Numbers
//! are big-endian. Times are the server's, in microseconds since 1970; all ones is never.
//!
//! | offset | bytes | |
//! |---:|---:|---|
//! | 0 | 3 | `8d 43 53` |
//! | 3 | 1 | format version, 1 |
//! | 4 | 4 | flags: 1 an entry, 2 it is negative, 4 a lease. Legal are 1, 3, 4, 5, 7 |
//! | 8 | 4 | load time in microseconds, 0 if unknown |
//! | 12 | 4 | length of the payload |
//! | 16 | 4 | when it was written, in steps of 2^20 microseconds: for whoever looks |
//! | 20 | 4 | version of the entry, random or given |
//! | 24 | 8 | fresh until |
//! | 32 | 8 | usable until |
//! | 40 | 8 | token of the lease, random |
//! | 48 | 8 | end of the lease |
//! | 56 | 4 | sum of the 14 words before, the first times 7919, the second times 2 x 7919, and so on, modulo 4294967291 |
//! | 60 | | payload |
//!
//! Everything else is a miss: other flags, another sum, another length, a newer format. The sum covers the
//! header; the payload is checked by the codec's own.
//!
//! **Lifetimes go by the server's clock.** A write is one script, which takes the server's time for the
//! ends of life and sets the key's expiry with the value. A reader knows how far the server's clock
//! is from its own monotonic one, from asking now and then. So hosts whose clocks are hours off behave
//! like the others. An entry may seem older than it is by up to a round trip, but never younger.
//! If the clock of the server is set, readers follow within a few seconds.
//!
//! **A lease stands in the slot itself.** A claim of a key without an entry writes a slot that has
//! nothing but a lease; a claim of an entry that was seen adds the lease to it, and the entry can still
//! be read. A fill replaces the slot if its own token is still there and has not ended. Whatever removes
//! or replaces the slot, by this crate or any other client, takes the lease with it: `DEL` is enough.
//! Those who wait for a load ask again every 20 ms or so, and hold nothing meanwhile.
//!
//! # Tags
//!
//! [`RedisMarks`] keeps the marks of a [`Tagged`](cache_core::Tagged) store. For a service `shop`:
//!
//! | key | |
//! |---|---|
//! | `shop:%{t:shop:}tag:org:12` | the mark of the tag `org:12`: its generation, in decimals. It expires after the entries it was given to |
//! | `shop:%{t:shop:}log` | a sorted set of the 4096 tags that were invalidated last, by epoch, and an empty tag for the epoch up to which the log has been cut. It expires ten minutes after its last use |
//!
//! All of them are in one slot of a cluster, so that one script sees them at the same moment. Epochs are numbers that only grow;
//! when the log is new, they begin with the server's time in microseconds.
//!
//! | operation | more than without tags |
//! |---|---|
//! | a hit | an `MGET` of its marks, sent together with the read |
//! | `get_many` | one `MGET` of all marks, likewise |
//! | a claim | a script that tells the epoch, likewise |
//! | `fill`, `set`, `set_many` of what has tags | a script before it: one round trip |
//! | `invalidate_tags` | one script, whatever the number of entries |
//! | `invalidate_all` | `UNLINK` of the log, then `SCAN` and `UNLINK` of the marks |
//!
//! What these promises rest on: that the server keeps its acknowledged writes while it is up. After a failover to a replica that has
//! not got the last invalidations, entries they were about are valid again, just as removed keys are there again. If the server's clock is
//! set back *and* the log is lost while a load is under way, that load may be kept though its tag was invalidated.
//!
//! The user needs, beside the permissions above, `+zadd +zscore +zrevrange +zrange +zcard +zremrangebyrank +del +persist`.
//!
//! # A journal for write-behind
//!
//! With the feature `journal` there is `RedisJournal`, a journal in Redis Streams that processes share: writes that one has
//! acknowledged are made by another when it has died. It uses the store's connections and settings, and keys of its own.
//!
//! # Bare slots
//!
//! With [`RedisBuilder::bare`] the payload is all there is, so that other languages read and write the
//! same keys; with `Json::bare()` it is plain JSON. What is lost:
//!
//! - the fence: `fenced` and `versioned` of the [capabilities](cache_core::Capabilities) are false, every
//!   claim is granted, and a load that an invalidation overtakes *in another process* is kept;
//! - negative entries: storing one removes the key;
//! - stale entries: an entry ends when it is not fresh any more;
//! - the load time, and gathering: a read is a transaction of `PTTL` and `GET`, one round trip of its own.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod bare;
mod builder;
mod bulk;
mod bus;
mod canary;
#[cfg(feature = "cluster")]
mod cluster;
mod course;
mod error;
mod gather;
mod inner;
#[cfg(feature = "journal")]
mod journal;
mod keys;
mod link;
mod listener;
mod marks;
mod ops;
mod owed;
mod prefix;
mod route;
mod scripts;
#[cfg(feature = "sentinel")]
mod sentinel;
mod settings;
mod slot;
mod store;
#[cfg(feature = "tls")]
mod tls;
mod tracking;
mod unique;
mod url;

pub use builder::RedisBuilder;
pub use bus::{RedisBus, RedisSubscription};
#[cfg(feature = "journal")]
pub use journal::{RedisJournal, RedisJournalBuilder};
pub use marks::RedisMarks;
pub use store::RedisStore;
pub use tracking::Tracking;
