//! Whether everything came to an end, and in time.

use super::finding::Finding;
use super::index::{Index, received};
use super::record::What;
use super::report::Bounds;

pub fn check(index: &Index, bounds: &Bounds, findings: &mut Vec<Finding>) {
    attempts(index, bounds, findings);
    subscribers(index, findings);
    findings.extend(index.complaints.iter().filter_map(|what| match what {
        What::Overdue { what } => Some(Finding::Overdue { what: what.clone() }),
        What::Broken { what } => Some(Finding::Broken { what: what.clone() }),
        _ => None,
    }));
}

fn attempts(index: &Index, bounds: &Bounds, findings: &mut Vec<Finding>) {
    for (number, op) in &index.ops {
        for (attempt, sent) in &op.attempts {
            let (op, attempt) = (*number, *attempt);
            let Some((ended, _)) = sent.ended else {
                findings.push(Finding::Unanswered { op, attempt });
                continue;
            };
            let stopped: u64 = index
                .stops
                .iter()
                .map(|(from, to)| ended.min(*to).saturating_sub(sent.began.max(*from)))
                .sum();
            let took_us = (ended - sent.began).saturating_sub(stopped);
            if u128::from(took_us) > bounds.publish.as_micros() {
                findings.push(Finding::Slow { op, attempt, took_us });
            }
        }
    }
}

fn subscribers(index: &Index, findings: &mut Vec<Finding>) {
    for ((subscriber, run), seen) in &index.streams {
        let Some(end) = index.history(run).last().map(|entry| entry.place) else { continue };
        let last = seen.iter().filter_map(|what| received(what)).map(|entry| entry.place).max();
        if last.is_none_or(|last| last < end) {
            let (subscriber, run) = ((*subscriber).to_owned(), (*run).to_owned());
            findings.push(Finding::Behind { subscriber, run, last, end });
        }
    }
}
