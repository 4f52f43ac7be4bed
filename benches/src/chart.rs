//! Bar charts as SVG, readable on a light and on a dark page.

use std::fmt::Write;

/// One bar: its name, its figure, what is written behind it, and whether it is one of ours.
#[derive(Clone, Debug)]
pub struct ChartBar {
    /// Its name.
    pub name: String,
    /// How long it is.
    pub figure: f64,
    /// What is written behind it.
    pub label: String,
    /// Whether it is one of ours.
    pub own: bool,
}

const WIDTH: f64 = 760.0;
const NAMES: f64 = 250.0;
const LABELS: f64 = 110.0;
const ROW: f64 = 24.0;
const TOP: f64 = 44.0;

/// Horizontal bars below each other.
#[must_use]
pub fn bars(title: &str, rows: &[ChartBar]) -> String {
    let height = TOP + ROW * rows.len() as f64 + 12.0;
    let longest = rows.iter().map(|row| row.figure).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\">\n\
         <title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"27\" font-size=\"15\" font-weight=\"600\" fill=\"#1f2328\">{title}</text>\n",
        title = escaped(title),
    );
    for (at, row) in rows.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let width = ((WIDTH - NAMES - LABELS) * row.figure / longest).max(1.0);
        let (fill, weight) = if row.own { ("#0969da", "600") } else { ("#afb8c1", "400") };
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" font-weight=\"{weight}\" fill=\"#1f2328\">{}</text>\
             <rect x=\"{NAMES:.0}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"{:.0}\" rx=\"2\" fill=\"{fill}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\" fill=\"#1f2328\">{}</text>",
            NAMES - 8.0,
            y + 15.0,
            escaped(&row.name),
            y + 3.0,
            ROW - 7.0,
            NAMES + width + 6.0,
            y + 15.0,
            escaped(&row.label),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_has_all_the_room_and_names_are_escaped() {
        let bar = |name: &str, figure| ChartBar {
            name: name.to_owned(),
            figure,
            label: "1".to_owned(),
            own: false,
        };
        let svg = bars("hits", &[bar("A<B>", 2.0), bar("b", 1.0)]);
        assert!(
            svg.contains("A&lt;B&gt;")
                && svg.contains("width=\"400.0\"")
                && svg.contains("width=\"200.0\"")
        );
    }
}
