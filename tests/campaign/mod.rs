//! A campaign: publishers and subscribers at work, faults by seed, a quiet end; and then the check of all that was
//! seen. The faults are those of one hub, its store and what lies between; where the store can be shared, another
//! hub works on it too, and on Redis other programs write to some of the runs.
//!
//! Everybody writes into one history file, and what is checked is read back from it: so what a failed
//! campaign leaves behind is all there was.

mod content;
mod director;
mod fault;
mod finale;
mod foreign;
mod publisher;
mod shared;
mod stage;
mod subscriber;
mod summary;
mod watcher;
mod wire;

pub use stage::StoreKind;

use crate::common::RedisServer;
use crate::history::{Bounds, Recorder, Verdict, check, read};
use shared::{Ender, Shared};
use stage::Stage;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub store: StoreKind,
    /// How long all is well before the first fault.
    pub clean: Duration,
    /// How long faults come.
    pub faults: Duration,
    /// The longest that a fault lasts.
    pub longest_fault: Duration,
    /// How long everything may take to come to rest at the end.
    pub quiet: Duration,
    /// How long a publish may take.
    pub publish: Duration,
    /// Where the history goes, and stays. Without, it stays only if something is wrong.
    pub keep: Option<PathBuf>,
}

/// What became of it.
pub struct Campaign {
    pub verdict: Verdict,
    /// For people.
    pub summary: String,
}

const RUNS: usize = 4;
const PUBLISHERS: usize = 6;
const SUBSCRIBERS_A_RUN: usize = 2;
/// Programs that write to Redis themselves, and how many of the runs they write to.
const FOREIGN_WRITERS: usize = 2;
const RUNS_OF_OTHERS: usize = 2;

/// Runs the campaign and checks what was seen.
pub fn run(plan: &Plan) -> Campaign {
    let name = format!("runhub-campaign-{}-{}.jsonl", plan.store.name(), plan.seed);
    let path = plan.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
    eprintln!("campaign on {}: seed {}, {}", plan.store.name(), plan.seed, path.display());
    let recorder = Recorder::create(&path).expect("the history can be written");
    let mut stage = Stage::start(plan.store);
    let redis = stage.setup.redis.as_ref().map(RedisServer::url);
    let writers = redis.as_ref().map_or(0, |_| FOREIGN_WRITERS);
    let shared = Shared::new(recorder, stage.ports(), RUNS, PUBLISHERS + writers);
    std::thread::scope(|scope| {
        // However this ends, those who wait for the end are to see it.
        let _ender = Ender(&shared);
        let shared = &shared;
        scope.spawn(move || watcher::watch(shared));
        for run in 0..RUNS {
            for number in 0..SUBSCRIBERS_A_RUN {
                let seed = plan.seed.wrapping_add((1000 + run * SUBSCRIBERS_A_RUN + number) as u64);
                scope.spawn(move || subscriber::follow(shared, run, number, seed));
            }
        }
        for number in 0..PUBLISHERS {
            let seed = plan.seed.wrapping_add(number as u64);
            scope.spawn(move || publisher::publish(shared, number, seed));
        }
        for number in 0..writers {
            let seed = plan.seed.wrapping_add(2000 + number as u64);
            let (url, runs) = (redis.as_deref().expect("there is one"), &shared.runs);
            let runs = &runs[..RUNS_OF_OTHERS];
            scope.spawn(move || foreign::write(shared, url, runs, number, seed));
        }
        director::direct(shared, &mut stage, plan);
        finale::close(shared, &stage, plan.quiet, SUBSCRIBERS_A_RUN);
    });
    shared.recorder.flush().expect("the history can be written");
    let records = read(&path).expect("the history can be read");
    let report = check(&records, &Bounds { publish: plan.publish });
    let verdict = report.verdict();
    let mut summary = summary::of(plan, &records, &report);
    match (verdict, &plan.keep) {
        (Verdict::Clean, None) => std::fs::remove_file(&path).expect("the history can be removed"),
        _ => {
            let log = log_beside(&path);
            std::fs::write(&log, stage.logs()).expect("the hub's log can be written");
            summary += &format!("history: {}\nlog:     {}\n", path.display(), log.display());
        }
    }
    Campaign { verdict, summary }
}

fn log_beside(history: &Path) -> PathBuf {
    history.with_extension("log")
}
