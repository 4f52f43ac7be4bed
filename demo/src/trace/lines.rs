//! Lines, or four-byte records, of bounded length.

use std::io::{self, BufRead, Read};

/// Longer lines are skipped.
const LONGEST: usize = 8 * 1024;
/// The length of a binary record.
const RECORD: usize = 4;

/// Reads an input line by line, or record by record.
pub(super) struct Lines<R> {
    input: R,
    binary: bool,
    number: u64,
    line: Vec<u8>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Without its end.
    Whole(&'a [u8]),
    TooLong,
    /// The input ends within a record.
    Incomplete,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, binary: bool) -> Self {
        Self {
            input,
            binary,
            number: 0,
            line: Vec::new(),
        }
    }

    /// The next line and its number, counted from 1; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.line.clear();
        self.number += 1;
        let number = self.number;
        let line = if self.binary {
            self.record()?
        } else {
            self.text()?
        };
        Ok(line.map(|line| (number, line)))
    }

    fn record(&mut self) -> io::Result<Option<Line<'_>>> {
        let read = self
            .input
            .by_ref()
            .take(RECORD as u64)
            .read_to_end(&mut self.line)?;
        Ok(match read {
            0 => None,
            RECORD => Some(Line::Whole(&self.line)),
            _ => Some(Line::Incomplete),
        })
    }

    fn text(&mut self) -> io::Result<Option<Line<'_>>> {
        let limit = LONGEST as u64 + 1;
        let read = self
            .input
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        if read > LONGEST && self.line.last() != Some(&b'\n') {
            self.input.skip_until(b'\n')?;
            return Ok(Some(Line::TooLong));
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        Ok(Some(Line::Whole(line.strip_suffix(b"\r").unwrap_or(line))))
    }
}
