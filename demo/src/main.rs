//! The main job of the cache workspace: what a cache saves, measured on this machine.

mod caches;
mod cli;
mod crash;
mod failure;
mod loads;
mod measure;
mod pool;
mod redis;
mod report;
mod run;
mod source;
mod storm;
mod tiered;
mod trace;
mod workload;
mod writing;

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caches::{Scenario, Store};
use cli::{Command, Options};
use failure::{Failure, Result};
use measure::{Acknowledged, Outcome, Slot};
use redis::Redis;
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
    let done = match &options.command {
        None => job(&options),
        Some(Command::Crash { rounds, seed }) => crash::run(*rounds, *seed),
        Some(Command::Storm { seconds, ttl, source_delay }) => {
            storm::run(*seconds, *ttl, *source_delay)
        }
        Some(Command::Tiered { processes, seconds, by, redis }) => {
            tiered::run(*processes, *seconds, *by, redis.as_deref())
        }
        Some(Command::TieredChild { folder, service, by, writes }) => {
            tiered::child(folder, service, *by, *writes)
        }
        Some(Command::CrashChild { folder, first_version }) => crash::child(folder, *first_version),
    };
    match done {
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
    OpenOptions::new().create(true).append(true).open(&options.report).map_err(report_failed)?;
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
        format!("\n{}\nReport: {}", report::table(&report.scenarios), path.display())
    };
    // A reader that has gone away, such as `head`, is no failure.
    let _ = writeln!(io::stdout(), "{text}");
    report.failures().map_or(Ok(()), |failures| Err(Failure::new("not all went well", failures)))
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
    let mut scenarios = options.scenarios();
    if scenarios.is_empty() {
        let why =
            "these strategies don't run on these stores here; leave one of the two options out";
        return Err(Failure::new("nothing to do", why));
    }
    let redis = redis(options, &mut scenarios).await?;
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
            cache: scenario.open(source.clone(), &options.caches(), redis.as_ref()).await?,
            source,
            workload: Arc::clone(&workload),
            acknowledged: Arc::clone(&acknowledged),
        };
        let step = format!("[{}/{}] {scenario}", index + 1, scenarios.len());
        let outcome = run.measure(limits, |totals| show_progress(&step, totals)).await?;
        show_outcome(&step, &outcome);
        outcomes.push(outcome);
    }
    if let Some(redis) = redis {
        redis.tidy_up().await?;
    }
    Ok(Report {
        workload: workload.describe(),
        settings: settings(options, limits, &workload),
        scenarios: outcomes,
    })
}

/// The server for the scenarios that need one. Without one they are left out, unless they were asked for.
async fn redis(options: &Options, scenarios: &mut Vec<Scenario>) -> Result<Option<Redis>> {
    let is_redis = |scenario: &Scenario| scenario.store.is_some_and(Store::is_redis);
    if !scenarios.iter().any(is_redis) {
        return Ok(None);
    }
    if let Some(url) = &options.redis {
        return Redis::at(url).await.map(Some);
    }
    let why = match Redis::start().await {
        Ok(Some(redis)) => return Ok(Some(redis)),
        Ok(None) => Failure::new(
            "redis-server",
            "there is none on the PATH; install one, or name a server with --redis",
        ),
        Err(failure) => failure,
    };
    if options.store.iter().any(|store| store.is_redis()) {
        return Err(why);
    }
    eprintln!("Without Redis ({why}).");
    scenarios.retain(|scenario| !is_redis(scenario));
    Ok(None)
}

fn show_progress(step: &str, totals: Slot) {
    if io::stderr().is_terminal() {
        let Slot { until_seconds, requests, source_reads } = totals;
        eprint!(
            "\r{step:<36} {until_seconds:5.1} s {requests:>10} requests {source_reads:>9} source reads "
        );
    }
}

fn show_outcome(step: &str, outcome: &Outcome) {
    let start = if io::stderr().is_terminal() { "\r" } else { "" };
    let Outcome { seconds, requests, source_reads, .. } = outcome;
    eprintln!(
        "{start}{step:<36} {seconds:5.1} s {requests:>10} requests {source_reads:>9} source reads "
    );
}

fn settings(options: &Options, limits: Limits, workload: &Workload) -> Vec<(&'static str, String)> {
    let time = |duration: Duration| humantime::format_duration(duration).to_string();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut settings = vec![
        ("Clients", format!("{}, each one request at a time", limits.clients)),
        ("Time of a scenario", format!("at most {:.1} s", limits.time.as_secs_f64())),
        ("Capacity", format!("{} entries ({} products)", options.capacity, workload.products())),
        (
            "Lifetime",
            format!("{}, shortened at random by up to {} %", time(options.ttl), options.jitter),
        ),
        ("Lifetime of \"no such product\"", time(options.negative_ttl)),
        (
            "Source delay",
            format!("{}, added to every answer of SQLite", time(options.source_delay)),
        ),
        (
            "Machine",
            format!("{cores} processors, {} {}", std::env::consts::OS, std::env::consts::ARCH),
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
