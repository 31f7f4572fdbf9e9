//! The fault runner: a campaign of random faults, as long as one likes, and the proof that nothing was lost,
//! doubled, reordered or skipped meanwhile.
//!
//! ```sh
//! cargo run --release --example faults -- --minutes 10
//! cargo run --release --example faults -- --minutes 10 --store embedded --seed 7 --keep history.jsonl
//! ```
//!
//! Exit codes: 0 where all was well, 1 where something was found, 2 where nothing was put to the test.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a tool for tests, made of their parts"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its terminal")]

#[path = "../../tests/campaign/mod.rs"]
mod campaign;
#[path = "../../tests/common/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the tests use the other half")]
mod common;
#[path = "../../tests/history/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the other half")]
mod history;

use campaign::{Plan, StoreKind};
use clap::Parser;
use history::Verdict;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Random faults on a hub at work, and a check of all that was seen.
#[derive(Parser)]
#[command(name = "faults")]
struct Arguments {
    /// What decides which faults come when; random if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults come.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// What the hub stores in: redis, cluster or embedded.
    #[arg(long, default_value = "redis", value_parser = store)]
    store: StoreKind,
    /// Where the history is written to, and stays.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// The most seconds that a publish may take.
    #[arg(long, default_value_t = 5.0)]
    publish: f64,
}

fn store(word: &str) -> Result<StoreKind, String> {
    let known = [StoreKind::Redis, StoreKind::Cluster, StoreKind::Embedded];
    known
        .into_iter()
        .find(|store| store.name() == word)
        .ok_or("redis, cluster or embedded".to_owned())
}

fn main() -> ExitCode {
    // The hub under test is this executable too, as examples are not told where the hub's own is.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return runhub::cli::run();
    }
    let arguments = Arguments::parse();
    let plan = Plan {
        seed: arguments.seed.unwrap_or_else(rand::random),
        store: arguments.store,
        clean: Duration::from_secs(3),
        faults: Duration::from_secs_f64(arguments.minutes * 60.0),
        longest_fault: Duration::from_secs(5),
        quiet: Duration::from_secs(60),
        publish: Duration::from_secs_f64(arguments.publish),
        keep: arguments.keep,
    };
    let campaign = campaign::run(&plan);
    print!("{}", campaign.summary);
    match campaign.verdict {
        Verdict::Clean => ExitCode::SUCCESS,
        Verdict::Findings => ExitCode::from(1),
        Verdict::Void => ExitCode::from(2),
    }
}
