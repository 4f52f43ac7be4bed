//! Compressed files, told by their first bytes and decoded as a stream.

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// A decoder may not take more memory than this, whatever the file claims to need: 128 MiB is what
/// the highest usual levels of xz and zstd ask for.
const MEMORY_KIB: u32 = 128 * 1024;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "not compressed",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// The content of a file. Nothing is decoded before it is read.
pub(super) fn open(mut file: impl BufRead + 'static) -> io::Result<(Compression, Box<dyn Read>)> {
    let start = file.fill_buf()?;
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        let message = format!("is {what}, which is not a trace (gzip, xz and zstd are read)");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(match start {
        [0x1f, 0x8b, ..] => (Compression::Gzip, Box::new(MultiGzDecoder::new(file))),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => (
            Compression::Xz,
            Box::new(XzReader::new_mem_limit(file, true, MEMORY_KIB)),
        ),
        // The second is a frame that is to be skipped; files of several frames may begin with one.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            (Compression::Zstd, Box::new(ZstdFrames::Between(file)))
        }
        _ => (Compression::Plain, Box::new(file)),
    })
}

/// Files that would pass for a trace of binary keys.
const FOREIGN: [(&[u8], &str); 9] = [
    (b"BZh", "compressed with bzip2"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"\x7fELF", "a program"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"%PDF", "a PDF"),
    (b"SQLite format 3\0", "a SQLite database"),
];

/// The frames of a zstd file, one after another: the decoder reads one.
enum ZstdFrames<R: Read> {
    Between(R),
    Within(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    Ended,
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            *self = match std::mem::replace(self, Self::Ended) {
                Self::Ended => return Ok(0),
                Self::Between(mut input) => {
                    if input.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    if skip_frame(&mut input)? {
                        Self::Between(input)
                    } else {
                        let limit = u64::from(MEMORY_KIB) * 1024;
                        let frame = StreamingDecoder::new_with_max_window_size(input, limit);
                        Self::Within(Box::new(frame.map_err(invalid)?))
                    }
                }
                Self::Within(mut frame) => {
                    let read = frame.read(buffer)?;
                    if read > 0 || buffer.is_empty() {
                        *self = Self::Within(frame);
                        return Ok(read);
                    }
                    Self::Between(frame.into_inner())
                }
            };
        }
    }
}

/// Passes over a frame that holds no content, if there is one.
fn skip_frame(input: &mut impl BufRead) -> io::Result<bool> {
    if !matches!(input.fill_buf()?, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
        return Ok(false);
    }
    let mut header = [0; 8];
    input.read_exact(&mut header)?;
    let [_, _, _, _, size @ ..] = header;
    let size = u64::from(u32::from_le_bytes(size));
    let skipped = io::copy(&mut input.by_ref().take(size), &mut io::sink())?;
    if skipped == size {
        Ok(true)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
