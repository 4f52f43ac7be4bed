//! Tables, the bars that figures are held against, and the file they are written to.

use std::fmt::{self, Display};

use serde::{Deserialize, Deserializer, Serialize};

/// What one part of the benchmarks has to tell.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Section {
    /// Its headline.
    pub title: String,
    /// What was measured, and how; in Markdown.
    pub about: String,
    /// The figures.
    pub tables: Vec<Table>,
    /// Charts: the file's name, what it shows, and its text.
    pub charts: Vec<(String, String, String)>,
    /// What the figures are held against.
    pub bars: Vec<Bar>,
    /// What has to be said about them; in Markdown.
    pub notes: Vec<String>,
    /// Who could not be measured, and why.
    pub absent: Vec<(String, String)>,
}

impl Section {
    /// A section without figures yet.
    pub fn new(title: impl Into<String>, about: impl Into<String>) -> Self {
        Self { title: title.into(), about: about.into(), ..Self::default() }
    }
}

/// A table of Markdown. The first column is text, the others are figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// One more row.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.columns.join(" | "))?;
        writeln!(f, "|---|{}", "---:|".repeat(self.columns.len().saturating_sub(1)))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

/// What a figure is to be at most, or at least.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bar {
    /// What is measured.
    pub what: String,
    /// The figure; not a number if there is none.
    #[serde(deserialize_with = "figure")]
    pub is: f64,
    /// What it is held against.
    pub bar: f64,
    /// Whether more is better.
    pub at_least: bool,
    /// Why it is missed, if it is.
    pub why: String,
}

/// JSON has no figure for what is not a number.
fn figure<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Option::deserialize(from).map(|figure| figure.unwrap_or(f64::NAN))
}

impl Bar {
    /// A figure that is better the smaller it is.
    pub fn at_most(what: impl Into<String>, is: f64, bar: f64) -> Self {
        Self { what: what.into(), is, bar, at_least: false, why: String::new() }
    }

    /// A figure that is better the larger it is.
    pub fn at_least(what: impl Into<String>, is: f64, bar: f64) -> Self {
        Self { what: what.into(), is, bar, at_least: true, why: String::new() }
    }

    /// Why it is missed, if it is.
    #[must_use]
    pub fn because(mut self, why: &str) -> Self {
        why.clone_into(&mut self.why);
        self
    }

    /// Whether the figure is good enough. What was not measured is not.
    #[must_use]
    pub fn is_met(&self) -> bool {
        if self.at_least { self.is >= self.bar } else { self.is <= self.bar }
    }
}

/// All bars in a table, the missed ones first.
#[must_use]
pub fn bars(bars: &[Bar]) -> Table {
    let mut table = Table::new(["", "measured", "bar", "", "why"]);
    let mut sorted: Vec<&Bar> = bars.iter().collect();
    sorted.sort_by_key(|bar| bar.is_met());
    for bar in sorted {
        let than = if bar.at_least { "≥" } else { "≤" };
        let (met, why) = if bar.is_met() { ("met", "") } else { ("**missed**", bar.why.as_str()) };
        let limit = format!("{than} {}", short(bar.bar));
        table.row([&bar.what, &short(bar.is), &limit, met, why]);
    }
    table
}

/// Who could not be measured.
#[must_use]
pub fn absent(absent: &[(String, String)]) -> Table {
    let mut table = Table::new(["not measured", "why"]);
    for (who, why) in absent {
        table.row([who.clone(), why.replace('|', "/").replace('\n', " ")]);
    }
    table
}

impl Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}\n", self.title, self.about)?;
        for (file, alt, _) in &self.charts {
            writeln!(f, "![{alt}](charts/{file})\n")?;
        }
        for table in &self.tables {
            writeln!(f, "{table}")?;
        }
        if !self.bars.is_empty() {
            writeln!(f, "{}", bars(&self.bars))?;
        }
        if !self.absent.is_empty() {
            writeln!(f, "{}", absent(&self.absent))?;
        }
        for note in &self.notes {
            writeln!(f, "{note}\n")?;
        }
        Ok(())
    }
}

/// A title as the name of a file.
#[must_use]
pub fn file_name(title: &str) -> String {
    let words = title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

/// A figure with about three digits.
#[must_use]
pub fn short(figure: f64) -> String {
    match figure.abs() {
        _ if figure.is_nan() => "-".to_owned(),
        size if size >= 1000.0 => thousands(figure),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// A whole number with its thousands apart.
fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio.
#[must_use]
pub fn times(ratio: f64) -> String {
    if ratio.is_nan() { "-".to_owned() } else { format!("{ratio:.2}x") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let figures = [0.123, 12.34, 123.4, 1234.5, 1_234_567.0, f64::NAN].map(short);
        assert_eq!(figures, ["0.12", "12.3", "123", "1,234", "1,234,567", "-"]);
    }

    #[test]
    fn a_section_is_the_same_after_its_way_through_json() {
        let mut section = Section::new("a title", "about it");
        section.bars = vec![Bar::at_most("a figure", f64::NAN, 1.0).because("no reason")];
        section.absent.push(("a peer".to_owned(), "does not\nconnect".to_owned()));
        let json = serde_json::to_string(&section).expect("it has a form in JSON");
        let read: Section = serde_json::from_str(&json).expect("it is read");
        assert_eq!(read.to_string(), section.to_string());
        assert!(read.to_string().contains("| a peer | does not connect |"), "{read}");
    }

    #[test]
    fn what_was_not_measured_meets_no_bar() {
        assert!(!Bar::at_most("", f64::NAN, 1.0).is_met());
        assert!(!Bar::at_least("", f64::NAN, 1.0).is_met());
        assert!(Bar::at_least("", 1.0, 1.0).is_met());
    }
}
