use super::*;
use crate::caches::{Scenario, Store, Strategy};
use crate::measure::{Counts, Durations, Slot};

fn outcome(strategy: Strategy, store: Option<Store>) -> Outcome {
    let cache = store.map(|_| Counts {
        hits: 900,
        misses: 100,
        loads: 80,
        past_lifetime: 0,
        coalesced: 20,
        refused_fills: 1,
    });
    let durations = Durations { count: 1_000, p50_us: 0.4, p99_us: 2_500.0, max_us: 3e6 };
    Outcome {
        scenario: Scenario { strategy, store },
        seconds: 1.5,
        requests: 1_234_567,
        requests_per_second: 823_044.7,
        cache,
        hit_rate: cache.and_then(|cache| cache.hit_rate()),
        source_reads: 80,
        source_writes: 50,
        most_concurrent_loads_of_a_key: 1,
        stale_reads: 0,
        errors: 0,
        first_error: None,
        get: durations,
        write: durations,
        timeline: vec![
            Slot { until_seconds: 0.5, requests: 600_000, source_reads: 60 },
            Slot { until_seconds: 1.5, requests: 634_567, source_reads: 20 },
        ],
    }
}

fn report() -> Report {
    let strategies = [Strategy::NoCache, Strategy::CacheAside, Strategy::ReadThrough];
    let scenarios = Scenario::all(&strategies, &[Store::Memory, Store::Json]);
    Report {
        workload: "Replayed from <script>alert('x')</script> & \"more\"\u{7}".to_owned(),
        settings: vec![("Clients", "64".to_owned())],
        scenarios: scenarios.iter().map(|s| outcome(s.strategy, s.store)).collect(),
    }
}

/// Every element that is opened is closed, in order.
fn assert_well_formed(page: &str) {
    let body = page.strip_prefix("<!doctype html>").unwrap();
    let mut open: Vec<&str> = Vec::new();
    for part in body.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        assert!(part.contains('>'), "no end: <{part}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') && !["meta", "br"].contains(&name) {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes: <{tag}>");
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn the_page_is_well_formed_and_shows_every_scenario() {
    let report = report();
    let page = page(&report);
    assert_well_formed(&page);
    for outcome in &report.scenarios {
        let name = outcome.name();
        assert!(page.matches(&format!(">{name}<")).count() >= 5, "{name}");
    }
    assert!(page.contains("<svg") && page.contains("90.0 %") && page.contains("1,234,567"));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page(&report());
    for foreign in
        ["http:", "https:", "src=", "href", "url(", "@import", "<script", "<link", "<img"]
    {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn what_a_file_is_called_can_not_break_the_page() {
    let page = page(&report());
    assert!(page.contains(
        "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;more&quot;\u{fffd}"
    ));
}

#[test]
fn a_page_of_runs_in_which_nothing_happened_is_well_formed() {
    let nothing = Durations { count: 0, p50_us: 0.0, p99_us: 0.0, max_us: 0.0 };
    let mut report = report();
    for outcome in &mut report.scenarios {
        (outcome.requests, outcome.source_reads, outcome.requests_per_second) = (0, 0, 0.0);
        (outcome.get, outcome.write) = (nothing, nothing);
        outcome.timeline.clear();
    }
    let page = page(&report);
    assert_well_formed(&page);
    assert!(!page.contains("NaN") && !page.contains("inf"));
    report.scenarios.clear();
    assert_well_formed(&super::page(&report));
}

#[test]
fn the_table_is_aligned_and_has_a_row_for_every_scenario() {
    let report = report();
    let table = table(&report.scenarios);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3 + report.scenarios.len());
    let width = lines[2].len();
    assert!(lines.iter().all(|line| line.chars().count() <= width));
    assert!(lines[3].starts_with("no-cache") && lines[4].starts_with("cache-aside x memory"));
    assert!(
        lines[4].contains("90.0 %") && lines[4].contains("400 ns") && lines[4].contains("2.5 ms")
    );
}

#[test]
fn stale_reads_and_errors_are_failures() {
    let mut report = report();
    assert_eq!(report.failures(), None);
    report.scenarios[1].stale_reads = 3;
    assert_eq!(report.failures().unwrap(), "3 reads were stale");
    report.scenarios[2].errors = 2;
    report.scenarios[2].first_error = Some("SQLite: gone".to_owned());
    assert_eq!(
        report.failures().unwrap(),
        "3 reads were stale; 2 requests failed, the first with: SQLite: gone"
    );
}

#[test]
fn numbers_are_spelled_for_people() {
    assert_eq!(
        [count(0), count(999), count(1_000), count(1_234_567)],
        ["0", "999", "1,000", "1,234,567"]
    );
    let times = [0.25, 1.24, 99.6, 1_500.0, 2_000_000.0].map(micros);
    assert_eq!(times, ["250 ns", "1.2 µs", "100 µs", "1.5 ms", "2.0 s"]);
}
