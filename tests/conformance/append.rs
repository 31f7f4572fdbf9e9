//! Appending: order, places, and batches that are sent twice.

use super::publishing::{Writer, event, numbered, run_id, send, send_again, send_anew};
use super::reading::{all, numbers, sequences, until};
use super::{Bench, Store, rules};
use runhub::event::{EventId, NewEvent, RunId, Sequence, StoredEvent};
use runhub::store::{Placed, PublishOutcome, RunAppend};
use tokio::task::JoinSet;

on_every_store!(
    one_call_appends_to_many_runs,
    events_of_all_sorts_share_a_call,
    events_between_like_ones_keep_their_own_source,
    sequences_have_no_hole_and_ids_rise,
    writers_at_once_leave_no_hole,
    publishes_of_one_batch_are_told_apart,
    a_batch_sent_again_stores_nothing,
    a_batch_sent_again_with_more_stores_what_is_new,
    a_batch_of_another_writer_is_applied,
    an_event_reads_back_byte_for_byte,
    a_healthy_store_says_so,
);

fn places(events: &[StoredEvent]) -> Vec<(EventId, Sequence)> {
    events.iter().map(|e| (e.id, e.sequence.unwrap())).collect()
}

/// The places told, none of which may be a duplicate's.
fn told(placed: &[Placed]) -> Vec<(EventId, Sequence)> {
    assert!(placed.iter().all(|p| !p.duplicate));
    placed.iter().map(|p| (p.id, p.sequence)).collect()
}

async fn one_call_appends_to_many_runs(bench: Bench) {
    let store = bench.open(rules());
    let runs: Vec<_> = (1..=20).map(|n| run_id(&format!("run-{n}"))).collect();
    // Of another length each, so that answers that are mixed up are noticed.
    let batches: Vec<RunAppend> = (1..)
        .zip(&runs)
        .map(|(n, run)| Writer::new(&store, run).batch(vec![numbered(run, 1..=n)]))
        .collect();
    let results = store.append(&batches).await;
    assert_eq!(results.len(), runs.len());
    for ((n, run), result) in (1..).zip(&runs).zip(results) {
        let outcomes = result.unwrap();
        let [PublishOutcome::Stored(placed)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        let events = all(&store, run).await;
        assert_eq!(told(placed), places(&events));
        assert_eq!(numbers(&events), (1..=n).collect::<Vec<_>>());
        assert_eq!(sequences(&events), (1..=n).collect::<Vec<_>>());
    }
}

/// The n-th of events that differ from the one before now in this, now in that, and now in nothing.
fn varied(run: &RunId, n: usize) -> NewEvent {
    let sources = [
        "",
        r#","source":{"agent_id":"r1","agent_type":"worker"}"#,
        r#","source":{"agent_id":"r1","agent_type":"worker","depth":2}"#,
        r#","source":{"team_name":"t"}"#,
    ];
    let extras = ["", "", r#","session_id":"s","tags":["x"]"#];
    let kinds = ["llm.stream", "llm.stream", "tool.start", "lifecycle.completed"];
    let key = if n % 11 == 5 { format!(r#","event_id":"k{n}""#) } else { String::new() };
    let (source, extra, kind) =
        (sources[n / 3 % sources.len()], extras[n % extras.len()], kinds[n / 7 % kinds.len()]);
    event(run, &format!(r#"{{"type":"{kind}","data":{n}{source}{extra}{key}}}"#))
}

async fn events_of_all_sorts_share_a_call(bench: Bench) {
    let store = bench.open(rules());
    let runs: Vec<RunId> = (0..9).map(|n| run_id(&format!("run-{n}"))).collect();
    // A hub's events are one writer's, but for what it drains of an earlier life's.
    let mut writers = [&runs[0], &runs[1]].map(|run| Writer::new(&store, run));
    let mut sent: Vec<Vec<NewEvent>> = vec![Vec::new(); runs.len()];
    let mut n = 0;
    // New runs first, then known ones, of which some have ended.
    for round in 0..8 {
        let mut batches = Vec::new();
        for (index, run) in runs.iter().enumerate().skip(round % 3) {
            let mut publishes = Vec::new();
            for count in 1..=1 + index % 3 {
                let events: Vec<NewEvent> = (n..n + count).map(|n| varied(run, n)).collect();
                n += count;
                sent[index].extend(events.iter().cloned());
                publishes.push(events);
            }
            batches.push(writers[usize::from(index % 4 == 1)].batch_to(run, publishes));
        }
        for (batch, result) in batches.iter().zip(store.append(&batches).await) {
            let outcomes = result.unwrap();
            assert_eq!(outcomes.len(), batch.publishes.len());
            for (outcome, publish) in outcomes.iter().zip(&batch.publishes) {
                let PublishOutcome::Stored(placed) = outcome else { panic!("{outcome:?}") };
                assert_eq!(placed.len(), publish.events.len());
            }
        }
    }
    assert_holds(&store, &runs, &sent).await;
}

/// Asserts that each run holds what was sent to it, and nothing else.
async fn assert_holds(store: &Store, runs: &[RunId], sent: &[Vec<NewEvent>]) {
    for (run, sent) in runs.iter().zip(sent) {
        let read = all(store, run).await;
        assert_eq!(read.len(), sent.len());
        for (read, sent) in read.iter().zip(sent) {
            assert_eq!(read.event, sent.event);
        }
        assert_eq!(sequences(&read), (1..=sent.len() as u64).collect::<Vec<_>>());
    }
}

async fn events_between_like_ones_keep_their_own_source(bench: Bench) {
    let store = bench.open(rules());
    let runs = ["a", "b", "c"].map(run_id);
    let kinds = [("llm.stream", "r1", 2), ("tool.start", "r2", 1), ("llm.stream", "r1", 2)];
    let mut writer = Writer::new(&store, &runs[0]);
    let mut sent = vec![Vec::new(); runs.len()];
    // The one between goes to a run that is new, then to one that is known.
    for _ in 0..2 {
        let mut batches = Vec::new();
        for ((run, sent), (kind, agent, count)) in runs.iter().zip(&mut sent).zip(kinds) {
            let json = format!(r#"{{"type":"{kind}","source":{{"agent_id":"{agent}"}}}}"#);
            let events: Vec<NewEvent> = (0..count).map(|_| event(run, &json)).collect();
            sent.extend(events.iter().cloned());
            batches.push(writer.batch_to(run, vec![events]));
        }
        assert!(store.append(&batches).await.iter().all(Result::is_ok));
        assert_holds(&store, &runs, &sent).await;
    }
}

async fn sequences_have_no_hole_and_ids_rise(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let mut placed = Vec::new();
    for first in [1, 51, 101] {
        placed.extend(writer.publish_numbers(first..=first + 49).await);
    }
    let events = all(&store, &run).await;
    assert_eq!(told(&placed), places(&events));
    assert_eq!(sequences(&events), (1..=150).collect::<Vec<_>>());
    assert_eq!(numbers(&events), (1..=150).collect::<Vec<_>>());
    assert!(events[0].id > EventId::START);
    assert!(events.is_sorted_by(|a, b| a.id < b.id));
}

async fn writers_at_once_leave_no_hole(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let mut writer = Writer::new(&store, &run);
        tasks.spawn(async move {
            let mut placed = Vec::new();
            for n in 1..=10 {
                placed.extend(writer.publish_numbers(n..=n + 1).await);
            }
            placed
        });
    }
    let of_each = tasks.join_all().await;
    for placed in &of_each {
        assert!(placed.is_sorted_by(|a, b| a.id < b.id && a.sequence < b.sequence));
    }
    let mut of_all = told(&of_each.concat());
    of_all.sort_unstable();
    let events = all(&store, &run).await;
    assert_eq!(places(&events), of_all);
    assert_eq!(sequences(&events), (1..=320).collect::<Vec<_>>());
}

async fn publishes_of_one_batch_are_told_apart(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let publishes = vec![numbered(&run, 1..=1), numbered(&run, 2..=4), numbered(&run, 5..=6)];
    let outcomes = Writer::new(&store, &run).append(publishes).await;
    let stored = outcomes.into_iter().map(|outcome| match outcome {
        PublishOutcome::Stored(placed) => placed,
        reused => panic!("{reused:?}"),
    });
    let stored: Vec<Vec<Placed>> = stored.collect();
    assert_eq!(stored.iter().map(Vec::len).collect::<Vec<_>>(), [1, 3, 2]);
    let events = all(&store, &run).await;
    assert_eq!(told(&stored.concat()), places(&events));
    assert_eq!(numbers(&events), [1, 2, 3, 4, 5, 6]);
}

async fn a_batch_sent_again_stores_nothing(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let first = writer.batch(vec![numbered(&run, 1..=2)]);
    send_anew(&store, &first).await;
    send_again(&store, &first).await;
    let second = writer.batch(vec![numbered(&run, 3..=3)]);
    send_anew(&store, &second).await;
    send_again(&store, &second).await;
    // A straggler of an earlier attempt.
    send_again(&store, &first).await;
    let events = all(&store, &run).await;
    assert_eq!((numbers(&events), sequences(&events)), (vec![1, 2, 3], vec![1, 2, 3]));
}

async fn a_batch_sent_again_with_more_stores_what_is_new(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let first = writer.batch(vec![numbered(&run, 1..=2), numbered(&run, 3..=3)]);
    assert_eq!(send(&store, &first).await.len(), 2);
    // As a hub does that drains what another has left: cut in another way.
    let mut more = writer.batch(vec![numbered(&run, 4..=5)]);
    more.publishes.insert(0, first.publishes[1].clone());
    let outcomes = send(&store, &more).await;
    let [PublishOutcome::Already, PublishOutcome::Stored(placed)] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    let events = all(&store, &run).await;
    assert_eq!(told(placed), places(&events)[3..]);
    assert_eq!((numbers(&events), sequences(&events).last()), (vec![1, 2, 3, 4, 5], Some(&5)));
}

async fn a_batch_of_another_writer_is_applied(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut first = Writer::new(&store, &run);
    for n in 1..=3 {
        first.publish_numbers(n..=n).await;
    }
    // Its first batch, when the other one is at its third.
    Writer::new(&store, &run).publish_numbers(4..=4).await;
    // A writer's batches are numbered over all its runs.
    let other = run_id("other");
    send_anew(&store, &first.batch_to(&other, vec![numbered(&other, 1..=1)])).await;
    assert_eq!(numbers(&all(&store, &run).await), [1, 2, 3, 4]);
    assert_eq!(numbers(&all(&store, &other).await), [1]);
}

async fn an_event_reads_back_byte_for_byte(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let data = [
        "null",
        "1e400",
        "-0.0",
        "12345678901234567890",
        r#"{"b":1.10,"a":"\u00e9é","b":2}"#,
        "[1,\n 2,\t{ } ]",
        r#""\u2028 \ud83d\ude00😀 \\ \" \u0000""#,
    ];
    let mut sent: Vec<_> = data
        .iter()
        .map(|data| event(&run, &format!(r#"{{"type":"a.b","data":{data}}}"#)))
        .collect();
    sent.push(event(
        &run,
        r#"{"type":"tool.end","timestamp":"2025-01-01T12:00:00.001Z","data":1,"event_id":"k",
            "source":{"agent_id":"r1","agent_type":"worker","agent_name":"é","team_name":"t",
                "node_name":"n","depth":2},
            "correlation_id":"c","trace_id":"t","session_id":"s","conversation_id":"v",
            "message_id":"m","priority":"high","tags":["x",  "y"],"metadata":{"k":1.0}}"#,
    ));
    Writer::new(&store, &run).publish(sent.clone()).await;
    let events = all(&store, &run).await;
    assert_eq!(events.len(), sent.len());
    for (read, sent) in events.iter().zip(&sent) {
        assert_eq!(read.event, sent.event);
    }
    for (read, data) in events.iter().zip(data) {
        assert_eq!(&*read.event.data, data);
    }
    let large = format!(r#"{{"type":"a.b","data":"{}"}}"#, "é😀".repeat(100_000));
    let large = event(&run, &large);
    let placed = Writer::new(&store, &run).publish_one(large.clone()).await;
    let read = all(&store, &run).await.pop().unwrap();
    assert_eq!((read.id, read.sequence), (placed.id, Some(placed.sequence)));
    assert!(read.event == large.event, "a large event came back changed");
}

async fn a_healthy_store_says_so(bench: Bench) {
    let store = bench.open(rules());
    store.probe().await.unwrap();
    // A store may have several connections to make.
    until("nothing troubles the store", async || store.status().trouble.is_none().then_some(()))
        .await;
    store.sweep().await.unwrap();
}
