//! The checker is checked on histories in which other programs have added events, which have no number.

use super::finding::Finding;
use super::record::{Outcome, Place, Record, Sent, What};
use super::synthetic::{history, subscriber_name};
use super::{Bounds, Kind, Report, Verdict, check};
use std::collections::HashMap;
use std::time::Duration;

const BOUNDS: Bounds = Bounds { publish: Duration::from_secs(5) };
const SEEDS: u64 = 25;

/// A faultless history in which every third event has no number, and the others have dense ones.
fn mixed(seed: u64) -> Vec<Record> {
    let mut records = history(seed);
    for record in &mut records {
        match &mut record.what {
            What::Received { place, .. } | What::Final { place, .. } => renumber(place),
            What::Answered {
                outcome: Outcome::Persisted { places } | Outcome::Duplicate { places },
                ..
            } => places.iter_mut().for_each(renumber),
            _ => {}
        }
    }
    records
}

fn renumber(place: &mut Place) {
    place.sequence = place.sequence.filter(|n| n % 3 != 0).map(|n| n - n / 3);
}

/// The events without a number that one subscriber got, by their position, but for its first and last event of a run.
fn unnumbered_within(records: &[Record], of: &str) -> Vec<usize> {
    let mut of_run: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, record) in records.iter().enumerate() {
        if let What::Received { subscriber, run, .. } = &record.what
            && subscriber == of
        {
            of_run.entry(run).or_default().push(at);
        }
    }
    let inner = of_run.values().flat_map(|at| &at[1..at.len() - 1]).copied();
    inner.filter(|at| place_of(&records[*at]).sequence.is_none()).collect()
}

fn place_of(record: &Record) -> Place {
    match &record.what {
        What::Received { place, .. } | What::Final { place, .. } => *place,
        other => panic!("{other:?} has no place"),
    }
}

/// Spoils histories of many seeds at an event without a number, and expects just this to be found.
#[track_caller]
fn finds(kind: Kind, wanted: fn(&Finding) -> bool, spoil: fn(&mut Vec<Record>, usize)) {
    for seed in 0..SEEDS {
        let mut records = mixed(seed);
        let candidates = unnumbered_within(&records, &subscriber_name(1));
        let at = candidates[seed as usize % candidates.len()];
        spoil(&mut records, at);
        let Report { findings, .. } = check(&records, &BOUNDS);
        assert!(findings.iter().any(wanted), "seed {seed}: the findings are {findings:?}");
        assert!(findings.iter().all(|f| f.kind() == kind), "seed {seed}: {findings:?}");
    }
}

#[test]
fn what_others_have_added_is_clean() {
    for seed in 0..SEEDS {
        let report = check(&mixed(seed), &BOUNDS);
        assert_eq!(report.verdict(), Verdict::Clean, "seed {seed}: {:?}", report.findings);
    }
}

#[test]
fn what_others_have_added_and_a_stream_leaves_out_is_skipped() {
    finds(
        Kind::Skipped,
        |finding| matches!(finding, Finding::SkippedUnnumbered { .. }),
        |records, at| drop(records.remove(at)),
    );
}

#[test]
fn what_others_have_added_and_comes_twice_is_doubled() {
    finds(
        Kind::Doubled,
        |finding| matches!(finding, Finding::DeliveredTwice { .. }),
        |records, at| records.insert(at + 1, records[at].clone()),
    );
}

#[test]
fn what_others_have_added_and_comes_late_is_reordered() {
    finds(
        Kind::Reordered,
        |finding| matches!(finding, Finding::Backwards { .. }),
        |records, at| {
            let What::Received { subscriber: by, run: on, .. } = &records[at].what else {
                unreachable!("it was received")
            };
            let next = records.iter().enumerate().skip(at + 1).find(|(_, record)| {
                matches!(&record.what, What::Received { subscriber, run, .. }
                    if subscriber == by && run == on)
            });
            let next = next.expect("it is not the last").0;
            let late = records.remove(at);
            // Behind the next one, which has moved up.
            records.insert(next, late);
        },
    );
}

#[test]
fn what_others_have_added_and_is_gone_is_lost() {
    for seed in 0..SEEDS {
        let mut records = mixed(seed);
        let mut invoked: HashMap<u64, Vec<Sent>> = HashMap::new();
        let gone = records.iter().find_map(|record| match &record.what {
            What::Invoked { op, events, .. } => {
                invoked.insert(*op, events.clone());
                None
            }
            What::Answered { op, outcome: Outcome::Persisted { places }, .. } => {
                let at = places.iter().position(|place| place.sequence.is_none())?;
                Some(invoked[op][at].key.clone())
            }
            _ => None,
        });
        let gone = gone.expect("one of many has no number");
        records.retain(|record| {
            !matches!(&record.what,
            What::Final { key, .. } | What::Received { key, .. } if *key == gone)
        });
        let found = check(&records, &BOUNDS).findings;
        let is_lost =
            |finding: &Finding| matches!(finding, Finding::Lost { key, .. } if *key == gone);
        assert!(found.iter().any(is_lost), "seed {seed}: {found:?}");
    }
}
