//! Entries that are invalidated by tag.
//!
//! `tagged.rs` and `store.rs` are the store; `marks.rs` says what it asks of those who keep the marks, and why nothing
//! that was invalidated comes back; `memory.rs` keeps them in this process, and `near.rs` copies
//! of those that are kept elsewhere; by `revision.rs` a hit knows that none has changed.

mod check;
mod codec;
mod generations;
mod hints;
mod many;
mod marked;
mod marks;
mod memory;
mod near;
mod revision;
mod store;
mod tagged;

pub use codec::TaggedCodec;
pub use marked::{Marked, Stamp};
pub use marks::Marks;
pub use memory::MemoryMarks;
pub use near::NearMarks;
pub use revision::Revision;
pub use tagged::{TagStore, Tagged};
