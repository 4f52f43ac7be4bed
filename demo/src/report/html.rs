//! The page: one file that needs nothing from elsewhere.

use super::chart::{Bar, Line, Range, bars, lines, ranges};
use super::figures::{figures, table};
use super::{Report, count, micros};
use crate::measure::Outcome;

const STYLE: &str = include_str!("style.css");

/// How the figures come about.
const NOTES: [&str; 7] = [
    "All scenarios get the same requests in the same order. Each client sends its next request when the last one is \
     answered, so a faster cache gets further in the same time.",
    "The source is a real SQLite database on disk, asked through four reading connections and one that writes. Every \
     answer takes longer by the source delay given below, which stands for the network to a database server; without \
     it the source would seem faster than it is in a service.",
    "A read is stale if it returns a version older than one whose write had been acknowledged, in SQLite and to the \
     cache, before the read began. Every read is checked.",
    "The hit rate is the share of gets that the cache answered without a load; that there is no such product counts \
     as an answer.",
    "Most loads of one key is how many loads of one product went on in the source at the same time. More than one is \
     a stampede: the same work done several times, just when the source is busiest. A load that a write has overtaken \
     is not counted, since its value may be an old one and another load has to begin; a 2 can \
     remain where a load was overtaken just before it reached the source.",
    "A get is timed around the call, with the allocation of one boxed future that all scenarios share. Times of hits \
     are taken while all clients share this machine's processors.",
    "memory and moka hold values as they are; json and postcard hold bytes, as a store in another process must, and \
     decode them on each hit.",
];

/// The report as HTML.
pub(crate) fn page(report: &Report) -> String {
    let outcomes = &report.scenarios;
    let colours = colours(outcomes);
    let bar = |value: fn(&Outcome) -> Option<f64>, text: fn(&Outcome) -> String| -> Vec<Bar> {
        let bar = |(outcome, &colour): (&Outcome, &usize)| Bar {
            label: outcome.name(),
            colour,
            value: value(outcome),
            text: text(outcome),
        };
        outcomes.iter().zip(&colours).map(bar).collect()
    };
    let times: Vec<Range> = outcomes
        .iter()
        .zip(&colours)
        .map(|(outcome, &colour)| Range {
            label: outcome.name(),
            colour,
            from: outcome.get.p50_us,
            to: outcome.get.p99_us,
            text: format!(
                "{} to {}",
                micros(outcome.get.p50_us),
                micros(outcome.get.p99_us)
            ),
        })
        .collect();
    let charts = [
        (
            "Time of a get",
            "from the median (circle) to the 99th percentile (bar), logarithmic; shorter is better",
            ranges("Time of a get", &times, |power| {
                micros(power).replace(".0 ", " ")
            }),
        ),
        (
            "Source reads per 1,000 gets",
            "what is left for the database to do; less is better",
            bars(
                "Source reads per 1,000 gets",
                &bar(
                    |outcome| Some(outcome.source_reads_per_thousand()),
                    |outcome| format!("{:.0}", outcome.source_reads_per_thousand()),
                ),
            ),
        ),
        (
            "Requests per second",
            "of all clients together; more is better",
            bars(
                "Requests per second",
                &bar(
                    |outcome| Some(outcome.requests_per_second),
                    |outcome| count(outcome.requests_per_second as u64),
                ),
            ),
        ),
        (
            "Most loads of one key at once",
            "1 means that no load was ever made twice at the same time",
            bars(
                "Most loads of one key at once",
                &bar(
                    |outcome| Some(outcome.most_concurrent_loads_of_a_key as f64),
                    |outcome| outcome.most_concurrent_loads_of_a_key.to_string(),
                ),
            ),
        ),
    ]
    .map(|(title, note, chart)| section("", title, note, &chart))
    .concat();
    let cached = outcomes
        .iter()
        .zip(&colours)
        .filter(|(outcome, _)| outcome.cache.is_some());
    let rows: Vec<Line> = cached
        .map(|(outcome, &colour)| over_time(outcome, colour))
        .collect();
    let timeline = if rows.is_empty() {
        String::new()
    } else {
        let name = "Source reads per 1,000 requests, over time";
        let note = "all on one scale; it begins with an empty cache, and peaks are bursts of expiry and changes of \
                    what is popular";
        let chart = lines(name, &rows, "source reads per 1,000 requests");
        section(" class=\"wide\"", name, note, &chart)
    };
    let results = section(
        " class=\"wide\"",
        "All figures",
        "",
        &format!("<div class=\"scroll\">{}</div>", table(outcomes)),
    );
    let settings: String = report
        .settings
        .iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)))
        .collect();
    let settings = section(
        " class=\"wide\"",
        "Settings",
        "",
        &format!("<dl>{settings}</dl>"),
    );
    let notes: String = NOTES
        .iter()
        .map(|note| format!("<li>{}</li>", escape(note)))
        .collect();
    let notes = section(
        " class=\"wide\"",
        "How the figures come about",
        "",
        &format!("<ul>{notes}</ul>"),
    );
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>What a cache saves</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>What a cache saves</h1>\n<p class=\"dim\">{}</p>\n</header>\n\
         <div class=\"figures\">{}</div>\n<div class=\"charts\">{charts}</div>\n{timeline}\n{results}\n{settings}\n{notes}\n\
         </main>\n</body>\n</html>\n",
        escape(&report.workload),
        figures(outcomes)
    )
}

/// Text as it may stand in HTML and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in a page, and a file may have such a name.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// One colour for each strategy, in the order of their first row.
fn colours(outcomes: &[Outcome]) -> Vec<usize> {
    const COLOURS: usize = 8;
    let mut strategies = Vec::new();
    let mut colour = |outcome: &Outcome| {
        let strategy = outcome.scenario.strategy;
        strategies
            .iter()
            .position(|&known| known == strategy)
            .unwrap_or_else(|| {
                strategies.push(strategy);
                strategies.len() - 1
            })
            % COLOURS
    };
    outcomes.iter().map(&mut colour).collect()
}

fn section(class: &str, title: &str, note: &str, body: &str) -> String {
    let note = if note.is_empty() {
        String::new()
    } else {
        format!("<p class=\"dim\">{}</p>", escape(note))
    };
    format!(
        "<section{class}>\n<h2>{}</h2>{note}\n{body}\n</section>\n",
        escape(title)
    )
}

fn over_time(outcome: &Outcome, colour: usize) -> Line {
    let mut began = 0.0;
    let mut points = Vec::new();
    for slot in &outcome.timeline {
        let height = slot.source_reads as f64 * 1_000.0 / slot.requests.max(1) as f64;
        points.push(((began + slot.until_seconds) / 2.0, height));
        began = slot.until_seconds;
    }
    Line {
        label: outcome.name(),
        colour,
        points,
    }
}
