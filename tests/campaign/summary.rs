//! What a person wants to know of a campaign.

use super::Plan;
use crate::history::{Record, Report, Verdict, What};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// How many findings are shown; the history has the others.
const SHOWN: usize = 30;

/// The times of one kind of fault, in µs; the worst of all times it came.
#[derive(Default)]
struct Worst {
    times: usize,
    slowest_publish: Option<u64>,
    until_degraded: Option<u64>,
    until_normal: Option<u64>,
}

pub fn of(plan: &Plan, records: &[Record], report: &Report) -> String {
    let mut text = String::new();
    write(&mut text, plan, records, report).expect("a String takes everything");
    text
}

fn write(text: &mut String, plan: &Plan, records: &[Record], report: &Report) -> std::fmt::Result {
    let counts = &report.counts;
    let seconds = records.last().map_or(0.0, |last| last.at as f64 / 1e6);
    writeln!(text, "seed {}, {}, {seconds:.1} s", plan.seed, plan.store.name())?;
    writeln!(
        text,
        "{} publishes of {} events, {} publishes in doubt; {} events there at the end",
        counts.ops, counts.events, counts.in_doubt, counts.stored
    )?;
    let attempts: Vec<String> =
        counts.attempts.iter().map(|(word, count)| format!("{word} {count}")).collect();
    writeln!(text, "attempts: {}", attempts.join(", "))?;
    writeln!(
        text,
        "received: {} events on {} connections, {} gaps",
        counts.received, counts.connections, counts.gaps
    )?;
    writeln!(
        text,
        "\n{:<28}{:>6}{:>18}{:>16}{:>14}",
        "fault", "times", "slowest publish", "until degraded", "until normal"
    )?;
    let ms = |us: Option<u64>| us.map_or("-".to_owned(), |us| format!("{} ms", us / 1000));
    for (name, worst) in worst_by_fault(records) {
        writeln!(
            text,
            "{name:<28}{:>6}{:>18}{:>16}{:>14}",
            worst.times,
            ms(worst.slowest_publish),
            ms(worst.until_degraded),
            ms(worst.until_normal)
        )?;
    }
    writeln!(text)?;
    for finding in report.findings.iter().take(SHOWN) {
        writeln!(text, "{finding}")?;
    }
    if report.findings.len() > SHOWN {
        writeln!(text, "and {} more", report.findings.len() - SHOWN)?;
    }
    match report.verdict() {
        Verdict::Clean => writeln!(text, "clean"),
        Verdict::Findings => writeln!(text, "{} findings", report.findings.len()),
        Verdict::Void => writeln!(text, "void: nothing was put to the test"),
    }
}

fn worst_by_fault(records: &[Record]) -> BTreeMap<&str, Worst> {
    let attempts = attempts(records);
    let modes: Vec<(u64, &str)> = records.iter().filter_map(mode).collect();
    let mut worst: BTreeMap<&str, Worst> = BTreeMap::new();
    let faults = faults(records);
    for (name, from, to) in &faults {
        let (from, to, worst) = (*from, *to, worst.entry(name).or_default());
        worst.times += 1;
        let within = attempts.iter().filter(|(began, ended)| *began < to && *ended > from);
        let slowest = within.map(|(began, ended)| ended - began).max();
        worst.slowest_publish = worst.slowest_publish.max(slowest);
        // Where the hub died in the middle of it, the times are those of its death.
        let overlaps = faults.iter().filter(|(_, began, ended)| *began < to && *ended > from);
        if overlaps.count() > 1 {
            continue;
        }
        if mode_at(&modes, from) == "normal" {
            let degraded = first(&modes, from, |mode| mode == "degraded");
            let degraded = degraded.filter(|at| *at < to).map(|at| at - from);
            worst.until_degraded = worst.until_degraded.max(degraded);
        }
        if mode_at(&modes, to) != "normal" {
            let normal = first(&modes, to, |mode| mode == "normal").map(|at| at - to);
            worst.until_normal = worst.until_normal.max(normal);
        }
    }
    worst
}

/// Each fault with when it began and ended.
fn faults(records: &[Record]) -> Vec<(&str, u64, u64)> {
    let (mut begun, mut ended) = (HashMap::new(), Vec::new());
    for record in records {
        match &record.what {
            What::FaultBegun { name, .. } => {
                begun.insert(name.as_str(), record.at);
            }
            What::FaultEnded { name } => {
                let from = begun.remove(name.as_str());
                ended.extend(from.map(|from| (name.as_str(), from, record.at)));
            }
            _ => {}
        }
    }
    ended
}

fn mode(record: &Record) -> Option<(u64, &str)> {
    match &record.what {
        What::Health { mode, .. } => Some((record.at, mode)),
        _ => None,
    }
}

fn mode_at<'a>(modes: &[(u64, &'a str)], at: u64) -> &'a str {
    modes.iter().take_while(|(since, _)| *since <= at).last().map_or("away", |(_, mode)| mode)
}

fn first(modes: &[(u64, &str)], from: u64, wanted: impl Fn(&str) -> bool) -> Option<u64> {
    modes.iter().find(|(at, mode)| *at >= from && wanted(mode)).map(|(at, _)| *at)
}

/// When each attempt that came to an end began and ended.
fn attempts(records: &[Record]) -> Vec<(u64, u64)> {
    let (mut open, mut closed) = (HashMap::new(), Vec::new());
    for record in records {
        match record.what {
            What::Invoked { op, attempt, .. } => {
                open.insert((op, attempt), record.at);
            }
            What::Answered { op, attempt, .. }
            | What::Unknown { op, attempt, .. }
            | What::Unreached { op, attempt } => {
                closed.extend(open.remove(&(op, attempt)).map(|began| (began, record.at)));
            }
            _ => {}
        }
    }
    closed
}
