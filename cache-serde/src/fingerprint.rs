use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use serde::de::DeserializeOwned;

use crate::trace::{Recorder, fnv};

/// The shape of a type as a positional format sees it, in one number.
///
/// It is found by running the type's `Deserialize` on made-up input and writing down what it asks
/// for: names and order of fields, names and order of variants, kinds of numbers, strings,
/// sequences, options. Two types with the same fingerprint read each other's bytes as the same
/// fields; names of types, `Box`, `Arc` and newtypes make no difference. Swapping, adding, removing
/// or renaming a field changes it, and so does a new variant. It is the same in every process, on
/// every machine and with every compiler.
///
/// Codecs compute it once per type and process: in about ten microseconds for most types, in at
/// most some tens of milliseconds for a very large or widely recursive one, of which not everything
/// is looked at.
///
/// A type that accepts only some values (`NonZeroU32`, a date, an address) is tried with a number
/// of likely ones. If it accepts none of them, what is behind it stays unseen, apart from the
/// names in the structs around it, and the fingerprint is not [complete](Self::is_complete). It is
/// still the same everywhere, but for such a type raise [`schema`](crate::Framed::schema) whenever
/// you change what is behind. Parts of a recursive type are seen to a limited depth.
///
/// A test can pin the shape of what is stored:
///
/// ```
/// use cache_serde::Fingerprint;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Account { credit: u32, debt: u32 }
///
/// #[derive(Deserialize)]
/// struct Swapped { debt: u32, credit: u32 }
///
/// let fingerprint = Fingerprint::of::<Account>();
/// assert_eq!(fingerprint.number(), 0xa89e_d85c_0354_d808);
/// assert!(fingerprint.is_complete());
/// assert_ne!(fingerprint, Fingerprint::of::<Swapped>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    number: u64,
    complete: bool,
}

impl Fingerprint {
    /// The fingerprint of `V`, computed anew.
    #[must_use]
    pub fn of<V: DeserializeOwned>() -> Self {
        let mut recorder = Recorder::default();
        recorder.trace::<V>();
        Self {
            number: recorder.number(),
            complete: recorder.is_complete(),
        }
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number
    }

    /// Whether everything in the type was seen; a recursive type, as deep as it is looked at.
    ///
    /// If not, raise [`schema`](crate::Framed::schema) with every change of the type.
    #[must_use]
    pub fn is_complete(self) -> bool {
        self.complete
    }
}

/// The number of the type, mixed with the user's, and remembered.
pub(crate) fn of<V: DeserializeOwned + 'static>(schema: u32) -> u64 {
    static KNOWN: RwLock<Option<HashMap<TypeId, u64>>> = RwLock::new(None);

    let id = TypeId::of::<V>();
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let number = known.as_ref().and_then(|known| known.get(&id).copied());
    drop(known);
    let number = number.unwrap_or_else(|| {
        // Not under the lock: a user's `Deserialize` runs in there.
        let number = Fingerprint::of::<V>().number;
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_default().insert(id, number);
        number
    });
    fnv(number, &schema.to_le_bytes())
}
