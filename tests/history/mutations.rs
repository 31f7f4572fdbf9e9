//! The checker is checked: a faultless history is clean, and each way of spoiling it is found as what it is
//! and as nothing else.

use super::finding::Finding;
use super::record::{EventId, Log, Outcome, Place, Record, Sent, What};
use super::synthetic::{history, run_name, subscriber_name};
use super::{Bounds, Kind, Recorder, Verdict, check, read};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::time::Duration;

const BOUNDS: Bounds = Bounds { publish: Duration::from_secs(5) };
const SEEDS: u64 = 25;

type Mutation = fn(&mut Vec<Record>, &mut StdRng);

/// Spoils histories of many seeds, and expects to find just this: the variant by name, since several may
/// be of a kind and the tests are to miss each.
macro_rules! finds {
    ($variant:ident, $mutation:expr) => {
        finds(|finding| matches!(finding, Finding::$variant { .. }), $mutation)
    };
}

#[track_caller]
fn finds(wanted: fn(&Finding) -> bool, mutation: Mutation) {
    for seed in 0..SEEDS {
        let mut records = history(seed);
        let before = records.clone();
        mutation(&mut records, &mut StdRng::seed_from_u64(seed));
        assert_ne!(records, before, "seed {seed}: the mutation has changed nothing");
        let report = check(&records, &BOUNDS);
        let found = report.findings.iter().any(wanted);
        assert!(found, "seed {seed}: the findings are {:?}", report.findings);
        assert_eq!(report.kinds().len(), 1, "seed {seed}: {:?}", report.findings);
        assert_eq!(report.verdict(), Verdict::Findings);
    }
}

/// Changes histories of many seeds in a way that is no fault.
#[track_caller]
fn finds_nothing(verdict: Verdict, mutation: Mutation) {
    for seed in 0..SEEDS {
        let mut records = history(seed);
        mutation(&mut records, &mut StdRng::seed_from_u64(seed));
        let report = check(&records, &BOUNDS);
        assert_eq!(report.verdict(), verdict, "seed {seed}: {:?}", report.findings);
    }
}

/// The positions of the records that this is true of.
fn positions(records: &[Record], wanted: impl Fn(&What) -> bool) -> Vec<usize> {
    (0..records.len()).filter(|at| wanted(&records[*at].what)).collect()
}

fn one_of(random: &mut StdRng, of: &[usize]) -> usize {
    of[random.random_range(0..of.len())]
}

fn is_final(what: &What, of: Log) -> bool {
    matches!(what, What::Final { log, .. } if *log == of)
}

fn is_received_by(what: &What, by: usize, on: usize) -> bool {
    matches!(what, What::Received { subscriber, run, .. }
        if *subscriber == subscriber_name(by) && *run == run_name(on))
}

/// Run, key, place and content of an event that was received or is in a log.
fn event(what: &mut What) -> Option<(&str, &mut String, &mut Place, &mut String)> {
    match what {
        What::Received { run, key, place, content, .. }
        | What::Final { run, key, place, content, .. } => Some((run, key, place, content)),
        _ => None,
    }
}

/// The publish whose last attempt came to this.
fn op_that(
    records: &[Record],
    random: &mut StdRng,
    wanted: impl Fn(&What, &[Sent]) -> bool,
) -> (String, String, Vec<Sent>) {
    let mut candidates = Vec::new();
    for pair in records.windows(2) {
        if let What::Invoked { publisher, run, events, attempt: 1, .. } = &pair[0].what
            && wanted(&pair[1].what, events)
        {
            candidates.push((publisher.clone(), run.clone(), events.clone()));
        }
    }
    let at = random.random_range(0..candidates.len());
    candidates.swap_remove(at)
}

fn is_promised(what: &What) -> bool {
    matches!(what, What::Answered { outcome: Outcome::Persisted { .. }, .. })
}

fn is_there(records: &[Record], sent: &Sent) -> bool {
    records.iter().any(|r| matches!(&r.what, What::Final { key, .. } if *key == sent.key))
}

/// Whether the event is at the beginning or the end of its run.
fn is_at_an_edge(records: &[Record], sent: &Sent) -> bool {
    (0..super::synthetic::RUNS).any(|run| {
        let mut keys = records.iter().filter_map(|record| match &record.what {
            What::Final { log: Log::Hub, run: of, key, .. } if *of == run_name(run) => Some(key),
            _ => None,
        });
        keys.next() == Some(&sent.key) || keys.next_back() == Some(&sent.key)
    })
}

fn is_sent_again(records: &[Record], sent: &Sent) -> bool {
    records.iter().any(|record| {
        matches!(&record.what, What::Invoked { attempt: 2, events, .. } if events.contains(sent))
    })
}

/// Puts an event behind the end of a run, for everybody.
fn append(records: &mut Vec<Record>, run: &str, sent: &Sent) {
    let last = records.iter_mut().filter_map(|record| event(&mut record.what));
    let last = last.filter(|(of, ..)| *of == run).map(|(_, _, place, _)| *place).max().unwrap();
    let id = EventId { ms: last.id.ms + 1, n: 0 };
    let place = Place { id, sequence: last.sequence.map(|n| n + 1) };
    let at = records.last().unwrap().at;
    let (run, key, content) = (run.to_owned(), sent.key.clone(), sent.content.clone());
    for subscriber in (0..super::synthetic::SUBSCRIBERS).map(subscriber_name) {
        let (run, key, content) = (run.clone(), key.clone(), content.clone());
        records.push(Record { at, what: What::Received { subscriber, run, key, place, content } });
    }
    for log in [Log::Hub, Log::Store] {
        let (run, key, content) = (run.clone(), key.clone(), content.clone());
        records.push(Record { at, what: What::Final { log, run, key, place, content } });
    }
}

fn gap(reason: &str, run: usize, by: usize, requested: EventId, oldest: EventId) -> What {
    What::Gap {
        subscriber: subscriber_name(by),
        run: run_name(run),
        reason: reason.to_owned(),
        requested: Some(requested),
        oldest: Some(oldest),
        missed: None,
    }
}

fn place_at(records: &mut [Record], at: usize) -> Place {
    *event(&mut records[at].what).unwrap().2
}

#[test]
fn a_faultless_history_is_clean() {
    finds_nothing(Verdict::Clean, |_, _| {});
}

#[test]
fn a_history_survives_its_file() {
    let (file, records) = (tempfile::NamedTempFile::new().unwrap(), history(1));
    let recorder = Recorder::create(file.path()).unwrap();
    for record in &records {
        recorder.record(record.what.clone());
    }
    recorder.flush().unwrap();
    let back = read(file.path()).unwrap();
    assert!(back.iter().map(|r| &r.what).eq(records.iter().map(|r| &r.what)));
    assert!(back.is_sorted_by_key(|r| r.at));
}

#[test]
fn without_a_fault_or_a_doubt_it_is_void() {
    finds_nothing(Verdict::Void, |records, _| {
        records.retain(|r| !matches!(r.what, What::FaultBegun { .. } | What::FaultEnded { .. }));
    });
    finds_nothing(Verdict::Void, |records, _| {
        let mut doubtful = BTreeSet::new();
        for record in records.iter() {
            match &record.what {
                What::Unknown { op, .. }
                | What::Answered {
                    op, outcome: Outcome::Spooled | Outcome::Refused { .. }, ..
                } => {
                    doubtful.insert(*op);
                }
                _ => {}
            }
        }
        // What was in doubt is said to have been accepted at once.
        records.retain(|r| !matches!(&r.what, What::Invoked { op, attempt, .. } if doubtful.contains(op) && *attempt > 1));
        for record in records.iter_mut() {
            match record.what {
                What::Unknown { op, attempt, .. } | What::Answered { op, attempt, .. }
                    if doubtful.contains(&op) =>
                {
                    let outcome = Outcome::Accepted;
                    record.what = What::Answered { op, attempt, outcome };
                }
                What::Unreached { op, attempt } => {
                    record.what = What::Answered { op, attempt, outcome: Outcome::Accepted };
                }
                _ => {}
            }
        }
    });
}

#[test]
fn an_acknowledged_event_that_is_gone_is_lost() {
    finds!(Lost, |records, random| {
        let (_, _, events) = op_that(records, random, |end, _| is_promised(end));
        records.retain(|r| !matches!(&r.what, What::Final { key, .. } if *key == events[0].key));
    });
}

#[test]
fn a_spooled_event_that_nobody_ever_saw_is_lost() {
    finds!(Lost, |records, random| {
        let spooled = |end: &What| matches!(end, What::Answered { outcome: Outcome::Spooled, .. });
        let (_, _, events) = op_that(records, random, |end, _| spooled(end));
        records.retain_mut(|r| event(&mut r.what).is_none_or(|(_, key, ..)| *key != events[0].key));
    });
}

#[test]
fn an_event_that_was_delivered_and_is_gone_is_lost() {
    finds!(Lost, |records, random| {
        let all = records.clone();
        let (_, _, events) = op_that(records, random, |end, events| {
            matches!(end, What::Unknown { .. }) && is_there(&all, &events[0])
        });
        // Their subscribers still tell of them.
        let gone = |key: &String| events.iter().any(|sent| sent.key == *key);
        records.retain(|r| !matches!(&r.what, What::Final { key, .. } if gone(key)));
    });
}

#[test]
fn an_event_that_only_the_store_lacks_is_lost() {
    finds!(Lost, |records, random| {
        let (_, _, events) = op_that(records, random, |end, _| is_promised(end));
        records.retain(|r| {
            !matches!(&r.what, What::Final { log: Log::Store, key, .. } if *key == events[0].key)
        });
    });
}

#[test]
fn a_number_that_nobody_has_is_lost() {
    finds!(Hole, |records, random| {
        let all = records.clone();
        let (_, _, events) = op_that(records, random, |end, events| {
            matches!(end, What::Unknown { .. })
                && is_there(&all, &events[0])
                && !events.iter().any(|sent| is_at_an_edge(&all, sent))
                && !is_sent_again(&all, &events[0])
        });
        records.retain_mut(|record| {
            let key = event(&mut record.what).map(|(_, key, ..)| key.clone());
            key.is_none_or(|key| !events.iter().any(|sent| sent.key == key))
        });
    });
}

#[test]
fn an_event_that_is_stored_twice_is_doubled() {
    finds!(StoredTwice, |records, random| {
        let (_, run, events) = op_that(records, random, |end, _| is_promised(end));
        append(records, &run, &events[0]);
    });
}

#[test]
fn an_event_that_comes_twice_is_doubled() {
    finds!(DeliveredTwice, |records, random| {
        let at = one_of(random, &positions(records, |what| is_received_by(what, 1, 0)));
        records.insert(at, records[at].clone());
    });
    // Much later, as behind a reconnect that went back too far.
    finds!(DeliveredTwice, |records, random| {
        let at = one_of(random, &positions(records, |what| is_received_by(what, 1, 0)));
        records.push(records[at].clone());
    });
}

#[test]
fn a_reset_that_was_none_is_doubled() {
    finds!(DeliveredTwice, |records, random| {
        let received = positions(records, |what| is_received_by(what, 2, 1));
        let upto = random.random_range(1..received.len());
        let had: Vec<Record> = received[..upto].iter().map(|at| records[*at].clone()).collect();
        let last = place_at(records, received[upto - 1]).id;
        let first = place_at(records, received[0]).id;
        let at = received[upto - 1] + 1;
        let reset = Record { at: records[at - 1].at, what: gap("reset", 1, 2, last, first) };
        records.splice(at..at, std::iter::once(reset).chain(had));
    });
}

#[test]
fn an_event_that_nobody_sent_is_a_phantom() {
    finds!(Phantom, |records, _| {
        let sent = Sent { key: "nobody-1".to_owned(), content: "out of nothing".to_owned() };
        append(records, &run_name(0), &sent);
    });
    finds!(Phantom, |records, random| {
        let at = one_of(random, &positions(records, |what| is_received_by(what, 0, 0)));
        let mut copy = records[at].clone();
        let (_, key, place, _) = event(&mut copy.what).unwrap();
        *key = "nobody-2".to_owned();
        place.id.n += 100;
        records.insert(at + 1, copy);
    });
}

#[test]
fn an_event_of_another_run_is_a_phantom() {
    finds!(Phantom, |records, random| {
        let (_, run, events) = op_that(records, random, |end, _| is_promised(end));
        let other = if run == run_name(0) { run_name(1) } else { run_name(0) };
        append(records, &other, &events[0]);
    });
}

#[test]
fn a_log_that_goes_back_is_reordered() {
    finds!(Backwards, |records, random| {
        let lines = positions(records, |what| {
            is_final(what, Log::Hub)
                && matches!(what, What::Final { run, .. } if *run == run_name(0))
        });
        let at = one_of(random, &lines[..lines.len() - 1]);
        records.swap(at, at + 1);
    });
}

#[test]
fn a_stream_that_goes_back_is_reordered() {
    finds!(Backwards, |records, random| {
        let received = positions(records, |what| is_received_by(what, 0, 1));
        let at = random.random_range(0..received.len() - 1);
        records.swap(received[at], received[at + 1]);
    });
}

/// Exchanges what two records say of which event it is, but not where it is.
fn exchange_events(records: &mut [Record], a: usize, b: usize) {
    let of = |records: &mut [Record], at: usize| {
        let (_, key, _, content) = event(&mut records[at].what).unwrap();
        (key.clone(), content.clone())
    };
    let (first, second) = (of(records, a), of(records, b));
    for (at, (new_key, new_content)) in [(a, second), (b, first)] {
        let (_, key, _, content) = event(&mut records[at].what).unwrap();
        (*key, *content) = (new_key, new_content);
    }
}

#[test]
fn a_history_in_another_order_than_was_told_is_reordered() {
    finds!(Displaced, |records, random| {
        let lines = positions(records, |what| {
            is_final(what, Log::Hub)
                && matches!(what, What::Final { run, .. } if *run == run_name(1))
        });
        let at = one_of(random, &lines[..lines.len() - 1]);
        exchange_events(records, at, at + 1);
    });
}

#[test]
fn subscribers_that_disagree_are_reordered() {
    finds!(Displaced, |records, random| {
        let received = positions(records, |what| is_received_by(what, 1, 1));
        let at = random.random_range(0..received.len() - 1);
        exchange_events(records, received[at], received[at + 1]);
    });
}

#[test]
fn another_place_than_was_told_is_reordered() {
    finds!(Displaced, |records, random| {
        let at = one_of(random, &positions(records, is_promised));
        if let What::Answered { outcome: Outcome::Persisted { places }, .. } = &mut records[at].what
        {
            places[0].sequence = places[0].sequence.map(|n| n + 1);
        }
    });
}

#[test]
fn a_publishers_order_turned_round_for_everybody_is_reordered() {
    finds!(PublisherOrder, |records, _| {
        // Two publishes of one event each, of one publisher to one run, both told where they are.
        let mut single: Vec<(String, String, Sent)> = Vec::new();
        let mut found = None;
        for pair in records.windows(2) {
            if let What::Invoked { publisher, run, events, .. } = &pair[0].what
                && events.len() == 1
                && is_promised(&pair[1].what)
            {
                let earlier = single.iter().find(|(p, r, _)| p == publisher && r == run);
                if let Some((_, _, earlier)) = earlier {
                    found = Some((earlier.clone(), events[0].clone()));
                    break;
                }
                single.push((publisher.clone(), run.clone(), events[0].clone()));
            }
        }
        let (first, second) = found.unwrap();
        let op_of = |sent: &Sent| sent.key.split_once('-').unwrap().0.parse::<u64>().unwrap();
        let (a, b) = (op_of(&first), op_of(&second));
        let mut told = Vec::new();
        for record in records.iter_mut() {
            if let Some((_, key, _, content)) = event(&mut record.what) {
                let new = match &*key {
                    key if *key == first.key => &second,
                    key if *key == second.key => &first,
                    _ => continue,
                };
                (*key, *content) = (new.key.clone(), new.content.clone());
            } else if let What::Answered { op, outcome: Outcome::Persisted { places }, .. } =
                &mut record.what
                && (*op == a || *op == b)
            {
                told.push(places);
            }
        }
        let [one, other] = told.try_into().unwrap();
        std::mem::swap(one, other);
    });
}

#[test]
fn an_event_that_a_stream_leaves_out_is_skipped() {
    finds!(Skipped, |records, random| {
        let received = positions(records, |what| is_received_by(what, 2, 0));
        records.remove(one_of(random, &received[..received.len() - 1]));
    });
    finds!(Skipped, |records, _| {
        records.remove(positions(records, |what| is_received_by(what, 2, 0))[0]);
    });
}

#[test]
fn a_gap_that_was_none_is_skipped() {
    finds!(Skipped, |records, random| {
        let received = positions(records, |what| is_received_by(what, 2, 0));
        let at = random.random_range(1..received.len() - 1);
        let requested = place_at(records, received[at - 1]).id;
        let oldest = place_at(records, received[at + 1]).id;
        records[received[at]].what = gap("trimmed", 0, 2, requested, oldest);
    });
}

/// Trims a run, for two subscribers that come late; one of them is told.
fn trim(records: &mut Vec<Record>, tell_both: bool) {
    const KEPT_FROM: u64 = 20;
    let zero = EventId { ms: 0, n: 0 };
    let received = positions(records, |what| is_received_by(what, 0, 0));
    let oldest = received.iter().map(|at| place_at(records, *at)).nth(KEPT_FROM as usize - 1);
    let oldest = oldest.unwrap();
    assert_eq!(oldest.sequence, Some(KEPT_FROM));
    let first = |records: &[Record], by| positions(records, |what| is_received_by(what, by, 0))[0];
    for by in [1, 2] {
        if by == 1 || tell_both {
            let (at, what) = (first(records, by), gap("trimmed", 0, by, zero, oldest.id));
            records.insert(at, Record { at: records[at].at, what });
        }
    }
    records.retain_mut(|record| {
        let late = is_received_by(&record.what, 1, 0) || is_received_by(&record.what, 2, 0);
        let in_a_log = matches!(&record.what, What::Final { run, .. } if *run == run_name(0));
        match event(&mut record.what) {
            Some((_, _, place, _)) if late || in_a_log => place.sequence >= Some(KEPT_FROM),
            _ => true,
        }
    });
}

#[test]
fn trimmed_events_are_skipped_unless_it_is_said() {
    finds_nothing(Verdict::Clean, |records, _| trim(records, true));
    finds!(Skipped, |records, _| trim(records, false));
}

#[test]
fn what_comes_out_otherwise_than_it_went_in_is_changed() {
    for wanted in [
        (|what: &What| is_final(what, Log::Hub)) as fn(&What) -> bool,
        |what| is_final(what, Log::Store),
        |what| is_received_by(what, 0, 0),
    ] {
        for seed in 0..SEEDS {
            let (mut records, mut random) = (history(seed), StdRng::seed_from_u64(seed));
            let at = one_of(&mut random, &positions(&records, wanted));
            event(&mut records[at].what).unwrap().3.push('!');
            let kinds = check(&records, &BOUNDS).kinds();
            assert_eq!(kinds, BTreeSet::from([Kind::Changed]), "seed {seed}");
        }
    }
}

#[test]
fn a_batch_that_is_there_in_part_is_torn() {
    finds!(Torn, |records, random| {
        let all = records.clone();
        let (_, run, events) = op_that(records, random, |end, events| {
            matches!(end, What::Unknown { .. }) && events.len() > 1 && !is_there(&all, &events[0])
        });
        append(records, &run, &events[0]);
    });
}

#[test]
fn a_subscriber_without_the_end_is_stalled() {
    finds!(Behind, |records, _| {
        records.remove(*positions(records, |what| is_received_by(what, 1, 1)).last().unwrap());
    });
    finds!(Behind, |records, _| records.retain(|r| !is_received_by(&r.what, 1, 1)));
}

#[test]
fn an_attempt_without_an_end_is_stalled() {
    finds!(Unanswered, |records, random| {
        let ends = positions(records, |what| {
            matches!(what, What::Unknown { .. } | What::Answered { outcome: Outcome::Accepted, .. })
        });
        records.remove(one_of(random, &ends));
    });
}

#[test]
fn a_publish_that_takes_too_long_is_stalled() {
    const LONGER: u64 = 6_000_000;
    finds!(Slow, |records, random| {
        let at = one_of(random, &positions(records, is_promised));
        records[at..].iter_mut().for_each(|record| record.at += LONGER);
    });
    // A hub that is stopped answers nobody.
    finds_nothing(Verdict::Clean, |records, _| {
        let ends =
            |what: &What| matches!(what, What::FaultEnded { name } if name == "the hub is stopped");
        let at = positions(records, ends)[0];
        records[at..].iter_mut().for_each(|record| record.at += LONGER);
    });
}

#[test]
fn what_others_have_found_is_passed_on() {
    finds!(Overdue, |records, _| {
        let what = What::Overdue { what: "the mode is normal".to_owned() };
        records.push(Record { at: records.last().unwrap().at, what });
    });
    finds!(Broken, |records, _| {
        let what = What::Broken { what: "half a frame".to_owned() };
        records.push(Record { at: records.last().unwrap().at, what });
    });
}

#[test]
fn a_refused_publish_that_is_there_is_found() {
    finds!(RefusedButStored, |records, random| {
        let (_, run, events) = op_that(
            records,
            random,
            |end, _| matches!(end, What::Answered { outcome: Outcome::Refused { code }, .. } if code == "SPOOL_FULL"),
        );
        for sent in &events {
            append(records, &run, sent);
        }
    });
}
