//! The main job of the cache workspace: what a cache saves, measured on this machine.

mod caches;
mod cli;
mod failure;
mod loads;
mod measure;
mod pool;
mod report;
mod run;
mod source;
mod trace;
mod workload;

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cli::Options;
use failure::{Failure, Result};
use measure::{Acknowledged, Outcome, Slot};
use report::Report;
use run::{Limits, Run};
use source::Source;
use trace::Trace;
use workload::{Generator, Workload};

fn main() -> ExitCode {
    let options = match Options::parse_or_exit_status() {
        Ok(options) => options,
        Err(status) => return status.into(),
    };
    match job(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cache-demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn job(options: &Options) -> Result<()> {
    let workload = Arc::new(workload(options)?);
    let report_failed = |e| Failure::new(options.report.display().to_string(), e);
    let is_new = !options.report.exists();
    // Tried now, not after half a minute.
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&options.report)
        .map_err(report_failed)?;
    let report = match measured(options, workload) {
        Ok(report) => report,
        Err(failure) => {
            if is_new {
                let _ = fs::remove_file(&options.report);
            }
            return Err(failure);
        }
    };
    fs::write(&options.report, report::page(&report)).map_err(report_failed)?;

    let text = if options.json {
        serde_json::to_string_pretty(&report).map_err(|e| Failure::new("JSON", e))?
    } else {
        let path = fs::canonicalize(&options.report).unwrap_or_else(|_| options.report.clone());
        format!(
            "\n{}\nReport: {}",
            report::table(&report.scenarios),
            path.display()
        )
    };
    // A reader that has gone away, such as `head`, is no failure.
    let _ = writeln!(io::stdout(), "{text}");
    report.failures().map_or(Ok(()), |failures| {
        Err(Failure::new("not all went well", failures))
    })
}

fn measured(options: &Options, workload: Arc<Workload>) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("can't start the runtime", e))?;
    runtime.block_on(async {
        tokio::select! {
            report = measure_all(options, workload) => report,
            // The database in the temporary folder is removed on this way out as well.
            _ = tokio::signal::ctrl_c() => Err(Failure::new("stopped", "interrupted")),
        }
    })
}

fn workload(options: &Options) -> Result<Workload> {
    let Some(path) = &options.trace else {
        return Ok(Workload::Generated(Generator::new(options.generated())));
    };
    let trace = Trace::read(path, options.trace_format, options.trace_limit())?;
    Ok(Workload::Trace(trace))
}

async fn measure_all(options: &Options, workload: Arc<Workload>) -> Result<Report> {
    let scenarios = options.scenarios();
    let limits = options.limits(scenarios.len());
    eprintln!("{}", workload.describe());
    let began = Instant::now();
    let source = Source::create(workload.products(), workload.ids(), options.source_delay)?;
    eprintln!(
        "Made a catalogue of {} products in SQLite in {:.1} s. {} scenarios with {} clients follow.",
        workload.products(),
        began.elapsed().as_secs_f64(),
        scenarios.len(),
        limits.clients
    );
    let acknowledged = Arc::new(Acknowledged::new(workload.products()));
    let mut outcomes = Vec::with_capacity(scenarios.len());
    for (index, &scenario) in scenarios.iter().enumerate() {
        let source = source.counted_anew();
        let run = Run {
            scenario,
            cache: scenario.open(source.clone(), &options.caches())?,
            source,
            workload: Arc::clone(&workload),
            acknowledged: Arc::clone(&acknowledged),
        };
        let step = format!("[{}/{}] {scenario}", index + 1, scenarios.len());
        let outcome = run
            .measure(limits, |totals| show_progress(&step, totals))
            .await?;
        show_outcome(&step, &outcome);
        outcomes.push(outcome);
    }
    Ok(Report {
        workload: workload.describe(),
        settings: settings(options, limits, &workload),
        scenarios: outcomes,
    })
}

fn show_progress(step: &str, totals: Slot) {
    if io::stderr().is_terminal() {
        let Slot {
            until_seconds,
            requests,
            source_reads,
        } = totals;
        eprint!(
            "\r{step:<36} {until_seconds:5.1} s {requests:>10} requests {source_reads:>9} source reads "
        );
    }
}

fn show_outcome(step: &str, outcome: &Outcome) {
    let start = if io::stderr().is_terminal() { "\r" } else { "" };
    let Outcome {
        seconds,
        requests,
        source_reads,
        ..
    } = outcome;
    eprintln!(
        "{start}{step:<36} {seconds:5.1} s {requests:>10} requests {source_reads:>9} source reads "
    );
}

fn settings(options: &Options, limits: Limits, workload: &Workload) -> Vec<(&'static str, String)> {
    let time = |duration: Duration| humantime::format_duration(duration).to_string();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut settings = vec![
        (
            "Clients",
            format!("{}, each one request at a time", limits.clients),
        ),
        (
            "Time of a scenario",
            format!("at most {:.1} s", limits.time.as_secs_f64()),
        ),
        (
            "Capacity",
            format!(
                "{} entries ({} products)",
                options.capacity,
                workload.products()
            ),
        ),
        (
            "Lifetime",
            format!(
                "{}, shortened at random by up to {} %",
                time(options.ttl),
                options.jitter
            ),
        ),
        (
            "Lifetime of \"no such product\"",
            time(options.negative_ttl),
        ),
        (
            "Source delay",
            format!(
                "{}, added to every answer of SQLite",
                time(options.source_delay)
            ),
        ),
        (
            "Machine",
            format!(
                "{cores} processors, {} {}",
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
        ),
    ];
    let requests = options.requests.or(workload.len());
    if let Some(requests) = requests {
        settings.insert(2, ("Requests of a scenario", format!("at most {requests}")));
    }
    if cfg!(debug_assertions) {
        settings.push(("Build", "not optimised: the times mean little".to_owned()));
    }
    settings
}
