//! The file that all of it is written to.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::machine;
use crate::report::{Bar, Section, absent, bars};
use crate::run::Measured;

/// The folder of this crate.
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What `RESULTS.md` consists of.
#[derive(Debug, Default)]
pub struct Results {
    /// What became of the parts.
    pub parts: Vec<Measured>,
    /// How busy the machine was before anything began.
    pub load: String,
    /// How it was called, and how long it took, in words.
    pub took: String,
}

impl Results {
    /// Writes `RESULTS.md`, and the charts beside it.
    ///
    /// # Errors
    ///
    /// What could not be written.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        self.sections().try_for_each(|section| write_charts(section, folder))?;
        let path = folder.join("RESULTS.md");
        fs::write(&path, self.text()).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn sections(&self) -> impl Iterator<Item = &Section> {
        self.parts.iter().flat_map(|part| &part.sections)
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "# What it costs\n\n\
             Ratios come from candidates that took turns in one run on one machine; compare times with each other only. \
             Instructions and allocations do not depend on how busy the machine is.\n\n",
        );
        let mut machine = machine::table();
        machine.row([
            "load before and after, running",
            &format!("{}; {}", self.load, machine::load()),
        ]);
        machine.row(["written", &format!("{}, by {}", machine::now(), self.took)]);
        let _ = writeln!(text, "{machine}");
        text.push_str(&self.behind());
        for part in &self.parts {
            let _ = writeln!(text, "{part}");
        }
        format!("{}\n", text.trim_end())
    }

    /// Where the library is not ahead, and what is not known.
    fn behind(&self) -> String {
        let held: Vec<(&Section, &Bar)> = self
            .sections()
            .flat_map(|section| section.bars.iter().map(move |bar| (section, bar)))
            .collect();
        let missed: Vec<Bar> = held
            .iter()
            .filter(|(_, bar)| !bar.is_met())
            .map(|(section, bar)| Bar {
                what: format!("{}: {}", section.title, bar.what),
                ..(*bar).clone()
            })
            .collect();
        let mut text = format!(
            "## Where we are not ahead\n\n\
             {} figures are held against a bar, below, where they are; {} are not as good as it in this run",
            held.len(),
            missed.len()
        );
        match missed.is_empty() {
            true => text.push_str(".\n\n"),
            false => {
                let _ = write!(text, ":\n\n{}\n", bars(&missed));
            }
        }
        let ended = self.parts.iter().filter_map(|part| {
            part.error.clone().map(|why| (format!("the rest of `{}`", part.name), why))
        });
        let unknown: Vec<(String, String)> = self
            .sections()
            .flat_map(|section| section.absent.iter().cloned())
            .chain(ended)
            .collect();
        if !unknown.is_empty() {
            let _ = writeln!(text, "{}", absent(&unknown));
        }
        text
    }
}

/// Writes the charts of a section into the folder `charts`.
///
/// # Errors
///
/// What could not be written.
pub fn write_charts(section: &Section, folder: &Path) -> Result<(), String> {
    let folder = folder.join("charts");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    section.charts.iter().try_for_each(|(file, _, svg)| {
        let path = folder.join(file);
        fs::write(&path, svg).map_err(|e| format!("{}: {e}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_or_unknown_is_said_before_the_figures() {
        let mut section = Section::new("Hits", "");
        section.bars = vec![
            Bar::at_most("slow", 2.0, 1.0).because("it is cold"),
            Bar::at_most("fast", 0.5, 1.0),
        ];
        section.absent.push(("a peer".to_owned(), "does not build".to_owned()));
        let mut part = Measured::nothing("redis", "was killed".to_owned());
        part.sections.push(section);
        let behind = Results { parts: vec![part], ..Results::default() }.behind();
        for said in ["2 figures", "1 are not", "Hits: slow", "it is cold", "a peer", "was killed"] {
            assert!(behind.contains(said), "{said} in {behind}");
        }
        assert!(!behind.contains("fast"), "{behind}");
    }
}
