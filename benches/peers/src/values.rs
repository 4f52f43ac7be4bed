//! The value for those who hold bytes: they need something that can be encoded.

use serde::{Deserialize, Serialize};

/// Ten fields, about 200 bytes as JSON.
#[derive(Clone, Debug, Serialize, Deserialize, hitbox_fn::CacheableResponse)]
pub(crate) struct User {
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

pub(crate) fn user(id: u64) -> User {
    User {
        id,
        name: format!("Grace Hopper the {id}th"),
        email: format!("grace.{id}@example.com"),
        age: 85,
        balance: 1234.56,
        active: true,
        created: 1_700_000_000_123 + id,
        tags: vec!["navy".to_owned(), "compiler".to_owned()],
        referrer: Some(id * 31),
        country: "US".to_owned(),
    }
}
