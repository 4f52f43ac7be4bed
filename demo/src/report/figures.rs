//! The figures of the page: the main ones, and all of them.

use super::html::escape;
use super::{count, micros, percent};
use crate::measure::{Counts, Outcome};

/// The main results in a few words: the fastest cache against none.
pub(super) fn figures(outcomes: &[Outcome]) -> String {
    let mut figures = Vec::new();
    let none = outcomes.iter().find(|outcome| outcome.cache.is_none());
    let best = outcomes
        .iter()
        .filter(|outcome| outcome.cache.is_some())
        .max_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second));
    if let (Some(none), Some(best)) = (none, best) {
        let fewer = none.source_reads_per_thousand() / best.source_reads_per_thousand().max(0.001);
        let name = best.name();
        figures.push((
            "",
            format!("{fewer:.1}x fewer"),
            format!("source reads for the same gets, with {name}"),
        ));
        let median = format!("{} \u{2192} {}", micros(none.get.p50_us), micros(best.get.p50_us));
        figures.push(("", median, format!("the median get, without a cache and with {name}")));
        let loads = format!(
            "{} \u{2192} {}",
            none.most_concurrent_loads_of_a_key, best.most_concurrent_loads_of_a_key
        );
        figures.push(("", loads, "most loads of one key at the same time".to_owned()));
    }
    let stale: u64 = outcomes.iter().map(|outcome| outcome.stale_reads).sum();
    let reads: u64 = outcomes.iter().map(|outcome| outcome.get.count).sum();
    let class = if stale == 0 { "good" } else { "bad" };
    figures.push((
        class,
        count(stale),
        format!("stale reads among {} that were checked", count(reads)),
    ));
    let figure = |(class, figure, of): (&str, String, String)| {
        format!(
            "<div class=\"figure\"><b class=\"{class}\">{}</b><span class=\"dim\">{}</span></div>",
            escape(&figure),
            escape(&of)
        )
    };
    figures.into_iter().map(figure).collect()
}

/// All of them, a row for each scenario.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut html = String::from(
        "<table>\n<thead><tr><th>Scenario</th><th>Hit rate</th><th>Source reads</th><th>Client writes</th><th>Source writes</th><th>Stale reads</th>\
         <th>Get p50</th><th>Get p99</th><th>Write p50</th><th>Most loads of one key</th><th>Shared loads</th>\
         <th>Refused fills</th><th>Past lifetime</th><th>Requests</th><th>Requests/s</th></tr></thead>\n<tbody>\n",
    );
    for outcome in outcomes {
        let of_cache = |figure: fn(&Counts) -> u64| {
            outcome.cache.as_ref().map_or_else(|| "-".to_owned(), |cache| count(figure(cache)))
        };
        let stale = if outcome.stale_reads == 0 { "" } else { " class=\"bad\"" };
        html += &format!("<tr><td>{}</td>", escape(&outcome.name()));
        html += &format!("<td>{}</td>", percent(outcome.hit_rate));
        html += &format!(
            "<td>{}</td><td>{}</td><td>{}</td>",
            count(outcome.source_reads),
            count(outcome.write.count),
            count(outcome.source_writes)
        );
        html += &format!("<td{stale}>{}</td>", count(outcome.stale_reads));
        for time in [outcome.get.p50_us, outcome.get.p99_us, outcome.write.p50_us] {
            html += &format!("<td>{}</td>", micros(time));
        }
        html += &format!("<td>{}</td>", outcome.most_concurrent_loads_of_a_key);
        html += &format!("<td>{}</td>", of_cache(|cache| cache.coalesced));
        html += &format!("<td>{}</td>", of_cache(|cache| cache.refused_fills));
        html += &format!("<td>{}</td>", of_cache(|cache| cache.past_lifetime));
        html += &format!("<td>{}</td>", count(outcome.requests));
        html += &format!("<td>{}</td></tr>\n", count(outcome.requests_per_second as u64));
    }
    html + "</tbody>\n</table>"
}
