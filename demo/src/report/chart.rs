//! Charts as SVG, drawn with the colours of the page they are in.

use std::fmt::Write;

use super::html::escape;

const WIDTH: f64 = 560.0;
const LABELS: f64 = 168.0;
const NUMBERS: f64 = 84.0;
const ROW: f64 = 27.0;

/// One bar; `colour` is the number of a colour of the page.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) colour: usize,
    /// `None` draws no bar.
    pub(super) value: Option<f64>,
    pub(super) text: String,
}

/// Horizontal bars from zero.
pub(super) fn bars(name: &str, bars: &[Bar]) -> String {
    let most = bars.iter().filter_map(|bar| bar.value).fold(0.0, f64::max);
    let room = WIDTH - LABELS - NUMBERS;
    let mut svg = open(name, bars.len(), 0.0);
    for (row, bar) in bars.iter().enumerate() {
        let y = row as f64 * ROW;
        label(&mut svg, &bar.label, y);
        let length = match bar.value {
            Some(value) if most > 0.0 => (value / most * room).max(1.5),
            _ => 0.0,
        };
        let _ = write!(
            svg,
            r#"<rect class="c{}" x="{LABELS}" y="{:.1}" width="{length:.1}" height="15" rx="3"><title>{}: {}</title></rect>"#,
            bar.colour,
            y + 6.0,
            escape(&bar.label),
            escape(&bar.text)
        );
        text(&mut svg, "number", LABELS + length + 7.0, y, &bar.text);
    }
    svg + "</svg>"
}

/// A range from a median to a 99th percentile.
pub(super) struct Range {
    pub(super) label: String,
    pub(super) colour: usize,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) text: String,
}

/// Ranges on a logarithmic scale; `name_tick` spells the powers of ten.
pub(super) fn ranges(name: &str, ranges: &[Range], name_tick: impl Fn(f64) -> String) -> String {
    let ends = || {
        ranges
            .iter()
            .flat_map(|range| [range.from, range.to])
            .filter(|end| *end > 0.0)
    };
    let low = ends().fold(f64::MAX, f64::min).log10().floor();
    let high = ends()
        .fold(f64::MIN_POSITIVE, f64::max)
        .log10()
        .ceil()
        .max(low + 1.0);
    let room = WIDTH - LABELS - 28.0;
    let x = |value: f64| {
        LABELS
            + ((value.max(f64::MIN_POSITIVE).log10() - low) / (high - low)).clamp(0.0, 1.0) * room
    };
    let mut svg = open(name, ranges.len(), 22.0);
    if ends().next().is_none() {
        return svg + "</svg>";
    }
    let bottom = ranges.len() as f64 * ROW;
    for power in low as i32..=high as i32 {
        let value = 10_f64.powi(power);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{x:.1}" y1="0" x2="{x:.1}" y2="{bottom}"/><text class="tick" x="{x:.1}" y="{:.1}">{}</text>"#,
            bottom + 16.0,
            escape(&name_tick(value)),
            x = x(value)
        );
    }
    for (row, range) in ranges.iter().enumerate() {
        let y = row as f64 * ROW;
        label(&mut svg, &range.label, y);
        let (from, to, middle) = (x(range.from), x(range.to), y + 13.5);
        let _ = write!(
            svg,
            r#"<g><title>{}: {}</title><rect class="c{c} soft" x="{from:.1}" y="{:.1}" width="{:.1}" height="6"/><circle class="c{c}" cx="{from:.1}" cy="{middle}" r="6"/><rect class="c{c}" x="{:.1}" y="{:.1}" width="4" height="16"/></g>"#,
            escape(&range.label),
            escape(&range.text),
            middle - 3.0,
            (to - from).max(0.0),
            to - 2.0,
            middle - 8.0,
            c = range.colour
        );
    }
    svg + "</svg>"
}

/// One line over time: pairs of the time and the height there.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// One small area chart a line, all on the same scales.
pub(super) fn lines(name: &str, lines: &[Line], unit: &str) -> String {
    const HEIGHT: f64 = 52.0;
    const WIDE: f64 = 1_160.0;
    let points = || lines.iter().flat_map(|line| &line.points);
    let (last, most) = points().fold((0.0_f64, 0.0_f64), |(x, y), point| {
        (x.max(point.0), y.max(point.1))
    });
    let (right, scale) = (
        WIDE - 36.0,
        if most > 0.0 {
            (HEIGHT - 10.0) / most
        } else {
            0.0
        },
    );
    let across = if last > 0.0 {
        (right - LABELS) / last
    } else {
        0.0
    };
    let height = lines.len() as f64 * HEIGHT + 22.0;
    let mut svg = format!(
        r#"<svg viewBox="0 0 {WIDE} {height}" role="img" aria-label="{}">"#,
        escape(name)
    );
    for (row, line) in lines.iter().enumerate() {
        let base = (row + 1) as f64 * HEIGHT;
        label(&mut svg, &line.label, base - HEIGHT / 2.0 - 13.5);
        let spot = |(time, value): &(f64, f64)| {
            format!("{:.1} {:.1}", LABELS + time * across, base - value * scale)
        };
        let path = line.points.iter().map(spot).collect::<Vec<_>>().join("L");
        let [Some(first), Some(end)] = [line.points.first(), line.points.last()] else {
            continue;
        };
        let peak = line.points.iter().map(|point| point.1).fold(0.0, f64::max);
        let _ = write!(
            svg,
            r#"<path class="c{c} soft" d="M{:.1} {base:.1}L{path}L{:.1} {base:.1}Z"><title>{}: at most {peak:.0} {}</title></path><path class="l{c}" d="M{path}"/><line class="grid" x1="{LABELS}" y1="{base:.1}" x2="{right}" y2="{base:.1}"/>"#,
            LABELS + first.0 * across,
            LABELS + end.0 * across,
            escape(&line.label),
            escape(unit),
            c = line.colour
        );
    }
    for tick in 0..=4 {
        let at = last * f64::from(tick) / 4.0;
        let _ = write!(
            svg,
            r#"<text class="tick" x="{:.1}" y="{:.1}">{at:.1} s</text>"#,
            LABELS + at * across,
            height - 5.0
        );
    }
    svg + "</svg>"
}

fn open(name: &str, rows: usize, more: f64) -> String {
    let height = rows as f64 * ROW + more;
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}">"#,
        escape(name)
    )
}

fn label(svg: &mut String, of: &str, y: f64) {
    text(svg, "label", LABELS - 10.0, y, of);
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let _ = write!(
        svg,
        r#"<text class="{class}" x="{x:.1}" y="{:.1}">{}</text>"#,
        y + 18.0,
        escape(text)
    );
}
