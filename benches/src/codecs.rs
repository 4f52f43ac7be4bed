//! What the codecs cost, against the crate of the format alone.

use std::hint::black_box;

use bytes::Bytes;
use cache_core::Codec;
use cache_serde::{Bincode, Compressed, Json, Postcard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::measure::{Effort, in_turns, nanos};
use crate::report::{Section, Table, short, times};

#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
    age: u8,
    balance: f64,
    active: bool,
    created: u64,
    tags: Vec<String>,
    referrer: Option<u64>,
    country: String,
}

fn user(id: u64) -> User {
    User {
        id: 9_000_000 + id,
        name: format!("Grace Hopper the {id}th"),
        email: format!("grace.{id}@example.com"),
        age: 85,
        balance: 1234.56 + id as f64,
        active: true,
        created: 1_700_000_000_123 + id * 1009,
        tags: vec!["navy".to_owned(), "compiler".to_owned()],
        referrer: Some(id * 31),
        country: "US".to_owned(),
    }
}

/// Encodes and decodes a small struct, and 10 kB of them.
#[must_use]
pub fn measure(effort: Effort) -> Section {
    let mut section = Section::new(
        "Codecs",
        "A struct of ten fields, and a list of 48 of them, which is about 10 kB of JSON. Nanoseconds, medians of rounds in \
         which all take turns; ratios to `serde_json` alone. The codecs add a frame of 20 bytes, a fingerprint of the type, \
         a checksum, and limits. `Compressed` would leave the small one alone; here it has no threshold.",
    );
    section.tables.push(table("one struct", &user(7), 2000, effort));
    section.tables.push(table("a list of 48", &(0..48).map(user).collect::<Vec<_>>(), 50, effort));
    section
}

type Work = Box<dyn Fn()>;

struct Candidate {
    name: &'static str,
    bytes: usize,
    encode: Work,
    decode: Work,
}

fn table<V>(what: &str, value: &V, repeats: usize, effort: Effort) -> Table
where
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let candidates = [
        alone(value),
        candidate("Json", value, Json::new()),
        candidate("Json::bare", value, Json::bare()),
        candidate("Postcard", value, Postcard::new()),
        candidate("Bincode", value, Bincode::new()),
        candidate("Compressed<Json>", value, Compressed::new(Json::new()).threshold(0)),
        candidate("Compressed<Postcard>", value, Compressed::new(Postcard::new()).threshold(0)),
    ];
    let turns = |work: fn(&Candidate) -> &Work| {
        in_turns(effort.rounds, &[0; 7], |at| {
            nanos(|| (0..repeats).for_each(|_| work(&candidates[at])())) / repeats as f64
        })
    };
    let (encode, decode) = (turns(|c| &c.encode), turns(|c| &c.decode));
    let mut table =
        Table::new([what, "bytes", "encode ns", "to serde_json", "decode ns", "to serde_json"]);
    for (at, candidate) in candidates.iter().enumerate() {
        table.row([
            candidate.name.to_owned(),
            short(candidate.bytes as f64),
            short(encode[at].median),
            times(encode[at].ratio),
            short(decode[at].median),
            times(decode[at].ratio),
        ]);
    }
    table
}

fn alone<V>(value: &V) -> Candidate
where
    V: Clone + Serialize + DeserializeOwned + 'static,
{
    let bytes = serde_json::to_vec(value).expect("it can be encoded");
    let value = value.clone();
    Candidate {
        name: "serde_json alone",
        bytes: bytes.len(),
        encode: Box::new(move || drop(black_box(serde_json::to_vec(black_box(&value))))),
        decode: Box::new(move || {
            drop(black_box(serde_json::from_slice::<V>(black_box(&bytes))));
        }),
    }
}

fn candidate<V, C>(name: &'static str, value: &V, codec: C) -> Candidate
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V> + Clone,
{
    let bytes: Bytes = codec.encode(value).expect("it can be encoded");
    let (value, decoder) = (value.clone(), codec.clone());
    Candidate {
        name,
        bytes: bytes.len(),
        encode: Box::new(move || drop(black_box(codec.encode(black_box(&value))))),
        decode: Box::new(move || drop(black_box(decoder.decode(black_box(&bytes))))),
    }
}
