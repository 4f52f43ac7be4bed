//! The program as its users start it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn demo(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cache-demo"));
    command.args(arguments).current_dir(folder).env("TMPDIR", folder);
    command
}

/// Held by those who look for keys on the server that the tests share.
static SERVER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

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
    // Without a redis-server, on whatever machine.
    let output = command(folder.path(), &SMALL).env("PATH", folder.path()).output().unwrap();
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
    for strategy in [
        "early-refresh",
        "stale-while-revalidate",
        "write-through",
        "write-behind",
        "write-behind-disk",
    ] {
        assert!(table.contains(&format!("{strategy} x memory")), "{strategy}");
    }
    assert!(table.contains("no-cache") && table.contains("cache-report.html"));
    assert!(progress.starts_with("Without Redis (redis-server: there is none on the PATH"));
    // One line for each scenario, and three before; nothing that only a terminal understands.
    assert_eq!(progress.lines().count(), 3 + 14);
    assert!(!progress.contains('\r'));
    // The database is gone.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_strategy_runs_on_a_redis_server_and_leaves_nothing_there() {
    let _alone = SERVER.lock().await;
    let url = cache_tests::redis::redis_url().await;
    let folder = TempDir::new().unwrap();
    let arguments =
        [&SMALL[..], &["--json", "--store", "redis-json,redis-postcard", "--redis", &url]].concat();
    let output = demo(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenarios = results["scenarios"].as_array().unwrap();
    // Those that read on both, the others on one.
    assert_eq!(scenarios.len(), 1 + 4 + 5);
    for scenario in scenarios {
        assert_eq!((&scenario["requests"], &scenario["stale_reads"]), (&300.into(), &0.into()));
    }
    let mut client = cache_tests::redis::foreign(&url).await;
    let mut keys = redis::cmd("KEYS");
    let left: Vec<String> = keys.arg("cache-demo-*").query_async(&mut client).await.unwrap();
    assert_eq!(left, [""; 0]);
}

/// A program called `redis-server` that never answers, and writes down its number.
#[cfg(unix)]
#[test]
fn the_server_that_the_job_starts_ends_with_it() {
    use std::os::unix::fs::PermissionsExt;

    let folder = TempDir::new().unwrap();
    let server = folder.path().join("redis-server");
    let code = "#!/bin/sh\n[ \"$1\" = --version ] || { echo $$ >id.part; mv id.part id; exec sleep 600; }\n";
    fs::write(&server, code).unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    for signal in ["-INT", "-KILL"] {
        let mut job = command(folder.path(), &SMALL).env("PATH", &path).spawn().unwrap();
        let id = eventually(|| fs::read_to_string(folder.path().join("id")).ok());
        let kill = |arguments: &[&str]| {
            let output = Command::new("kill").args(arguments).output().unwrap();
            output.status.success()
        };
        assert!(kill(&["-0", id.trim()]));
        assert!(kill(&[signal, &job.id().to_string()]));
        assert!(!job.wait().unwrap().success());
        eventually(|| (!kill(&["-0", id.trim()])).then_some(()));
        fs::remove_file(folder.path().join("id")).unwrap();
    }
}

#[cfg(unix)]
fn eventually<T>(mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = found() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never");
}

#[test]
fn json_is_all_that_is_printed_on_standard_output() {
    let folder = TempDir::new().unwrap();
    let arguments =
        [&SMALL[..], &["--json", "--strategy", "no-cache,cache-aside", "--store", "moka"]].concat();
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
        assert_eq!((&scenario["requests"], &scenario["stale_reads"]), (&300.into(), &0.into()));
    }
}

#[test]
fn a_trace_is_replayed_once_from_its_beginning_to_its_end() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.csv"), "time,op,key\n1,r,x\n2,w,x\n3,r,y\nbad\n4,r,x\n")
        .unwrap();
    let arguments =
        ["--trace", "a.csv", "--strategy", "read-through", "--store", "memory", "--json"];
    let output = demo(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Skipped 1 bad line (5: too few columns)"));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenario = &results["scenarios"][0];
    assert_eq!((&scenario["requests"], &scenario["source_writes"]), (&4.into(), &1.into()));
}

#[test]
fn bad_input_ends_with_one_plain_line() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["--redis", "redis://:secret@127.0.0.1:1", "--store", "redis-json"], "--redis: "),
        (&["--trace", "none"], "none: No such file"),
        (&["--trace", "empty"], "empty: has no requests in it"),
        (&["--trace", "."], ".: is a folder"),
        (
            &["--store", "disk"],
            "possible values: memory, moka, json, postcard, redis-json, redis-postcard",
        ),
        (&["--strategy", "magic"], "possible values: no-cache, cache-aside, read-through"),
        (&["--ttl", "0s"], "a lifetime can't be zero"),
        (&["--report", "none/report.html"], "none/report.html: No such file"),
    ];
    for (arguments, message) in cases {
        let output = demo(folder.path(), arguments);
        let error = text(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(error.starts_with("cache-demo: ") && error.contains(message), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // Nothing is left behind but what was there.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_storm_shows_who_waits_and_what_is_stale() {
    let folder = TempDir::new().unwrap();
    let arguments = ["storm", "--seconds", "1.2", "--ttl", "800ms", "--source-delay", "50ms"];
    let output = demo(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let row = |way: &str| {
        let row = table.lines().find(|line| line.starts_with(&format!("{way} "))).unwrap();
        let number = |at| row.split_whitespace().nth(at).unwrap().replace(',', "");
        // Who waited, and the stale reads in the last column.
        let last = row.split_whitespace().count() - 1;
        [number(2), number(last)].map(|number: String| number.parse::<u64>().unwrap())
    };
    let [waited, stale] = row("read-through");
    assert!(waited > 0 && stale == 0, "{table}");
    assert_eq!(row("early-refresh")[1], 0, "{table}");
    let [_, stale] = row("stale-while-revalidate");
    assert!(stale > 0, "{table}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_child_that_is_killed_in_the_middle_of_writing_behind_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let output = demo(folder.path(), &["crash", "--rounds", "3"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert_eq!(table.lines().filter(|line| line.ends_with("         0")).count(), 3, "{table}");
    assert!(table.contains("Every acknowledged write was in SQLite"), "{table}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_reads_from_its_memory_what_another_has_changed() {
    let _alone = SERVER.lock().await;
    let url = cache_tests::redis::redis_url().await;
    for by in ["bus", "tracking", "tracking-by-key"] {
        let folder = TempDir::new().unwrap();
        let arguments =
            ["tiered", "--processes", "2", "--seconds", "1", "--by", by, "--redis", &url];
        let output = demo(folder.path(), &arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let table = text(&output.stdout);
        assert_eq!(
            table.lines().filter(|line| line.ends_with("          0")).count(),
            2,
            "{table}"
        );
        assert!(table.contains("No read was stale beyond the declared bound."), "{table}");
        for process in table.lines().skip(1).take(2) {
            let [_, reads, near, copies] =
                process.split_whitespace().take(4).collect::<Vec<_>>()[..]
            else {
                panic!("{table}");
            };
            let [reads, near, copies] =
                [reads, near, copies].map(|n| n.parse::<u64>().expect("a number"));
            // Otherwise it says nothing that nothing in memory was stale.
            assert!(copies > 0 && near > 0 && near < reads, "{table}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut client = cache_tests::redis::foreign(&url).await;
        let mut keys = redis::cmd("KEYS");
        let left: Vec<String> = keys.arg("cache-demo-*").query_async(&mut client).await.unwrap();
        assert_eq!(left, [""; 0]);
    }
}
