//! The program as its users start it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn demo(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cache-demo"))
        .args(arguments)
        .current_dir(folder)
        .env("TMPDIR", folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const SMALL: [&str; 10] = [
    "--requests",
    "300",
    "--products",
    "100",
    "--clients",
    "8",
    "--seconds",
    "60",
    "--source-delay",
    "0s",
];

#[test]
fn the_main_job_ends_with_a_table_and_a_report() {
    let folder = TempDir::new().unwrap();
    let output = demo(folder.path(), &SMALL);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (table, progress) = (text(&output.stdout), text(&output.stderr));
    let page = fs::read_to_string(folder.path().join("cache-report.html")).unwrap();
    for strategy in ["cache-aside", "read-through"] {
        for store in ["memory", "moka", "json", "postcard"] {
            let name = format!("{strategy} x {store}");
            assert!(
                table.contains(&name) && page.contains(&name) && progress.contains(&name),
                "{name}"
            );
        }
    }
    assert!(table.contains("no-cache") && table.contains("cache-report.html"));
    // One line for each scenario, and two before; nothing that only a terminal understands.
    assert_eq!(progress.lines().count(), 2 + 9);
    assert!(!progress.contains('\r'));
    // The database is gone.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn json_is_all_that_is_printed_on_standard_output() {
    let folder = TempDir::new().unwrap();
    let arguments = [
        &SMALL[..],
        &[
            "--json",
            "--strategy",
            "no-cache,cache-aside",
            "--store",
            "moka",
        ],
    ]
    .concat();
    let output = demo(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenarios = results["scenarios"].as_array().unwrap();
    assert_eq!(scenarios.len(), 2);
    assert_eq!(
        (&scenarios[0]["strategy"], &scenarios[0]["store"]),
        (&"no-cache".into(), &().into())
    );
    assert_eq!(
        (&scenarios[1]["strategy"], &scenarios[1]["store"]),
        (&"cache-aside".into(), &"moka".into())
    );
    for scenario in scenarios {
        assert_eq!(
            (&scenario["requests"], &scenario["stale_reads"]),
            (&300.into(), &0.into())
        );
    }
}

#[test]
fn a_trace_is_replayed_once_from_its_beginning_to_its_end() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("a.csv"),
        "time,op,key\n1,r,x\n2,w,x\n3,r,y\nbad\n4,r,x\n",
    )
    .unwrap();
    let arguments = [
        "--trace",
        "a.csv",
        "--strategy",
        "read-through",
        "--store",
        "memory",
        "--json",
    ];
    let output = demo(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Skipped 1 bad line (5: too few columns)"));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenario = &results["scenarios"][0];
    assert_eq!(
        (&scenario["requests"], &scenario["source_writes"]),
        (&4.into(), &1.into())
    );
}

#[test]
fn bad_input_ends_with_one_plain_line() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&["--trace", "none"], "none: No such file"),
        (&["--trace", "empty"], "empty: has no requests in it"),
        (&["--trace", "."], ".: is a folder"),
        (
            &["--store", "disk"],
            "possible values: memory, moka, json, postcard",
        ),
        (
            &["--strategy", "magic"],
            "possible values: no-cache, cache-aside, read-through",
        ),
        (&["--ttl", "0s"], "a lifetime can't be zero"),
        (
            &["--report", "none/report.html"],
            "none/report.html: No such file",
        ),
    ];
    for (arguments, message) in cases {
        let output = demo(folder.path(), arguments);
        let error = text(&output.stderr);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{arguments:?}"
        );
        assert!(
            error.starts_with("cache-demo: ") && error.contains(message),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // Nothing is left behind but what was there.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
