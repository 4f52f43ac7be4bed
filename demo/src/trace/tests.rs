use std::io::Write as _;

use flate2::write::GzEncoder;
use rstest::rstest;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tempfile::NamedTempFile;

use super::bad::SHOWN;
use super::*;

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn read(content: impl AsRef<[u8]>) -> Result<Trace> {
    Trace::read(file(content.as_ref()).path(), None, 1_000)
}

/// Ids and whether they are written.
fn requests(trace: &Trace) -> Vec<(u64, bool)> {
    (0..trace.len())
        .map(|n| trace.request(n).unwrap())
        .map(|r| (r.id, r.write))
        .collect()
}

fn xz(content: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

const LOG: &str = r#"192.0.2.1 - - [12/Dec/2025:19:21:47 +0000] "GET /lamp?colour=red HTTP/1.1" 200 1043
192.0.2.2 - alice [12/Dec/2025:19:21:48 +0000] "POST /basket HTTP/2.0" 302 - "https://shop.example/" "Browser \"5\""
192.0.2.1 - - [12/Dec/2025:19:21:49 +0000] "HEAD /lamp HTTP/1.1" 200 0
"#;

#[test]
fn keys_are_numbered_in_the_order_of_their_first_request() {
    let trace = read("b\na\n\nb \r\nc").unwrap();
    assert_eq!(trace.format, Format::Keys);
    assert_eq!(
        requests(&trace),
        [(0, false), (1, false), (0, false), (2, false)]
    );
    assert_eq!((trace.distinct_keys(), trace.bad.count), (3, 0));
    assert_eq!(trace.request(4), None);
}

#[rstest]
#[case::time_op_key("time,op,key\n1,r,a\n2,w,a\n3,READ,b\n", &[(0, false), (0, true), (1, false)])]
#[case::blocks("version,time,op,size,lbn\n1,5,2a,512,7\n1,6,28,512,7\n", &[(0, true), (0, false)])]
#[case::commands("op_time,key,op\n1,k,GET\n1,k,SET\n1,k,DELETE\n1,k,GET_LEASE\n", &[(0, false), (0, true), (0, true), (0, false)])]
#[case::no_operations("Timestamp;Block\n1;7\n2;8\n", &[(0, false), (1, false)])]
#[case::quoted("key\top\n\"a\tb\"\tget\n", &[(0, false)])]
#[case::memcached_without_header("0,nz:u:1,9,0,3,get,0\n1,nz:u:1,9,8,3,set,60\n", &[(0, false), (0, true)])]
fn a_csv_file_is_read_by_the_names_of_its_columns(
    #[case] content: &str,
    #[case] expected: &[(u64, bool)],
) {
    let trace = read(content).unwrap();
    assert_eq!((trace.format, trace.bad.count), (Format::Csv, 0));
    assert_eq!(requests(&trace), expected);
}

#[test]
fn a_server_log_names_documents_without_their_query() {
    let trace = read(LOG).unwrap();
    assert_eq!((trace.format, trace.bad.count), (Format::Log, 0));
    assert_eq!(requests(&trace), [(0, false), (1, true), (0, false)]);
}

#[test]
fn binary_keys_are_told_from_text() {
    let keys = [7_i32, -1, 7, i32::MAX];
    let trace = read(keys.map(i32::to_be_bytes).concat()).unwrap();
    assert_eq!(trace.format, Format::Binary);
    assert_eq!(
        requests(&trace),
        [(0, false), (1, false), (0, false), (2, false)]
    );
}

#[rstest]
#[case::plain(<[u8]>::to_vec, Compression::Plain)]
#[case::gzip(gzip, Compression::Gzip)]
#[case::xz(xz, Compression::Xz)]
#[case::zstd(zstd, Compression::Zstd)]
fn every_format_is_read_in_every_compression(
    #[case] compress: impl Fn(&[u8]) -> Vec<u8>,
    #[case] compression: Compression,
) {
    let binary = [1_i32, 2, 1].map(i32::to_be_bytes).concat();
    let contents: [(&[u8], Format); 4] = [
        (b"x\ny\nx\n", Format::Keys),
        (b"key,op\nx,r\ny,r\nx,r\n", Format::Csv),
        (LOG.as_bytes(), Format::Log),
        (&binary, Format::Binary),
    ];
    for (content, format) in contents {
        let trace = read(compress(content)).unwrap();
        assert_eq!((trace.format, trace.compression), (format, compression));
        assert_eq!((trace.len(), trace.distinct_keys()), (3, 2));
    }
}

#[rstest]
#[case::gzip(gzip, Compression::Gzip)]
#[case::xz(xz, Compression::Xz)]
#[case::zstd(zstd, Compression::Zstd)]
fn joined_files_are_one_trace(
    #[case] compress: impl Fn(&[u8]) -> Vec<u8>,
    #[case] compression: Compression,
) {
    let trace = read([compress(b"a\nb\n"), compress(b"c\n")].concat()).unwrap();
    assert_eq!((trace.len(), trace.compression), (3, compression));
}

#[test]
fn frames_that_zstd_skips_are_skipped() {
    let skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc";
    let trace = read([skipped, zstd(b"a\nb\n").as_slice(), skipped].concat()).unwrap();
    assert_eq!((trace.len(), trace.compression), (2, Compression::Zstd));
}

#[test]
fn bad_lines_are_skipped_counted_and_reported_by_number() {
    let content = "time,op,key\n1,r,a\n2,jump,a\n3,r\n4,r,\n5,w,b\n";
    let trace = read(content).unwrap();
    assert_eq!(requests(&trace), [(0, false), (1, true)]);
    assert_eq!(trace.bad.count, 3);
    assert_eq!(
        trace.bad.first,
        [
            (3, "unknown operation"),
            (4, "too few columns"),
            (5, "no key")
        ]
    );
    assert!(
        trace
            .describe()
            .contains("3 bad lines (3: unknown operation, 4: too few columns, 5: no key)")
    );
}

#[test]
fn only_the_first_bad_lines_are_kept() {
    let lines = "nonsense\n".repeat(500) + LOG;
    let path = file(lines.as_bytes());
    let trace = Trace::read(path.path(), Some(Format::Log), 1_000).unwrap();
    assert_eq!(
        (trace.len(), trace.bad.count, trace.bad.first.len()),
        (3, 500, SHOWN)
    );
    assert!(trace.describe().contains("500 bad lines (1: no [time], 2:"));
}

#[rstest]
#[case::no_time("192.0.2.1 - - GET / 200 1", "no [time]")]
#[case::no_end("a - - [t] \"GET /x HTTP/1.1 200 1", "the request has no end")]
#[case::no_status("a - - [t] \"GET /x HTTP/1.1\" - 1", "no status")]
#[case::no_method("a - - [t] \"\\x16\\x03\\x01\" 400 226", "not an HTTP request")]
fn a_broken_log_line_is_a_bad_line(#[case] line: &str, #[case] why: &str) {
    let trace = read(format!("{LOG}{line}\n")).unwrap();
    assert_eq!((trace.len(), trace.bad.count), (3, 1));
    assert_eq!((trace.bad.first[0].0, trace.bad.first[0].1), (4, why));
}

#[test]
fn a_record_that_is_cut_off_is_a_bad_one() {
    let trace = read(b"\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00").unwrap();
    assert_eq!((trace.len(), trace.bad.first[0]), (2, (3, "cut off")));
}

#[test]
fn a_line_that_is_too_long_is_a_bad_one() {
    let long = "x".repeat(1_000_000);
    let trace = read(format!("a\n{long}\nb\n")).unwrap();
    assert_eq!((trace.len(), trace.bad.first[0]), (2, (2, "too long")));
}

#[rstest]
#[case::empty(b"", "has no requests in it")]
#[case::blank(b"\n\n\n", "has no requests in it")]
#[case::only_a_header(b"time,op,key\n", "has no requests in it")]
#[case::nothing_good(
    b"time,op,key\n1,jump,a\n",
    "no request in it, read as CSV: 1 bad line (2: unknown operation)"
)]
#[case::unknown_columns(b"a,b,c\n1,2,3\n", "no column is called key")]
#[case::bzip2(b"BZh91AY&SY", "compressed with bzip2")]
#[case::broken_gzip(b"\x1f\x8b\x08\x00nonsense", "deflate")]
#[case::broken_xz(b"\xfd7zXZ\x00nonsense and more of it", "")]
#[case::broken_zstd(b"\x28\xb5\x2f\xfdnonsense", "")]
fn a_file_without_one_request_is_an_error(#[case] content: &[u8], #[case] why: &str) {
    let error = read(content).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn a_missing_file_and_a_folder_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Trace::read(&folder.path().join("none"), None, 1).unwrap_err();
    assert!(missing.to_string().contains("none: "), "{missing}");
    let error = Trace::read(folder.path(), None, 1).unwrap_err();
    assert!(error.to_string().contains("is a folder"), "{error}");
}

#[test]
fn what_could_be_read_of_a_damaged_file_is_used() {
    let lines: String = (0..100_000)
        .map(|n: u64| format!("{}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let mut damaged = gzip(lines.as_bytes());
    damaged.truncate(damaged.len() / 2);
    let path = file(&damaged);
    let trace = Trace::read(path.path(), None, 1_000_000).unwrap();
    assert!(
        trace.len() > 1_000 && trace.len() < 99_000,
        "{}",
        trace.len()
    );
    assert!(
        trace
            .describe()
            .contains("The rest of the file can't be read"),
        "{}",
        trace.describe()
    );
}

#[test]
fn reading_stops_at_the_limit() {
    let path = file("a\nb\nc\n".as_bytes());
    let cut = Trace::read(path.path(), None, 2).unwrap();
    assert_eq!(cut.len(), 2);
    assert!(cut.describe().contains("cut there by --requests"));
    let whole = Trace::read(path.path(), None, 3).unwrap();
    assert!(!whole.describe().contains("cut there"));
}

#[test]
fn a_decompression_bomb_is_not_read_to_its_end() {
    // 200 MB of an endless line in 200 kB.
    let mut writer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(b"good\n").unwrap();
    for _ in 0..200 {
        writer.write_all(&[b'x'; 1_000_000]).unwrap();
    }
    let path = file(&writer.finish().unwrap());
    let trace = Trace::read(path.path(), None, 10).unwrap();
    assert_eq!(trace.len(), 1);
    assert!(
        trace.describe().contains("far more bytes than requests"),
        "{}",
        trace.describe()
    );
}

#[test]
fn a_file_of_nothing_but_empty_lines_is_not_read_to_its_end() {
    let path = file(&[b"good\n".as_slice(), &[b'\n'; 1_000_000]].concat());
    let trace = Trace::read(path.path(), None, 10).unwrap();
    assert_eq!(trace.len(), 1);
    assert!(
        trace.describe().contains("far more lines than requests"),
        "{}",
        trace.describe()
    );
}

#[test]
fn the_format_can_be_named() {
    let path = file(b"a,b,c\nd,e,f\n");
    let trace = Trace::read(path.path(), Some(Format::Keys), 10).unwrap();
    assert_eq!((trace.format, trace.len()), (Format::Keys, 2));
    let error = Trace::read(path.path(), Some(Format::Csv), 10).unwrap_err();
    assert!(
        error.to_string().contains("no column is called key"),
        "{error}"
    );
}
