//! Order: of each log, of each publisher's publishes, and the same one for everybody.

use super::finding::Finding;
use super::index::{Entry, Index};
use super::record::{Log, Place};
use std::collections::HashMap;

pub fn check(index: &Index, findings: &mut Vec<Finding>) {
    for ((log, run), entries) in &index.logs {
        backwards(*log, run, entries, findings);
    }
    places(index, findings);
    publishers(index, findings);
}

fn backwards(log: Log, run: &str, entries: &[Entry], findings: &mut Vec<Finding>) {
    let mut high: Option<Place> = None;
    for entry in entries {
        if let Some(behind) = high.filter(|high| !entry.place.is_behind(*high)) {
            findings.push(Finding::Backwards {
                whose: log.to_string(),
                run: run.to_owned(),
                key: entry.key.to_owned(),
                place: entry.place,
                behind,
            });
        }
        high = Some(entry.place.after(high));
    }
}

/// An event's place is the same for its publisher, for every subscriber and in every log. So two
/// subscribers cannot disagree about the order either.
fn places(index: &Index, findings: &mut Vec<Finding>) {
    // The history goes first: it is what the others are measured by. An event that is there twice has two
    // places, and is told of elsewhere.
    let mut known: HashMap<(&str, &str), (String, Vec<Place>)> = HashMap::new();
    let in_logs = index.logs.iter().flat_map(|((log, run), entries)| {
        entries.iter().map(move |entry| (log.to_string(), *run, entry.key, entry.place))
    });
    for (whose, run, key, place) in
        in_logs.clone().filter(|(whose, ..)| *whose == Log::Hub.to_string())
    {
        known.entry((run, key)).or_insert_with(|| (whose, Vec::new())).1.push(place);
    }
    let told = index.ops.iter().flat_map(|(number, op)| {
        let sent = op.places().flat_map(|places| op.events.iter().zip(places));
        sent.map(move |(sent, place)| {
            (format!("publish {number}"), op.run, sent.key.as_str(), *place)
        })
    });
    let received = index
        .received()
        .map(|(subscriber, run, entry)| (subscriber.to_owned(), run, entry.key, entry.place));
    for (whose, run, key, place) in told.chain(received).chain(in_logs) {
        let (first, places) =
            known.entry((run, key)).or_insert_with(|| (whose.clone(), vec![place]));
        if !places.contains(&place) {
            findings.push(Finding::Displaced {
                run: run.to_owned(),
                key: key.to_owned(),
                whose: [first.clone(), whose],
                places: [places[0], place],
            });
        }
    }
}

/// A publisher sends its next publish when the last one is acknowledged: so that stands before it. The same
/// holds within a batch.
fn publishers(index: &Index, findings: &mut Vec<Finding>) {
    let mut place_of: HashMap<(&str, &str), Place> = HashMap::new();
    for ((_, run), entries) in index.logs.iter().filter(|((log, _), _)| *log == Log::Hub) {
        for entry in entries {
            // Of one that is there twice, the first is the one that counts.
            place_of.entry((run, entry.key)).or_insert(entry.place);
        }
    }
    let mut last: HashMap<(&str, &str), (&str, Place)> = HashMap::new();
    // Numbers of publishes rise as they are sent.
    for op in index.ops.values().filter(|op| op.is_promised()) {
        let here = (op.publisher, op.run);
        for sent in op.events {
            let Some(place) = place_of.get(&(op.run, &sent.key)) else { continue };
            if let Some((first, earlier)) = last.insert(here, (&sent.key, *place))
                && !place.is_behind(earlier)
            {
                findings.push(Finding::PublisherOrder {
                    publisher: op.publisher.to_owned(),
                    run: op.run.to_owned(),
                    first: first.to_owned(),
                    second: sent.key.clone(),
                });
            }
        }
    }
}
