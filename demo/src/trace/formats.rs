//! What a line of a trace says, in each of the formats.

use std::borrow::Cow;
use std::fmt;

use clap::ValueEnum;

use super::columns::Columns;
use super::lines::{Line, Lines};

/// What a trace is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One key a line; all are reads.
    Keys,
    /// Columns with a header that names the key, and perhaps an operation.
    Csv,
    /// A web server's access log in the Common or Combined Log Format.
    Log,
    /// Big-endian signed 32-bit keys; all are reads.
    Binary,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "one key a line",
            Self::Csv => "CSV",
            Self::Log => "web server log",
            Self::Binary => "big-endian 32-bit keys",
        })
    }
}

/// A request as it is written: the key, and whether it is a write. `None` for a line that is none.
pub(super) type Parsed<'a> = Result<Option<(Cow<'a, [u8]>, bool)>, &'static str>;

/// Understands the lines of one trace.
pub(super) enum Parser {
    Keys,
    Csv(Columns),
    Log,
    Binary,
}

impl Parser {
    /// Recognises the format by the beginning of the content.
    pub(super) fn detect(sample: &[u8]) -> Result<Self, &'static str> {
        let control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b);
        if sample.iter().any(control) {
            return Ok(Self::Binary);
        }
        let mut first = None;
        let mut lines = Lines::new(sample, false);
        while let Ok(Some((_, Line::Whole(line)))) = lines.next() {
            if matches!(log(line), Ok(Some(_))) {
                return Ok(Self::Log);
            }
            if first.is_none() && !line.trim_ascii().is_empty() {
                first = Some(line.to_vec());
            }
        }
        let first = first.unwrap_or_default();
        match Columns::recognise(&first) {
            Some(columns) => Ok(Self::Csv(columns)),
            None if first.iter().filter(|&&byte| byte == b',').count() >= 2 => Err(NO_KEY_COLUMN),
            None => Ok(Self::Keys),
        }
    }

    /// The parser for a format that the user has named.
    pub(super) fn new(format: Format, sample: &[u8]) -> Result<Self, &'static str> {
        Ok(match format {
            Format::Keys => Self::Keys,
            Format::Log => Self::Log,
            Format::Binary => Self::Binary,
            Format::Csv => {
                let mut lines = sample.split(|&byte| byte == b'\n');
                let first = lines
                    .find(|line| !line.trim_ascii().is_empty())
                    .unwrap_or_default();
                Self::Csv(Columns::recognise(first.trim_ascii_end()).ok_or(NO_KEY_COLUMN)?)
            }
        })
    }

    pub(super) fn format(&self) -> Format {
        match self {
            Self::Keys => Format::Keys,
            Self::Csv(_) => Format::Csv,
            Self::Log => Format::Log,
            Self::Binary => Format::Binary,
        }
    }

    /// The request on this line.
    pub(super) fn parse<'a>(&mut self, line: &'a [u8]) -> Parsed<'a> {
        if !matches!(self, Self::Binary) && line.trim_ascii().is_empty() {
            return Ok(None);
        }
        match self {
            Self::Keys => Ok(Some((Cow::Borrowed(line.trim_ascii()), false))),
            Self::Csv(columns) => columns.parse(line),
            Self::Log => log(line),
            Self::Binary => Ok(Some((Cow::Borrowed(line), false))),
        }
    }
}

const NO_KEY_COLUMN: &str = "looks like CSV, but no column is called key, lbn, block, id, url or path \
                             (--trace-format keys takes whole lines for keys)";

/// `host ident user [time] "METHOD target HTTP/x" status bytes ...`
fn log(line: &[u8]) -> Parsed<'_> {
    let text = std::str::from_utf8(line).map_err(|_| "not text")?;
    let (before, rest) = text.split_once(" [").ok_or("no [time]")?;
    if before.split_whitespace().count() < 3 {
        return Err("no host, ident and user");
    }
    let (_, rest) = rest
        .split_once("] \"")
        .ok_or("no \"request\" after the time")?;
    // A quote within the request is written as \", so the first bare one ends it.
    let end = rest
        .match_indices('"')
        .find(|&(at, _)| !rest[..at].ends_with('\\'));
    let (request, rest) = rest.split_at(end.ok_or("the request has no end")?.0);
    let status = rest[1..].split_whitespace().next().unwrap_or_default();
    if status.len() != 3 || status.parse::<u16>().is_err() {
        return Err("no status");
    }
    let mut words = request.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    if method.is_empty()
        || !method.bytes().all(|byte| byte.is_ascii_uppercase())
        || target.is_empty()
    {
        return Err("not an HTTP request");
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let write = !matches!(method, "GET" | "HEAD");
    Ok(Some((Cow::Borrowed(path.as_bytes()), write)))
}
