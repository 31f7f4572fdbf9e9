//! The load generator: how fast, at what cost, and whether nothing is lost, doubled or out of order.
//!
//! ```sh
//! cargo build --release && cargo run --release --example load -- all
//! cargo run --release --example load -- a c --store embedded --repeats 3
//! ```
//!
//! docs/performance.md, *Load*, says what each scenario is and what is counted. One JSON object a scenario goes to
//! standard output, a table to standard error. Exit codes: 0 where all was well, 1 where events were lost, doubled
//! or out of order, 2 where something could not be measured.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a tool for measuring")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its terminal")]

mod commands;
mod connection;
mod copier;
mod history;
mod http;
mod idle;
mod listening;
mod live;
mod many_runs;
mod mark;
mod measured;
mod options;
mod processes;
mod publishers;
mod resp;
mod resume;
mod scenario;
mod setup;
mod start;
mod subscribers;
mod table;
mod tally;
mod target;
mod wire;
mod work;

use clap::Parser;
use measured::Measured;
use options::Options;
use scenario::Scenario;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("copier") {
        return copier::run();
    }
    let options = Options::parse();
    if let Err(e) = rlimit::increase_nofile_limit(u64::MAX) {
        eprintln!("cannot raise the limit of open files: {e}");
    }
    let mut rows = Vec::new();
    for scenario in options.chosen() {
        let measured = repeat(scenario, &options);
        println!("{}", measured.json(scenario, &options));
        rows.push((scenario, measured));
    }
    eprint!("{}", table::render(&rows));
    if rows.iter().any(|(_, measured)| measured.wrong() > 0.0) {
        ExitCode::from(1)
    } else if rows.iter().any(|(_, measured)| measured.failed.is_some()) {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

fn repeat(scenario: Scenario, options: &Options) -> Measured {
    if let Some(why) = scenario.does_not_apply(options) {
        return Measured::skipped(why);
    }
    let mut repeats = Vec::new();
    for _ in 0..options.repeats.max(1) {
        match scenario.measure(options) {
            Ok(measured) => repeats.push(measured),
            Err(why) => return Measured::failed(why),
        }
    }
    Measured::median(&repeats)
}
