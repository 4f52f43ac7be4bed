//! What each codec costs, for a small value and for one of about 10 kB of JSON.
//!
//!     cargo run --release -p cache-serde --all-features --example codec_cost

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::Codec;
use cache_serde::{Bincode, Compressed, Json, Postcard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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

fn main() {
    let small = user(7);
    let large: Vec<User> = (0..48).map(user).collect();
    println!("one struct of ten fields              bytes  encode ns  decode ns");
    rows(&small, 500);
    println!("a list of 48 of them                  bytes  encode ns  decode ns");
    rows(&large, 20);
}

fn rows<V>(value: &V, rounds: u32)
where
    V: Serialize + DeserializeOwned + 'static,
{
    row(
        "serde_json alone",
        value,
        rounds,
        &Plain(serde_json::to_vec, |b: &[u8]| serde_json::from_slice(b)),
    );
    row("Json::bare", value, rounds, &Json::bare());
    row("Json", value, rounds, &Json::new());
    row(
        "postcard alone",
        value,
        rounds,
        &Plain(postcard::to_stdvec, |b: &[u8]| postcard::from_bytes(b)),
    );
    row("Postcard", value, rounds, &Postcard::new());
    let config = bincode::config::standard();
    row(
        "bincode alone",
        value,
        rounds,
        &Plain(
            move |value: &V| bincode::serde::encode_to_vec(value, config),
            move |bytes: &[u8]| {
                bincode::serde::decode_from_slice(bytes, config).map(|(value, _)| value)
            },
        ),
    );
    row("Bincode", value, rounds, &Bincode::new());
    row(
        "Compressed<Json>",
        value,
        rounds,
        &Compressed::new(Json::new()).threshold(0),
    );
    row(
        "Compressed<Postcard>",
        value,
        rounds,
        &Compressed::new(Postcard::new()).threshold(0),
    );
}

fn row<V>(name: &str, value: &V, rounds: u32, codec: &impl Codec<V>) {
    let bytes = codec.encode(value).expect("encoded");
    let encode = fastest(rounds, || drop(black_box(codec.encode(black_box(value)))));
    let decode = fastest(rounds, || drop(black_box(codec.decode(black_box(&bytes)))));
    println!(
        "    {name:<30} {:>8} {:>10} {:>10}",
        bytes.len(),
        encode.as_nanos(),
        decode.as_nanos()
    );
}

/// The best of many: the time that the work takes when nothing is in its way.
fn fastest(rounds: u32, mut run: impl FnMut()) -> Duration {
    let measure = |_| {
        let start = Instant::now();
        (0..rounds).for_each(|_| run());
        start.elapsed() / rounds
    };
    (0..1000).map(measure).min().unwrap_or_default()
}

/// A format's crate, as it is: without a frame and without limits.
struct Plain<E, D>(E, D);

impl<V, E, D, EE, DE> Codec<V> for Plain<E, D>
where
    E: Fn(&V) -> Result<Vec<u8>, EE> + Send + Sync + 'static,
    D: Fn(&[u8]) -> Result<V, DE> + Send + Sync + 'static,
    EE: std::fmt::Debug,
    DE: std::fmt::Debug,
{
    fn encode(&self, value: &V) -> cache_core::Result<Bytes> {
        Ok((self.0)(value).expect("encoded").into())
    }

    fn decode(&self, bytes: &Bytes) -> cache_core::Result<V> {
        Ok((self.1)(bytes).expect("decoded"))
    }
}
