//! Reading ranges: bounds, order, and pages that are bounded by count and by bytes.

use super::publishing::{Writer, event, run_id};
use super::reading::{EVERYTHING, all, numbers, sequences, walk};
use super::{Bench, Store, rules};
use runhub::event::{EventId, RunId};
use runhub::store::{Order, RangeRequest};

on_every_store!(
    both_ends_of_a_range_are_in_it,
    the_oldest_and_what_is_behind_a_position,
    a_limit_is_kept_and_more_is_told,
    walking_in_pages_gives_every_event_once,
    a_page_of_large_events_is_bounded,
    a_page_need_not_be_bounded_in_bytes,
    a_run_that_is_not_there_has_no_events,
);

/// The newest events first.
const NEWEST_FIRST: RangeRequest = RangeRequest { order: Order::Descending, ..EVERYTHING };

/// Publishes the numbers from 1 on, and gives the events' ids.
async fn filled(store: &Store, run: &RunId, count: u64) -> Vec<EventId> {
    let placed = Writer::new(store, run).publish_numbers(1..=count).await;
    placed.iter().map(|p| p.id).collect()
}

async fn both_ends_of_a_range_are_in_it(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let ids = filled(&store, &run, 20).await;
    let read = async |start, end, order| {
        let page = store.range(&run, RangeRequest { start, end, order, ..EVERYTHING }).await;
        let page = page.unwrap();
        assert!(!page.more);
        numbers(&page.events)
    };
    let (up, down) = (Order::Ascending, Order::Descending);
    assert_eq!(read(ids[4], ids[8], up).await, [5, 6, 7, 8, 9]);
    assert_eq!(read(ids[4], ids[8], down).await, [9, 8, 7, 6, 5]);
    assert_eq!(read(ids[4], ids[4], up).await, [5]);
    assert_eq!(read(ids[4], ids[4], down).await, [5]);
    assert_eq!(read(EventId::START, ids[1], up).await, [1, 2]);
    assert_eq!(read(ids[18], EventId::MAX, down).await, [20, 19]);
    assert_eq!(read(ids[19].next(), EventId::MAX, up).await, Vec::<u64>::new());
    for order in [up, down] {
        assert_eq!(read(ids[8], ids[4], order).await, Vec::<u64>::new(), "the wrong way round");
        assert_eq!(read(EventId::MAX, EventId::MAX, order).await, Vec::<u64>::new());
        assert_eq!(read(EventId::START, EventId::START, order).await, Vec::<u64>::new());
        assert_eq!(read(EventId::START, EventId::MAX, order).await.len(), 20);
    }
}

async fn the_oldest_and_what_is_behind_a_position(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let ids = filled(&store, &run, 5).await;
    let read = async |request| numbers(&store.range(&run, request).await.unwrap().events);
    assert_eq!(read(RangeRequest::oldest()).await, [1]);
    assert_eq!(read(RangeRequest::after(EventId::START, 3, 1 << 20)).await, [1, 2, 3]);
    assert_eq!(read(RangeRequest::after(ids[2], 10, 1 << 20)).await, [4, 5]);
    assert_eq!(read(RangeRequest::after(ids[4], 10, 1 << 20)).await, Vec::<u64>::new());
}

async fn a_limit_is_kept_and_more_is_told(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let ids = filled(&store, &run, 100).await;
    for limit in [1, 7, 32, 33, 99, 100, 101] {
        for request in [EVERYTHING, NEWEST_FIRST] {
            let page = store.range(&run, RangeRequest { limit, ..request }).await.unwrap();
            assert_eq!((page.events.len(), page.more), (limit.min(100), limit < 100), "{limit}");
        }
    }
    // What lies beyond the range is not more of it.
    let request = RangeRequest { end: ids[6], limit: 7, ..EVERYTHING };
    let page = store.range(&run, request).await.unwrap();
    assert_eq!((page.events.len(), page.more), (7, false));
}

async fn walking_in_pages_gives_every_event_once(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    filled(&store, &run, 100).await;
    for limit in [1, 7, 32, 33, 50] {
        let up = walk(&store, &run, RangeRequest { limit, ..EVERYTHING }).await;
        assert_eq!(numbers(&up), (1..=100).collect::<Vec<_>>(), "{limit} a page");
        let down = walk(&store, &run, RangeRequest { limit, ..NEWEST_FIRST }).await;
        assert_eq!(numbers(&down), (1..=100).rev().collect::<Vec<_>>(), "{limit} a page");
    }
}

async fn a_page_of_large_events_is_bounded(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let large = format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(100_000));
    for _ in 0..4 {
        let ten = (0..10).map(|_| event(&run, &large)).collect();
        writer.publish(ten).await;
    }
    for request in [EVERYTHING, NEWEST_FIRST] {
        let request = RangeRequest { enough_bytes: 500_000, ..request };
        let page = store.range(&run, request).await.unwrap();
        assert!((1..40).contains(&page.events.len()), "{} events", page.events.len());
        assert!(page.more);
        let mut walked = sequences(&walk(&store, &run, request).await);
        walked.sort_unstable();
        assert_eq!(walked, (1..=40).collect::<Vec<_>>());
        // However little is enough, a page gets the reader on.
        let request = RangeRequest { enough_bytes: 1, ..request };
        assert!(!store.range(&run, request).await.unwrap().events.is_empty());
    }
}

async fn a_page_need_not_be_bounded_in_bytes(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    filled(&store, &run, 100).await;
    for request in [EVERYTHING, NEWEST_FIRST] {
        let request = RangeRequest { enough_bytes: usize::MAX, ..request };
        let page = store.range(&run, request).await.unwrap();
        assert_eq!((page.events.len(), page.more), (100, false));
    }
}

async fn a_run_that_is_not_there_has_no_events(bench: Bench) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    Writer::new(&store, &run_id("other")).publish_numbers(1..=3).await;
    let page = store.range(&run, EVERYTHING).await.unwrap();
    assert!(page.events.is_empty() && !page.more);
    assert!(all(&store, &run).await.is_empty());
}
