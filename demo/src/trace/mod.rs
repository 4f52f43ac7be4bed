//! Recorded input: requests read from a file, whatever its format and compression.

mod bad;
mod columns;
mod compression;
mod formats;
mod lines;

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use bad::Bad;
use compression::Compression;
pub(crate) use formats::Format;

use crate::failure::{Failure, Result};
use crate::workload::Request;
use formats::Parser;
use lines::{Line, Lines};

/// How much of the file decides about its format.
const SAMPLE: usize = 16 * 1024;
/// A file may hold so many bytes and lines for each request that is wanted, and some more: a small one can be
/// decompressed into terabytes of nothing.
const BYTES_A_REQUEST: u64 = 1024;
const BYTES_MORE: u64 = 64 * 1024 * 1024;
const LINES_A_REQUEST: u64 = 8;
const LINES_MORE: u64 = 100_000;

/// The requests of a file. Every key is the product of the same number, in the order of their first
/// request.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Twice the id, and one more for a write.
    requests: Vec<u32>,
    keys: u64,
    name: String,
    format: Format,
    compression: Compression,
    bad: Bad,
    /// Whether the file goes on after the last request that was taken.
    cut: bool,
    /// Why the file could not be read to its end.
    broken: Option<String>,
}

impl Trace {
    /// Reads up to `limit` requests. The format is recognised unless it is given.
    ///
    /// Memory is bounded by `limit` alone: the file is streamed, long lines are bad lines, and of a key
    /// only a hash is kept.
    pub(crate) fn read(path: &Path, format: Option<Format>, limit: u64) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| Failure::new(&name, e))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(Failure::new(&name, "is a folder, not a trace"));
        }
        let (compression, mut input) =
            compression::open(BufReader::new(file)).map_err(|e| Failure::new(&name, e))?;
        let sample = sample(&mut input).map_err(|e| Failure::new(&name, e))?;
        let mut parser = match format {
            Some(format) => Parser::new(format, &sample),
            None => Parser::detect(&sample),
        }
        .map_err(|e| Failure::new(&name, e))?;
        let format = parser.format();
        let left = limit
            .saturating_mul(BYTES_A_REQUEST)
            .saturating_add(BYTES_MORE);
        let input = BufReader::new(Bounded {
            input: sample.as_slice().chain(input),
            left,
        });

        let mut trace = Self {
            requests: Vec::new(),
            keys: 0,
            name,
            format,
            compression,
            bad: Bad::default(),
            cut: false,
            broken: None,
        };
        trace.take(
            Lines::new(input, format == Format::Binary),
            &mut parser,
            limit,
        );
        if trace.requests.is_empty() {
            return Err(Failure::new(&trace.name, trace.no_request()));
        }
        Ok(trace)
    }

    fn take(&mut self, mut lines: Lines<impl BufRead>, parser: &mut Parser, limit: u64) {
        let mut ids: HashMap<u64, u32> = HashMap::new();
        let most_lines = limit
            .saturating_mul(LINES_A_REQUEST)
            .saturating_add(LINES_MORE);
        loop {
            let (number, parsed) = match lines.next() {
                Ok(Some((number, Line::Whole(line)))) => (number, parser.parse(line)),
                Ok(Some((number, Line::TooLong))) => (number, Err("too long")),
                Ok(Some((number, Line::Incomplete))) => (number, Err("cut off")),
                Ok(None) => return,
                Err(error) => {
                    self.broken = Some(error.to_string());
                    return;
                }
            };
            if number > most_lines {
                self.broken = Some("it has far more lines than requests".to_owned());
                return;
            }
            match parsed {
                Ok(None) => {}
                Ok(Some((key, write))) => {
                    if self.requests.len() as u64 == limit {
                        self.cut = true;
                        return;
                    }
                    let new = ids.len() as u32;
                    let id = *ids.entry(hash(&key)).or_insert(new);
                    self.requests.push(id << 1 | u32::from(write));
                    self.keys = ids.len() as u64;
                }
                Err(why) => self.bad.add(number, why),
            }
        }
    }

    fn no_request(&self) -> String {
        match (&self.broken, self.bad.count) {
            (Some(broken), _) => format!("can't be read ({}): {broken}", self.compression),
            (None, 0) => "has no requests in it".to_owned(),
            (None, _) => format!(
                "has no request in it, read as {}: {}",
                self.format,
                self.bad.describe()
            ),
        }
    }

    /// The n-th request.
    pub(crate) fn request(&self, n: u64) -> Option<Request> {
        let packed = *self.requests.get(usize::try_from(n).ok()?)?;
        Some(Request {
            id: u64::from(packed >> 1),
            write: packed & 1 == 1,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.requests.len() as u64
    }

    pub(crate) fn distinct_keys(&self) -> u64 {
        self.keys
    }

    /// What was read, in sentences.
    pub(crate) fn describe(&self) -> String {
        let writes = self
            .requests
            .iter()
            .filter(|&packed| packed & 1 == 1)
            .count();
        let mut text = format!(
            "Replayed from {}: {}, {}; {} requests ({writes} writes) for {} keys",
            self.name,
            self.format,
            self.compression,
            self.len(),
            self.keys
        );
        text += if self.cut {
            ", cut there by --requests."
        } else {
            "."
        };
        if self.bad.count > 0 {
            text += &format!(" Skipped {}.", self.bad.describe());
        }
        if let Some(broken) = &self.broken {
            text += &format!(" The rest of the file can't be read: {broken}.");
        }
        text
    }
}

/// Fails when more is read than was allowed.
struct Bounded<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let too_much = || io::Error::other("it holds far more bytes than requests");
        self.left = self.left.checked_sub(read as u64).ok_or_else(too_much)?;
        Ok(read)
    }
}

fn sample(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut sample = Vec::with_capacity(SAMPLE);
    match input.take(SAMPLE as u64).read_to_end(&mut sample) {
        // What could be read is judged first; the error comes again behind it.
        Err(error) if sample.is_empty() => Err(error),
        _ => Ok(sample),
    }
}

/// Two keys with one hash become one product: no harm in a replay.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests;
