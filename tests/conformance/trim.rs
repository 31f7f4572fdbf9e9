//! What is kept of a run that grows beyond `max_events`.

use super::publishing::{Writer, keyed, run_id};
use super::reading::{Follower, all, info, numbers, sequences};
use super::{Bench, Store, rules};
use runhub::event::{EventId, RunId, Sequence};
use runhub::store::{Placed, RangeRequest, StoreRules};

on_every_store!(
    the_oldest_events_go_and_the_newest_stay,
    a_trimmed_event_is_still_a_duplicate,
    a_tail_from_a_trimmed_position_gives_what_is_kept,
);

const MOST: u64 = 100;
/// Redis trims whole nodes, of a hundred entries at most; other stores keep a tenth more.
const SLACK: u64 = 200;
const PUBLISHED: u64 = 600;

fn few() -> StoreRules {
    StoreRules { max_events: MOST, ..rules() }
}

/// Publishes the numbers up to [`PUBLISHED`] and gives their places.
async fn overfill(store: &Store, run: &RunId) -> Vec<Placed> {
    let (mut writer, mut placed) = (Writer::new(store, run), Vec::new());
    for first in (1..=PUBLISHED).step_by(50) {
        placed.extend(writer.publish_numbers(first..=first + 49).await);
    }
    placed
}

async fn the_oldest_events_go_and_the_newest_stay(bench: Bench) {
    let (store, run) = (bench.open(few()), run_id("r"));
    let placed = overfill(&store, &run).await;
    let (events, info) = (all(&store, &run).await, info(&store, &run).await);
    assert!((MOST..=MOST + SLACK).contains(&info.length), "{} are kept", info.length);
    let kept: Vec<u64> = (PUBLISHED - info.length + 1..=PUBLISHED).collect();
    assert_eq!(sequences(&events), kept);
    assert_eq!(numbers(&events), kept);
    assert_eq!(info.first_id, Some(events[0].id));
    assert_eq!((info.last_id, info.last_sequence), (placed[599].id, Some(Sequence(PUBLISHED))));
    // The oldest kept is found from any position before it.
    for position in [EventId::START, placed[0].id] {
        let request = RangeRequest::after(position, 1, 1 << 20);
        assert_eq!(store.range(&run, request).await.unwrap().events, events[..1]);
    }
    let oldest = store.range(&run, RangeRequest::oldest()).await.unwrap();
    assert_eq!(oldest.events, events[..1]);
    let gone = RangeRequest { end: placed[200].id, ..RangeRequest::oldest() };
    assert!(store.range(&run, gone).await.unwrap().events.is_empty());
}

async fn a_trimmed_event_is_still_a_duplicate(bench: Bench) {
    let (store, run) = (bench.open(few()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let first = writer.publish_one(keyed(&run, "k", 0)).await;
    overfill(&store, &run).await;
    let again = writer.publish_one(keyed(&run, "k", 0)).await;
    assert_eq!(again, Placed { duplicate: true, ..first });
}

async fn a_tail_from_a_trimmed_position_gives_what_is_kept(bench: Bench) {
    let (store, run) = (bench.open(few()), run_id("r"));
    let placed = overfill(&store, &run).await;
    let kept = all(&store, &run).await;
    let mut follower = Follower::new(&store, &run, placed[0].id);
    assert_eq!(follower.events(kept.len()).await, kept);
}
