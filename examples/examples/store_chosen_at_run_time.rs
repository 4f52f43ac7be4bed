//! The store is a setting: an argument, or else the environment variable `STORE`.
//!
//! `cargo run -p cache-examples --example store_chosen_at_run_time -- moka`

use std::error::Error;
use std::time::Duration;
use std::{env, io};

use bytes::Bytes;
use cache_core::{CacheStoreExt, ReadOptions, ReadThrough, SharedStore};
use cache_memory::{MemoryStore, MokaStore};
use cache_serde::Json;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
}

const CHOICES: &str = "memory, moka, json or none";

/// The store with this name. They are of different types; what is returned is of one.
fn store(name: &str) -> Result<SharedStore<Product>, String> {
    Ok(match name {
        "memory" => MemoryStore::new(10_000).shared(),
        "moka" => MokaStore::new(10_000).shared(),
        "json" => MemoryStore::<Bytes>::new(10_000).encoded(Json::new()).shared(),
        // Without room it keeps nothing. Callers who come at once still share a load.
        "none" => MemoryStore::new(0).shared(),
        _ => return Err(format!("no store is called {name:?}: {CHOICES}")),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = env::args().nth(1).or_else(|| env::var("STORE").ok());
    let name = name.as_deref().unwrap_or("memory");

    let load = |id: u64| async move {
        println!("  loading {id}");
        let name = format!("product {id}");
        Ok::<_, io::Error>(Some(Product { id, name }))
    };
    let options = ReadOptions::ttl(Duration::from_secs(60));
    let products = ReadThrough::new(store(name)?, load, options)?;
    println!("the store is {name}; reading a product twice:");
    for _ in 0..2 {
        println!("{:?}", products.get(&7).await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_choice_but_none_keeps_what_it_is_given() {
        let product = Product { id: 7, name: "seven".to_owned() };
        for (name, keeps) in [("memory", true), ("moka", true), ("json", true), ("none", false)] {
            let store = store(name).expect(name);
            let put = store.put("7", product.clone(), Duration::from_secs(60));
            put.await.expect(name);
            let kept = store.value("7").await.expect(name);
            assert_eq!(kept, keeps.then(|| product.clone()), "{name}");
        }
    }

    #[test]
    fn a_wrong_name_is_told_what_there_is() {
        assert!(store("reddis").unwrap_err().contains("memory, moka, json or none"));
    }
}
