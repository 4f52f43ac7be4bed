//! Stores made of other stores. Each forwards every method, and passes the conformance kit itself.

mod encoded;
mod namespaced;

pub use encoded::Encoded;
pub use namespaced::Namespaced;
