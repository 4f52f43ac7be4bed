//! Requests that were recorded elsewhere.

use std::fs::File;
use std::hash::BuildHasher;
use std::io::{BufReader, Read};
use std::path::Path;

use foldhash::quality::FixedState;
use lzma_rust2::XzReader;

/// At most so many requests of a trace are read.
const MOST: usize = 20_000_000;

/// What the columns of a table are called that has the keys, and that says what was done.
const KEY: [&str; 2] = ["key", "lbn"];
const OP: &str = "op";

/// What a write is called there: by caches, and by disks (the code of SCSI).
const WRITES: [&str; 6] = ["set", "set_lease", "delete", "write", "w", "2a"];

/// Public traces that are not part of this project, and whose they are.
const CITED: [&str; 3] = ["web07", "web12", "orm-busy"];
const CITE: &str = "The traces web07 and web12 (requests for the pages of products in a shop) and orm-busy (objects that an object-relational \
    mapper reads) are by headissue GmbH / Jens Wilke, CC BY 4.0. They are not part of this project.";

/// The keys of requests, in their order.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The name of the file.
    pub name: String,
    /// All keys.
    pub requests: Vec<u64>,
    /// Those that were written, if the trace tells.
    pub writes: Option<Vec<u64>>,
}

impl Trace {
    /// Reads a trace: big-endian 32-bit numbers; or a key in each line; or a table separated by commas, whose first line names
    /// the columns, one of them `key` or `lbn`. It may be compressed with xz.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn read(path: &str) -> Result<Self, String> {
        let bytes = contents(Path::new(path)).map_err(|e| format!("{path}: {e}"))?;
        let (requests, writes) = keys(&bytes);
        if requests.is_empty() {
            return Err(format!("{path}: has no requests in it"));
        }
        let name = Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy());
        Ok(Self { name: name.into_owned(), requests, writes })
    }
}

/// Whose the traces are, where that has to be said.
#[must_use]
pub fn cite(paths: &[String]) -> Option<String> {
    let cited = paths.iter().any(|path| CITED.iter().any(|name| path.contains(name)));
    cited.then(|| CITE.to_owned())
}

fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = BufReader::new(File::open(path)?);
    let mut bytes = Vec::new();
    let most = MOST as u64 * 4;
    if path.extension().is_some_and(|extension| extension == "xz") {
        XzReader::new(file, true).take(most).read_to_end(&mut bytes)?;
    } else {
        file.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn keys(bytes: &[u8]) -> (Vec<u64>, Option<Vec<u64>>) {
    if bytes.contains(&0) {
        let (numbers, _) = bytes.as_chunks::<4>();
        let number = |number: &[u8; 4]| u64::from(u32::from_be_bytes(*number));
        return (numbers.iter().map(number).collect(), None);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let hash = |key: &str| FixedState::default().hash_one(key);
    let columns: Vec<&str> = lines.clone().next().unwrap_or("").split(',').collect();
    let Some(key) = columns.iter().position(|column| KEY.contains(column)) else {
        return (lines.map(hash).collect(), None);
    };
    lines.next();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let key = |row: &Vec<&str>| row.get(key).copied().map(hash);
    let writes = columns.iter().position(|column| *column == OP).map(|op| {
        let is_write = |row: &&Vec<&str>| {
            row.get(op).is_some_and(|op| WRITES.contains(&op.to_lowercase().as_str()))
        };
        rows.iter().filter(is_write).filter_map(key).collect()
    });
    (rows.iter().filter_map(key).collect(), writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_its_writes_and_other_traces_do_not() {
        let (requests, writes) = keys(b"time,key,op\n1,a,GET\n2,b,SET\n3,a,DELETE\n");
        assert_eq!(writes, Some(vec![requests[1], requests[2]]));
        assert_eq!(requests[0], requests[2]);
        let (requests, writes) = keys(b"a\nb\r\na\n");
        assert!(requests.len() == 3 && requests[0] == requests[2] && writes.is_none());
        assert_eq!(keys(&[0, 0, 1, 2, 0, 0, 0, 3]), (vec![258, 3], None));
    }
}
