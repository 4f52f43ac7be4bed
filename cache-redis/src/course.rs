//! How far a scan may go.

use cache_core::{Error, ErrorKind, Result};

/// How many keys the server looks at for one page.
pub(crate) const STEP: u64 = 1000;

/// After so many pages each the server is asked how many keys it has.
const PAGES_BETWEEN_QUESTIONS: u64 = 1000;

/// However few keys there are, a scan may take so many pages: it passes 10,000 empty places with each, and the table of a
/// server that had a billion keys a moment ago is still as long.
const FREE_PAGES: u64 = 100_000;

/// For each so many keys it may take one more: ten times as many as it needs.
const KEYS_OF_A_PAGE: u64 = STEP / 10;

/// No Redis holds more, so one that says so is not believed.
const MOST_KEYS: u64 = 1 << 32;

/// The course of a scan: nobody but the server says when it is over, and a server that is broken, or means harm, may
/// never say so.
///
/// A cursor is all that a server knows of a scan, so one that comes again is that of a scan which goes round in a circle. No
/// sound one does: a cursor says how far the scan has come in the server's table, and read with its bits in reverse it only
/// grows, whatever is written meanwhile, and also if the table grows or shrinks. In a cluster it does so in one slot after the other.
///
/// A table that grows makes what is left of the way longer, but no longer than the way through the largest table
/// that it becomes. So the pages are held against the most keys that there have been.
pub(crate) struct Course {
    pages: u64,
    /// A cursor that is looked out for; whichever was the last when the pages doubled. So no circle escapes, and all
    /// of them need not be remembered.
    mark: Vec<u8>,
    mark_at: u64,
    most_keys: u64,
}

impl Course {
    pub(crate) fn new() -> Self {
        Self { pages: 0, mark: Vec::new(), mark_at: 1, most_keys: 0 }
    }

    /// Whether it is time to ask how many keys there are.
    pub(crate) fn asks_for_keys(&self) -> bool {
        self.pages > 0 && self.pages.is_multiple_of(PAGES_BETWEEN_QUESTIONS)
    }

    /// What the server said then. It has fewer later, if only because they are being removed.
    pub(crate) fn keys(&mut self, keys: u64) {
        self.most_keys = self.most_keys.max(keys.min(MOST_KEYS));
    }

    /// Goes on behind a page, to the one at `next`.
    pub(crate) fn goes_on(&mut self, next: &[u8]) -> Result<()> {
        self.pages += 1;
        let (pages, keys) = (self.pages, self.most_keys);
        if next == self.mark {
            return Err(endless(format!("it is where it was before, after {pages} pages")));
        }
        if pages > FREE_PAGES + keys / KEYS_OF_A_PAGE {
            return Err(endless(format!(
                "{pages} pages, and by its own account {keys} keys at most"
            )));
        }
        if self.pages == self.mark_at {
            self.mark = next.to_vec();
            self.mark_at *= 2;
        }
        Ok(())
    }
}

/// Not [`Unavailable`](ErrorKind::Unavailable), for which it would be begun again and again.
fn endless(why: String) -> Error {
    Error::with_cause(
        ErrorKind::Store,
        format!("the server's scan of its keys does not end: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a server goes on from a cursor in a table of this size, as Redis does.
    fn next(cursor: u64, size: u64) -> u64 {
        let unused = !(size - 1);
        (cursor | unused).reverse_bits().wrapping_add(1).reverse_bits()
    }

    /// The pages of a scan that begins in a table of this size, which has another one after each page.
    fn scan(mut size: u64, mut then: impl FnMut(u64, u64) -> u64) -> Result<u64> {
        let (mut course, mut cursor) = (Course::new(), 0);
        loop {
            if course.asks_for_keys() {
                course.keys(size);
            }
            for _ in 0..STEP {
                cursor = next(cursor, size);
                if cursor == 0 {
                    return Ok(course.pages);
                }
            }
            course.goes_on(cursor.to_string().as_bytes())?;
            size = then(size, course.pages);
        }
    }

    #[test]
    fn a_scan_of_a_table_that_grows_and_shrinks_comes_to_its_end() {
        const MILLION: u64 = 1 << 20;
        assert_eq!(scan(MILLION, |size, _| size).ok(), Some(MILLION / STEP));
        let grows =
            |size: u64, pages| if pages % 100 == 0 { (2 * size).min(1 << 24) } else { size };
        assert!(scan(1 << 17, grows).expect("it ends") > (1 << 17) / STEP);
        let shrinks = |size: u64, pages| if pages % 100 == 0 { (size / 2).max(4) } else { size };
        scan(1 << 24, shrinks).expect("it ends");
        let random = |_, _| 1 << fastrand::u32(10..24);
        for _ in 0..100 {
            scan(MILLION, random).expect("it ends");
        }
    }

    #[test]
    fn a_circle_is_noticed_wherever_it_begins_and_however_long_it_is() {
        for (begin, length) in
            [(0, 1), (0, 2), (1, 1), (7, 3), (100, 1), (100, 1000), (999, 20_000)]
        {
            let mut course = Course::new();
            let cursors = (1..=begin).chain((begin + 1..=begin + length).cycle());
            let mut cursors = cursors.map(|cursor: u64| cursor.to_string());
            let noticed = cursors.find_map(|cursor| course.goes_on(cursor.as_bytes()).err());
            let noticed = noticed.expect("it is endless").to_string();
            assert!(noticed.contains("where it was before"), "{begin}, {length}: {noticed}");
            assert!(course.pages <= 4 * (begin + length), "{begin}, {length}: {}", course.pages);
        }
    }

    #[test]
    fn a_scan_has_more_pages_the_more_keys_there_are_but_not_for_ever() {
        for (keys, pages) in
            [(0, 100_000), (1_000_000_000, 10_100_000), (u64::MAX, 100_000 + MOST_KEYS / 100)]
        {
            let mut course = Course::new();
            course.keys(keys);
            // They are being removed.
            course.keys(0);
            course.pages = pages - 1;
            course.goes_on(b"1").expect("it may go on");
            let error = course.goes_on(b"2").expect_err("it is endless");
            assert_eq!(error.kind(), ErrorKind::Store);
        }
    }
}
