use std::mem;

/// Keys as the server knows them, one after the other in one piece of memory.
#[derive(Default)]
pub(crate) struct Keys {
    text: String,
    ends: Vec<usize>,
}

impl Keys {
    pub(crate) fn with_capacity(keys: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(keys) }
    }

    /// Adds the key that is made of these two.
    pub(crate) fn push(&mut self, prefix: &str, key: &str) {
        self.text.push_str(prefix);
        self.text.push_str(key);
        self.ends.push(self.text.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key at this place; there has to be one.
    pub(crate) fn at(&self, place: usize) -> &str {
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin..self.ends[place]]
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        let mut begin = 0;
        self.ends.iter().map(move |end| &self.text[mem::replace(&mut begin, *end)..*end])
    }
}
