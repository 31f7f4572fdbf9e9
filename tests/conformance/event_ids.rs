//! The window in which a publisher's `event_id` stands for one event.

use super::publishing::{Writer, keyed, numbered, run_id, send};
use super::reading::{all, info, numbers, sequences, until};
use super::{Bench, Store, rules};
use runhub::event::Timestamp;
use runhub::event::{RunId, Sequence};
use runhub::store::{Placed, Publish, PublishOutcome, RunAppend, StoreRules};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

on_every_store!(
    the_same_event_again_is_a_duplicate,
    other_content_is_refused_and_the_rest_stored,
    a_refusal_that_nobody_heard_of_is_no_end,
    the_same_event_twice_in_one_publish_is_stored_once,
    other_content_within_one_publish_is_refused,
    publishers_at_once_store_one,
    an_event_id_belongs_to_its_run,
    an_event_id_is_free_again_after_the_window,
    events_that_waited_are_told_apart_by_when_they_were_published,
    a_deleted_run_forgets_its_event_ids,
);

async fn the_same_event_again_is_a_duplicate(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let placed = writer.publish(vec![keyed(&run, "a", 1), keyed(&run, "b", 2)]).await;
    assert!(placed.iter().all(|p| !p.duplicate));
    let before = info(&store, &run).await;
    // By another publisher, among new ones, in another order.
    let mut events = numbered(&run, 3..=4);
    events.insert(1, keyed(&run, "b", 2));
    events.push(keyed(&run, "a", 1));
    let again = Writer::new(&store, &run).publish(events).await;
    assert_eq!(again[1], Placed { duplicate: true, ..placed[1] });
    assert_eq!(again[3], Placed { duplicate: true, ..placed[0] });
    assert_eq!((again[0].sequence, again[2].sequence), (Sequence(3), Sequence(4)));
    assert!(!again[0].duplicate && !again[2].duplicate);
    assert_eq!(numbers(&all(&store, &run).await), [1, 2, 3, 4]);
    assert_eq!(info(&store, &run).await.length, before.length + 2);
}

async fn other_content_is_refused_and_the_rest_stored(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_one(keyed(&run, "k", 1)).await;
    let mut reusing = numbered(&run, 91..=92);
    reusing.push(keyed(&run, "fresh", 93));
    reusing.push(keyed(&run, "k", 94));
    let publishes = vec![numbered(&run, 2..=2), reusing, numbered(&run, 3..=3)];
    let outcomes = writer.append(publishes).await;
    let [PublishOutcome::Stored(a), reused, PublishOutcome::Stored(b)] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    assert_eq!(*reused, PublishOutcome::KeyReused { index: 3 });
    assert_eq!((a[0].sequence, b[0].sequence), (Sequence(2), Sequence(3)));
    let events = all(&store, &run).await;
    assert_eq!((numbers(&events), sequences(&events)), (vec![1, 2, 3], vec![1, 2, 3]));
    // Nothing of the refused publish is remembered either.
    assert!(!writer.publish_one(keyed(&run, "fresh", 4)).await.duplicate);
}

async fn a_refusal_that_nobody_heard_of_is_no_end(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_one(keyed(&run, "k", 1)).await;
    let reusing = |fresh: &str, n| vec![keyed(&run, "k", 90), keyed(&run, fresh, n)];
    let mut batch = writer.batch(vec![
        reusing("a", 2),
        numbered(&run, 3..=3),
        reusing("b", 4),
        numbered(&run, 5..=5),
        reusing("c", 6),
    ]);
    let (refused, already) = (PublishOutcome::KeyReused { index: 0 }, PublishOutcome::Already);
    let first = send(&store, &batch).await;
    let [a, PublishOutcome::Stored(_), b, PublishOutcome::Stored(_), c] = first.as_slice() else {
        panic!("{first:?}")
    };
    assert_eq!([a, b, c], [&refused, &refused, &refused]);
    let again = [&refused, &already, &refused, &already, &refused].map(Clone::clone);
    assert_eq!(send(&store, &batch).await, again, "asked again, it says the same");
    // Their publishers were told meanwhile that they are spooled. The spool sends some at a time.
    batch.publishes.iter_mut().for_each(|publish| publish.answered = true);
    for (sent, stored) in [(0..1, vec![2]), (1..3, vec![4]), (3..5, vec![6]), (2..5, vec![])] {
        let publishes = batch.publishes[sent].to_vec();
        let part = RunAppend { publishes, ..batch.clone() };
        let before = numbers(&all(&store, &run).await).len();
        for outcome in send(&store, &part).await {
            let PublishOutcome::Stored(placed) = outcome else { continue };
            // The second is left out, and that is said; the other one is new.
            let was = |place: &Placed| (place.duplicate, place.reused);
            assert!(placed.len() == 1 || was(&placed[0]) == (true, true), "{placed:?}");
            assert_eq!(was(placed.last().unwrap()), (false, false));
        }
        assert_eq!(numbers(&all(&store, &run).await)[before..], stored);
    }
    assert_eq!(numbers(&all(&store, &run).await), [1, 3, 5, 2, 4, 6]);
    assert_eq!(sequences(&all(&store, &run).await), [1, 2, 3, 4, 5, 6]);
}

async fn the_same_event_twice_in_one_publish_is_stored_once(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let events = vec![keyed(&run, "k", 1), keyed(&run, "other", 2), keyed(&run, "k", 1)];
    let placed = writer.publish(events).await;
    assert_eq!(placed[2], Placed { duplicate: true, ..placed[0] });
    assert!(!placed[0].duplicate && !placed[1].duplicate);
    // And in two publishes of one batch.
    let twice = || vec![keyed(&run, "next", 3)];
    let outcomes = writer.append(vec![twice(), twice()]).await;
    let [PublishOutcome::Stored(a), PublishOutcome::Stored(b)] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    assert!(!a[0].duplicate);
    assert_eq!(b[0], Placed { duplicate: true, ..a[0] });
    assert_eq!(numbers(&all(&store, &run).await), [1, 2, 3]);
}

async fn other_content_within_one_publish_is_refused(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let events = vec![keyed(&run, "k", 1), keyed(&run, "k", 2), keyed(&run, "k", 1)];
    assert_eq!(writer.append(vec![events]).await, [PublishOutcome::KeyReused { index: 1 }]);
    assert!(all(&store, &run).await.is_empty());
    assert_eq!(writer.publish_one(keyed(&run, "k", 2)).await.sequence, Sequence(1));
}

async fn publishers_at_once_store_one(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    one_of_sixteen_is_stored(&[store], &run).await;
}

/// Publishes the same event sixteen times at once, through these stores in turn.
pub async fn one_of_sixteen_is_stored(stores: &[Store], run: &RunId) {
    let mut tasks = JoinSet::new();
    for store in stores.iter().cycle().take(16) {
        let (mut writer, event) = (Writer::new(store, run), keyed(run, "k", 1));
        tasks.spawn(async move { writer.publish_one(event).await });
    }
    let placed = tasks.join_all().await;
    assert_eq!(placed.iter().filter(|p| !p.duplicate).count(), 1);
    let stored = all(&stores[0], run).await;
    assert_eq!(numbers(&stored), [1]);
    for placed in placed {
        assert_eq!((placed.id, Some(placed.sequence)), (stored[0].id, stored[0].sequence));
    }
}

async fn an_event_id_belongs_to_its_run(bench: Bench) {
    let (store, a, b) = (bench.open(rules()), run_id("a"), run_id("b"));
    assert!(!Writer::new(&store, &a).publish_one(keyed(&a, "k", 1)).await.duplicate);
    assert!(!Writer::new(&store, &b).publish_one(keyed(&b, "k", 2)).await.duplicate);
    assert_eq!(numbers(&all(&store, &a).await), [1]);
    assert_eq!(numbers(&all(&store, &b).await), [2]);
}

async fn an_event_id_is_free_again_after_the_window(bench: Bench) {
    let (dedup_window, run) = (Duration::from_secs(1), run_id("r"));
    let store = bench.open(StoreRules { dedup_window, ..rules() });
    let mut writer = Writer::new(&store, &run);
    let began = Instant::now();
    let first = writer.publish_one(keyed(&run, "k", 1)).await;
    // A repeat does not make the window longer.
    let anew = until("the event_id is free again", async || {
        let placed = writer.publish_one(keyed(&run, "k", 1)).await;
        (!placed.duplicate).then_some(placed)
    })
    .await;
    assert!(began.elapsed() >= dedup_window, "free again after {:?}", began.elapsed());
    assert_eq!(anew.sequence, Sequence(2));
    assert!(anew.id > first.id);
    assert_eq!(numbers(&all(&store, &run).await), [1, 1]);
    let again = writer.publish_one(keyed(&run, "k", 1)).await;
    assert_eq!(again, Placed { duplicate: true, ..anew });
}

async fn events_that_waited_are_told_apart_by_when_they_were_published(bench: Bench) {
    const MINUTE: u64 = 60_000;
    let window = Duration::from_secs(600);
    let (store, run) = (bench.open(StoreRules { dedup_window: window, ..rules() }), run_id("r"));
    let (now, mut number) = (Timestamp::now().as_ms(), 0);
    // When it was published before now, and whether it was answered.
    let mut publish = |key, data, ago: u64, answered| {
        number += 1;
        let events = [keyed(&run, key, data)].into();
        Publish { number, events, published_ms: now - ago * MINUTE, answered }
    };
    let batches = [
        // After an outage.
        vec![publish("k", 1, 60, true)],
        vec![publish("k", 1, 52, true), publish("k", 2, 45, true)],
        vec![publish("k", 2, 36, true)],
        // Of now, and what another hub had for longer.
        vec![publish("k", 3, 0, true)],
        vec![publish("k", 4, 25, true), publish("k", 3, 9, true), publish("k", 5, 11, true)],
        vec![publish("k", 3, 0, false), publish("k", 2, 0, false)],
        // Whoever asks now may have heard just now of what was published long ago.
        vec![publish("j", 6, 60, true)],
        vec![publish("j", 6, 0, false)],
    ];
    let mut outcomes = Vec::new();
    for publishes in batches {
        let append = RunAppend { run: run.clone(), writer: 1, publishes };
        outcomes.extend(send(&store, &append).await);
    }
    let told = |outcome: &PublishOutcome| match outcome {
        PublishOutcome::Stored(placed) if placed[0].duplicate => "again",
        PublishOutcome::Stored(_) => "new",
        _ => "reused",
    };
    let told: Vec<_> = outcomes.iter().map(told).collect();
    let expected = [
        ["new", "again", "new", "again", "new", "new"],
        ["again", "new", "again", "reused", "new", "again"],
    ];
    assert_eq!(told, expected.concat());
    assert_eq!(numbers(&all(&store, &run).await), [1, 2, 3, 4, 5, 6]);
}

async fn a_deleted_run_forgets_its_event_ids(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    writer.publish_one(keyed(&run, "k", 1)).await;
    assert!(store.delete(&run).await.unwrap());
    let placed = writer.publish_one(keyed(&run, "k", 2)).await;
    assert_eq!((placed.sequence, placed.duplicate), (Sequence(1), false));
    assert_eq!(numbers(&all(&store, &run).await), [2]);
}
