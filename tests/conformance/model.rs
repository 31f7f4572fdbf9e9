//! A run is a list: whatever is appended and read, in whatever order, a plain `Vec` says the same.

use super::publishing::{Writer, run_id};
use super::reading::{EVERYTHING, all, numbers, sequences};
use super::{Bench, on_runtime, rules};
use proptest::prelude::*;
use proptest::sample::Index;
use runhub::event::EventId;
use runhub::store::{Order, RangeRequest};

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Read { from: Edge, to: Edge, limit: usize, order: Order },
}

/// An end of a range.
#[derive(Debug, Clone)]
enum Edge {
    Least,
    Greatest,
    /// An event's own id.
    At(Index),
    /// The least id behind an event's.
    Behind(Index),
}

impl Edge {
    fn id(&self, ids: &[EventId]) -> EventId {
        match self {
            Self::Greatest => EventId::MAX,
            Self::At(index) if !ids.is_empty() => *index.get(ids),
            Self::Behind(index) if !ids.is_empty() => index.get(ids).next(),
            _ => EventId::START,
        }
    }
}

fn edge() -> impl Strategy<Value = Edge> {
    prop_oneof![
        Just(Edge::Least),
        Just(Edge::Greatest),
        any::<Index>().prop_map(Edge::At),
        any::<Index>().prop_map(Edge::Behind),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    let read = (edge(), edge(), 1..12_usize, order)
        .prop_map(|(from, to, limit, order)| Step::Read { from, to, limit, order });
    prop_oneof![(1..9_u64).prop_map(Step::Append), read]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn memory_is_a_list(steps in steps()) {
        on_runtime(agrees_with_a_list(Bench::memory(), steps));
    }

    #[test]
    fn embedded_is_a_list(steps in steps()) {
        on_runtime(agrees_with_a_list(Bench::embedded(), steps));
    }
}

/// The event at index `n` of the list carries `n + 1` as its data.
async fn agrees_with_a_list(bench: Bench, steps: Vec<Step>) {
    let (store, run) = (bench.open(rules()), run_id("r"));
    let mut writer = Writer::new(&store, &run);
    let mut ids: Vec<EventId> = Vec::new();
    for step in steps {
        match step {
            Step::Append(count) => {
                let first = ids.len() as u64 + 1;
                let placed = writer.publish_numbers(first..=first + count - 1).await;
                ids.extend(placed.iter().map(|p| p.id));
            }
            Step::Read { from, to, limit, order } => {
                let (start, end) = (from.id(&ids), to.id(&ids));
                let request = RangeRequest { start, end, limit, order, ..EVERYTHING };
                let page = store.range(&run, request).await.unwrap();
                let inside = (1..).zip(&ids).filter(|(_, id)| (start..=end).contains(*id));
                let mut expected: Vec<u64> = inside.map(|(n, _)| n).collect();
                if order == Order::Descending {
                    expected.reverse();
                }
                assert_eq!(page.more, expected.len() > limit);
                expected.truncate(limit);
                assert_eq!(numbers(&page.events), expected);
                assert_eq!(sequences(&page.events), expected);
            }
        }
    }
    let kept: Vec<EventId> = all(&store, &run).await.iter().map(|e| e.id).collect();
    assert_eq!(kept, ids);
    assert!(ids.is_sorted_by(|a, b| a < b));
}
