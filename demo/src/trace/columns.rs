//! CSV files: where the key and the operation are, and what they say.

use std::borrow::Cow;

use super::formats::Parsed;

/// Where a CSV file has its key and its operation.
pub(super) struct Columns {
    delimiter: u8,
    key: usize,
    operation: Option<usize>,
    /// Whether the next line is the header.
    header: bool,
    fields: Fields,
}

impl Columns {
    /// By the header, or by the only known layout without one.
    pub(super) fn recognise(first: &[u8]) -> Option<Self> {
        let count = |byte| first.iter().filter(|&&b| b == byte).count();
        let delimiter = *b",;\t".iter().rev().max_by_key(|&&byte| count(byte))?;
        let mut fields = Fields::default();
        fields
            .split(
                first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first),
                delimiter,
            )
            .ok()?;
        let names: Vec<String> = fields
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_lowercase())
            .collect();
        let find = |known: &[&str]| {
            known
                .iter()
                .find_map(|known| names.iter().position(|name| name == known))
        };
        if let Some(key) = find(&["key", "lbn", "block", "id", "obj_id", "url", "path"]) {
            let operation = find(&["op", "operation", "command", "method"]);
            return Some(Self {
                delimiter,
                key,
                operation,
                header: true,
                fields,
            });
        }
        // Published memcached traces have these columns and no header: time, key, key size, value
        // size, client, operation, lifetime.
        if names.len() == 7 && is_write(names[5].as_bytes()).is_some() {
            return Some(Self {
                delimiter,
                key: 1,
                operation: Some(5),
                header: false,
                fields,
            });
        }
        None
    }

    pub(super) fn parse<'a>(&mut self, line: &[u8]) -> Parsed<'a> {
        if std::mem::take(&mut self.header) {
            return Ok(None);
        }
        self.fields.split(line, self.delimiter)?;
        let key = self
            .fields
            .get(self.key)
            .ok_or("too few columns")?
            .trim_ascii();
        if key.is_empty() {
            return Err("no key");
        }
        let write = match self.operation {
            None => false,
            Some(column) => {
                let operation = self.fields.get(column).ok_or("too few columns")?;
                is_write(operation).ok_or("unknown operation")?
            }
        };
        Ok(Some((Cow::Owned(key.to_vec()), write)))
    }
}

/// The fields of one line, unquoted.
#[derive(Default)]
struct Fields {
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Fields {
    fn split(&mut self, line: &[u8], delimiter: u8) -> Result<(), &'static str> {
        const MOST: usize = 128;
        self.text.resize(line.len() + 1, 0);
        self.ends.resize(MOST, 0);
        self.count = 0;
        let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        let (mut text, mut ends) = (self.text.as_mut_slice(), self.ends.as_mut_slice());
        // The second, empty input says that the line is over.
        for input in [line, &[]] {
            let (result, _, written, found) = reader.read_record(input, text, ends);
            match result {
                csv_core::ReadRecordResult::OutputEndsFull => return Err("too many columns"),
                csv_core::ReadRecordResult::OutputFull => return Err("too long"),
                _ => {}
            }
            self.count += found;
            (text, ends) = (&mut text[written..], &mut ends[found..]);
        }
        Ok(())
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends[..self.count].get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).filter_map(|index| self.get(index))
    }
}

/// Operations of caches, of HTTP and of files, and the SCSI commands READ and WRITE (6, 10, 12, 16)
/// in hexadecimal.
fn is_write(operation: &[u8]) -> Option<bool> {
    let lower = operation.trim_ascii().to_ascii_lowercase();
    Some(match lower.strip_prefix(b"0x").unwrap_or(&lower) {
        b"r" | b"read" | b"get" | b"gets" | b"get_lease" | b"mget" | b"head" | b"08" | b"28"
        | b"a8" | b"88" => false,
        b"w" | b"write" | b"set" | b"set_lease" | b"add" | b"replace" | b"cas" | b"append"
        | b"prepend" | b"incr" | b"decr" | b"delete" | b"del" | b"put" | b"post" | b"patch"
        | b"update" | b"insert" | b"0a" | b"2a" | b"aa" | b"8a" => true,
        _ => return None,
    })
}
