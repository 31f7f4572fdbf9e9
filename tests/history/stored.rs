//! What is stored at the end, held against what was sent and what was promised.

use super::finding::Finding;
use super::index::{Entry, Index, Op};
use super::record::{Log, Place};
use std::collections::{BTreeSet, HashMap, HashSet};

pub fn check(index: &Index, findings: &mut Vec<Finding>) {
    for ((log, run), entries) in &index.logs {
        twice(*log, run, entries, findings);
        holes(index, *log, run, entries, findings);
        for entry in entries {
            sent_like_this(index, &log.to_string(), run, entry, findings);
        }
    }
    for log in index.log_kinds() {
        let mut there: HashMap<&str, HashSet<&str>> = HashMap::new();
        for ((_, run), entries) in index.logs.iter().filter(|((of, _), _)| *of == log) {
            there.insert(run, entries.iter().map(|entry| entry.key).collect());
        }
        let is_there = |run: &str, key: &str| there.get(run).is_some_and(|keys| keys.contains(key));
        let lost = lost(index, log, &is_there, findings);
        for (number, op) in &index.ops {
            outcome_fits(index, *number, op, &is_there, findings);
        }
        received_and_gone(index, log, &is_there, &lost, findings);
    }
}

fn twice(log: Log, run: &str, entries: &[Entry], findings: &mut Vec<Finding>) {
    let mut first: HashMap<&str, Place> = HashMap::new();
    for entry in entries {
        if let Some(earlier) = first.insert(entry.key, entry.place) {
            findings.push(Finding::StoredTwice {
                log,
                run: run.to_owned(),
                key: entry.key.to_owned(),
                places: [earlier, entry.place],
            });
        }
    }
}

/// The hub numbers densely from 1, so what is not there was lost; unless the run was trimmed, which takes
/// from its beginning alone.
fn holes(index: &Index, log: Log, run: &str, entries: &[Entry], findings: &mut Vec<Finding>) {
    let numbers: BTreeSet<u64> = entries.iter().filter_map(|entry| entry.place.sequence).collect();
    let mut next = match (index.trimmed_before(run), numbers.first()) {
        (Some(_), Some(first)) => *first,
        _ => 1,
    };
    for number in numbers {
        if number > next {
            let run = run.to_owned();
            findings.push(Finding::Hole { log, run, first: next, last: number - 1 });
        }
        next = number + 1;
    }
}

/// Checks that somebody sent this event to this run, with this content.
pub fn sent_like_this(
    index: &Index,
    whose: &str,
    run: &str,
    entry: &Entry,
    findings: &mut Vec<Finding>,
) {
    let (whose, run, key) = (whose.to_owned(), run.to_owned(), entry.key.to_owned());
    let sent =
        index.sender(&run, &key).and_then(|op| op.events.iter().find(|sent| sent.key == key));
    match sent {
        None => findings.push(Finding::Phantom { whose, run, key, place: entry.place }),
        Some(sent) if sent.content != entry.content => {
            let (sent, found) = (sent.content.clone(), entry.content.to_owned());
            findings.push(Finding::Changed { whose, run, key, sent, found });
        }
        Some(_) => {}
    }
}

/// Finds what was promised and is not there; gives the keys.
fn lost<'a>(
    index: &Index<'a>,
    log: Log,
    is_there: &impl Fn(&str, &str) -> bool,
    findings: &mut Vec<Finding>,
) -> HashSet<&'a str> {
    let mut received: HashMap<&str, Place> = HashMap::new();
    received.extend(index.received().map(|(_, _, entry)| (entry.key, entry.place)));
    let mut lost = HashSet::new();
    for (number, op) in index.ops.iter().filter(|(_, op)| op.is_promised()) {
        let told = op.places().next();
        for (position, sent) in op.events.iter().enumerate() {
            if is_there(op.run, &sent.key) {
                continue;
            }
            let place = told.and_then(|places| places.get(position));
            let place = place.or_else(|| received.get(sent.key.as_str()));
            if was_trimmed(index, op.run, place) {
                continue;
            }
            lost.insert(sent.key.as_str());
            let place =
                place.map_or("spooled".to_owned(), |place| format!("told to be at {place}"));
            let told = format!("publish {number} was {place}; {log} has it not");
            let (run, key) = (op.run.to_owned(), sent.key.clone());
            findings.push(Finding::Lost { run, key, told });
        }
    }
    lost
}

/// Only where its place is known can an event be known to have been trimmed.
fn was_trimmed(index: &Index, run: &str, place: Option<&Place>) -> bool {
    match (index.trimmed_before(run), place) {
        (Some(oldest), Some(place)) => place.id < oldest,
        _ => false,
    }
}

fn outcome_fits(
    index: &Index,
    number: u64,
    op: &Op,
    is_there: &impl Fn(&str, &str) -> bool,
    findings: &mut Vec<Finding>,
) {
    let there = op.events.iter().filter(|sent| is_there(op.run, &sent.key));
    let there: Vec<&str> = there.map(|sent| sent.key.as_str()).collect();
    if let (Some(codes), Some(key)) = (op.surely_refused(), there.first()) {
        let (run, key) = (op.run.to_owned(), (*key).to_owned());
        findings.push(Finding::RefusedButStored { run, key, codes });
        return;
    }
    let (there, of) = (there.len(), op.events.len());
    // Of what is promised, each event that is missing is lost; that is said elsewhere.
    if 0 < there && there < of && !op.is_promised() && index.trimmed_before(op.run).is_none() {
        findings.push(Finding::Torn { run: op.run.to_owned(), op: number, there, of });
    }
}

/// What a subscriber was shown has to stay, whatever its publisher was told.
fn received_and_gone(
    index: &Index,
    log: Log,
    is_there: &impl Fn(&str, &str) -> bool,
    lost: &HashSet<&str>,
    findings: &mut Vec<Finding>,
) {
    let mut said = HashSet::new();
    for (subscriber, run, entry) in index.received() {
        let gone = !is_there(run, entry.key) && !was_trimmed(index, run, Some(&entry.place));
        let known = lost.contains(entry.key) || index.sender(run, entry.key).is_none();
        if gone && !known && said.insert(entry.key) {
            let told = format!("{subscriber} got it at {}; {log} has it not", entry.place);
            let (run, key) = (run.to_owned(), entry.key.to_owned());
            findings.push(Finding::Lost { run, key, told });
        }
    }
}
