//! The queue, with a spool on a real disk and answers of a store that the tests make up.

use super::*;
use crate::event::parse::{EventLimits, parse_event};
use crate::event::{EventId, Sequence, Timestamp};
use crate::spool::SpoolError;
use crate::store::{Placed, PublishOutcome};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot::{Receiver, channel, error::TryRecvError};

const PATIENCE: Duration = Duration::from_secs(40);

fn run(name: &str) -> RunId {
    RunId::parse(name).unwrap()
}

fn publish(run: &RunId, count: usize) -> Arc<[NewEvent]> {
    let limits = EventLimits { max_data: 1 << 20 };
    let event = parse_event(run, r#"{"type":"a.b"}"#, Timestamp::now(), limits).unwrap();
    (0..count).map(|_| NewEvent::new(event.clone())).collect()
}

fn stored(count: usize) -> PublishOutcome {
    let placed = Placed::of_new(EventId::new(1, 0), Sequence(1));
    PublishOutcome::Stored(vec![placed; count])
}

fn silence() -> StoreError {
    StoreError::NoAnswer { reason: String::new() }
}

struct Bench {
    queue: Arc<Queue>,
    spool: Spool,
    _dir: TempDir,
}

impl Bench {
    fn new(room: usize, spool_room: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), spool_room, 1 << 26).unwrap();
        Self { queue: Arc::new(Queue::new(room, spool.clone())), spool, _dir: dir }
    }

    fn push(&self, run: &RunId, count: usize) -> Result<bool, NotTaken> {
        self.queue.push(run, publish(run, count), None, false)
    }

    fn push_waiting(&self, run: &RunId, count: usize) -> Receiver<Told> {
        let (reply, told) = channel();
        self.queue.push(run, publish(run, count), Some(reply), false).unwrap();
        told
    }

    fn flight(&self) -> Flight {
        match self.queue.next_work(Instant::now()) {
            Some(Work::Send(flight)) => flight,
            _ => panic!("there is a batch to send"),
        }
    }

    fn drains(&self) -> Vec<RunId> {
        match self.queue.next_work(Instant::now()) {
            Some(Work::Drain(runs)) => runs,
            Some(Work::Send(_)) => panic!("there is a batch to send"),
            None => Vec::new(),
        }
    }

    fn idles(&self) -> bool {
        self.queue.next_work(Instant::now()).is_none()
    }

    fn flush(&self) {
        let (told, flushed) = std::sync::mpsc::channel();
        self.spool.flush(move || told.send(()).unwrap());
        flushed.recv_timeout(PATIENCE).unwrap();
    }

    /// The sizes of what the spool holds of a run.
    fn spooled(&self, run: &RunId) -> Vec<usize> {
        self.flush();
        let all = self.spool.oldest(run, usize::MAX, usize::MAX).unwrap();
        assert!(all.is_sorted_by_key(|waiting| waiting.publish.number));
        all.iter().map(|waiting| waiting.publish.events.len()).collect()
    }

    fn bytes(&self) -> usize {
        self.queue.state.lock().bytes
    }
}

fn sizes(append: &RunAppend) -> Vec<usize> {
    append.publishes.iter().map(|publish| publish.events.len()).collect()
}

#[test]
fn what_gathers_goes_together_in_order_and_within_bounds() {
    let (bench, a, b) = (Bench::new(64 << 20, 1 << 20), run("a"), run("b"));
    assert_eq!(bench.push(&a, 1), Ok(true));
    for (run, count) in [(&b, 600), (&a, 2), (&a, 900)] {
        bench.push(run, count).unwrap();
    }
    let flight = bench.flight();
    let legs: Vec<_> = flight.legs.iter().map(|leg| (leg.run.as_str(), sizes(leg))).collect();
    assert_eq!(legs, [("a", vec![1, 2]), ("b", vec![600])]);
    bench.queue.settle(&flight, vec![Ok(vec![stored(1), stored(2)]), Ok(vec![stored(600)])]);
    assert_eq!(bench.flight().events(), 900);
}

#[test]
fn a_batch_that_failed_is_sent_again_under_its_numbers() {
    let (bench, a) = (Bench::new(1 << 20, 1 << 20), run("a"));
    bench.push(&a, 1).unwrap();
    let first = bench.flight();
    bench.queue.settle(&first, vec![Err(silence())]);
    let second = bench.flight();
    let name = |flight: &Flight| (flight.legs[0].writer, flight.legs[0].publishes[0].number);
    assert_eq!(name(&first), name(&second));
    // The answer to an attempt that was given up counts no more.
    bench.queue.settle(&first, vec![Ok(vec![stored(1)])]);
    assert_eq!(bench.queue.waiting(), 1);
    bench.queue.settle(&second, vec![Ok(vec![stored(1)])]);
    assert!(bench.idles());
    assert_eq!(bench.bytes(), 0);
}

#[test]
fn a_batch_that_was_refused_waits_again_in_its_order() {
    let (bench, a) = (Bench::new(1 << 20, 1 << 20), run("a"));
    let told = bench.push_waiting(&a, 1);
    bench.push(&a, 2).unwrap();
    let first = bench.flight();
    bench.push(&a, 3).unwrap();
    bench.queue.settle(&first, vec![Err(StoreError::Refused { reason: String::new() })]);
    drop(told);
    let second = bench.flight();
    assert_eq!(sizes(&second.legs[0]), [2, 3]);
    bench.queue.settle(&second, vec![Ok(vec![stored(2), stored(3)])]);
    assert_eq!((bench.queue.waiting(), bench.bytes()), (0, 0));
}

#[test]
fn what_nobody_waits_for_any_more_is_not_sent() {
    let (bench, a) = (Bench::new(1 << 20, 1 << 20), run("a"));
    drop(bench.push_waiting(&a, 3));
    assert!(bench.idles());
    assert_eq!(bench.bytes(), 0);
}

#[test]
fn without_room_in_memory_a_run_goes_to_the_spool_and_without_room_there_it_is_refused() {
    let (bench, a, b) = (Bench::new(2000, 4000), run("a"), run("b"));
    bench.push(&a, 3).unwrap();
    bench.push(&b, 3).unwrap();
    assert_eq!(bench.spooled(&b), [3]);
    assert!(!bench.queue.is_run_behind(&a));
    assert_eq!(bench.push(&b, 30), Err(NotTaken::Full));
}

#[test]
fn an_attempt_that_nobody_answered_for_may_have_been_applied() {
    let (bench, a) = (Bench::new(1 << 20, 1 << 20), run("a"));
    bench.push(&a, 1).unwrap();
    let first = bench.flight();
    // Its writer died. The next one's attempt is refused, which says nothing of the first.
    let second = bench.flight();
    bench.queue.settle(&second, vec![Err(StoreError::Refused { reason: String::new() })]);
    let third = bench.flight();
    let number = |flight: &Flight| flight.legs[0].publishes[0].number;
    assert_eq!((number(&first), number(&second)), (number(&third), number(&third)));
}

#[test]
fn nothing_is_spooled_past_what_is_under_way_and_cannot_be() {
    let (bench, a) = (Bench::new(1 << 20, 2000), run("a"));
    bench.push(&a, 20).unwrap();
    let flight = bench.flight();
    let told = bench.push_waiting(&a, 1);
    bench.queue.spill_all();
    assert!(matches!(told.blocking_recv(), Ok(Told::NoRoom(SpoolError::Full))));
    assert!(bench.spooled(&a).is_empty());
    bench.queue.settle(&flight, vec![Ok(vec![stored(20)])]);
    assert_eq!((bench.queue.waiting(), bench.bytes()), (0, 0));
}

#[test]
fn a_run_that_is_spilled_goes_whole_and_in_order_and_what_comes_later_behind_it() {
    let (bench, a, b) = (Bench::new(1 << 20, 1 << 20), run("a"), run("b"));
    let sent = bench.push_waiting(&a, 1);
    let flight = bench.flight();
    let numbers = flight.legs[0].publishes[0].number;
    let waits = bench.push_waiting(&a, 2);
    let other = bench.push_waiting(&b, 9);
    bench.queue.spill_run(&a);
    let later = bench.push_waiting(&a, 3);
    assert_eq!(bench.spooled(&a), [1, 2, 3]);
    assert_eq!(
        bench.spool.oldest(&a, 1, 1).unwrap()[0].publish.number,
        numbers,
        "what was sent keeps its number"
    );
    for told in [sent, waits, later] {
        assert!(matches!(told.blocking_recv(), Ok(Told::Spooled)));
    }
    // Whatever became of it: it is the spool's now.
    bench.queue.settle(&flight, vec![Ok(vec![stored(1)])]);
    assert!(bench.queue.is_run_behind(&a) && !bench.queue.is_run_behind(&b));
    let mut drained = false;
    for _ in 0..2 {
        match bench.queue.next_work(Instant::now()) {
            Some(Work::Drain(runs)) => {
                assert_eq!(runs.as_slice(), std::slice::from_ref(&a));
                drained = true;
            }
            Some(Work::Send(flight)) => {
                assert_eq!(flight.legs[0].run, b);
                bench.queue.settle(&flight, vec![Ok(vec![stored(9)])]);
            }
            None => panic!("both have something"),
        }
    }
    assert!(
        drained && matches!(other.blocking_recv(), Ok(Told::Stored(placed)) if placed.len() == 9)
    );
    assert_eq!(bench.bytes(), 0);
}

#[test]
fn behind_the_last_that_is_spooled_publishes_wait_in_memory_and_then_go_live() {
    let (bench, a) = (Bench::new(1 << 20, 1 << 20), run("a"));
    for count in [1, 2] {
        bench.queue.push(&a, publish(&a, count), None, true).unwrap();
    }
    assert_eq!(bench.spooled(&a), [1, 2]);
    assert_eq!(bench.drains(), std::slice::from_ref(&a));
    bench.queue.drain_begins(&a, 2);
    let last = bench.spool.oldest(&a, 9, 9999).unwrap()[1].place;
    let mut told = bench.push_waiting(&a, 3);
    assert_eq!(bench.spooled(&a), [1, 2], "it is not spooled");
    assert_eq!(bench.drains(), std::slice::from_ref(&a), "nor sent past them");
    bench.queue.drain_ended(&a, Some((last, 3)), &Ok(()));
    assert!(!bench.queue.is_behind());
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    let flight = bench.flight();
    assert_eq!(sizes(&flight.legs[0]), [3]);
}

#[test]
fn one_run_that_cannot_be_stored_is_parked_and_the_others_go_on() {
    let (bench, a, b) = (Bench::new(1 << 20, 1 << 20), run("a"), run("b"));
    for run in [&a, &b] {
        bench.queue.push(run, publish(run, 1), None, true).unwrap();
    }
    bench.flush();
    assert_eq!(bench.drains().len(), 2);
    let broken = Err(StoreError::BrokenRun { reason: "WRONGTYPE".to_owned() });
    bench.queue.drain_ended(&a, Some((1, 1)), &broken);
    assert_eq!(bench.drains(), std::slice::from_ref(&b));
    bench.queue.drain_ended(&b, Some((2, 1)), &Ok(()));
    assert!(!bench.queue.is_behind() && bench.queue.is_run_behind(&a));
    let refused = bench.push(&a, 1);
    assert!(matches!(refused, Err(NotTaken::Broken(_))), "it would only fill the spool");
    assert_eq!(bench.spooled(&a), [1], "nothing of it is lost");
    bench.queue.drain_ended(&a, Some((1, 1)), &Ok(()));
    bench.push(&a, 1).unwrap();
}

#[test]
fn a_run_that_moves_waits_in_the_spool_and_the_others_go_on() {
    let (bench, a, b) = (Bench::new(1 << 20, 1 << 20), run("a"), run("b"));
    let (_a, mut b_told) = (bench.push_waiting(&a, 1), bench.push_waiting(&b, 2));
    let flight = bench.flight();
    bench.push(&a, 3).unwrap();
    let moves = || StoreError::RunMoves { reason: "ASK".to_owned() };
    assert!(bench.queue.settle(&flight, vec![Err(moves()), Ok(vec![stored(2)])]));
    assert!(matches!(b_told.try_recv(), Ok(Told::Stored(_))));
    assert_eq!(bench.spooled(&a), [1, 3]);
    assert!(bench.queue.is_run_behind(&a) && !bench.queue.is_behind(), "it is let be");
    // Who comes during a drain that fails need not wait for the next.
    let later = Instant::now() + Duration::from_secs(1);
    assert!(matches!(bench.queue.next_work(later), Some(Work::Drain(runs)) if runs == [a.clone()]));
    bench.queue.drain_begins(&a, 2);
    let _told = bench.push_waiting(&a, 4);
    bench.queue.drain_ended(&a, Some((1, 4)), &Err(moves()));
    assert_eq!(bench.spooled(&a), [1, 3, 4]);
}

#[test]
fn a_run_that_moves_and_finds_no_room_in_the_spool_is_still_to_be_sent() {
    let (bench, a) = (Bench::new(1 << 20, 1), run("a"));
    bench.push(&a, 1).unwrap();
    let flight = bench.flight();
    let moves = StoreError::RunMoves { reason: "ASK".to_owned() };
    assert!(!bench.queue.settle(&flight, vec![Err(moves)]));
    assert_eq!(sizes(&bench.flight().legs[0]), [1]);
}

#[test]
fn what_comes_when_the_hub_has_closed_goes_to_the_spool() {
    let (bench, a) = (Bench::new(1 << 20, 1 << 20), run("a"));
    bench.push(&a, 1).unwrap();
    bench.queue.close();
    assert_eq!(bench.push(&a, 2), Ok(false));
    assert_eq!(bench.spooled(&a), [1, 2]);
    assert_eq!(bench.queue.waiting(), 0);
}

#[test]
fn only_who_waits_can_be_refused() {
    let (bench, a) = (Bench::new(1 << 20, 1 << 20), run("a"));
    let _told = bench.push_waiting(&a, 1);
    bench.push(&a, 2).unwrap();
    let flight = bench.flight();
    let answered = flight.legs[0].publishes.iter().map(|publish| publish.answered);
    assert_eq!(answered.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_full_spool_refuses_who_waits_and_keeps_what_was_accepted_in_memory() {
    let (bench, a) = (Bench::new(1 << 20, 100), run("a"));
    let first = bench.push_waiting(&a, 1);
    bench.push(&a, 2).unwrap();
    let second = bench.push_waiting(&a, 3);
    bench.queue.spill_all();
    for told in [first, second] {
        assert!(matches!(told.blocking_recv(), Ok(Told::NoRoom(SpoolError::Full))));
    }
    assert_eq!(bench.queue.waiting(), 1);
    let past = bench.queue.push(&a, publish(&a, 1), None, true);
    assert_eq!(past, Err(NotTaken::Full), "nothing may pass what waits");
    assert_eq!(sizes(&bench.flight().legs[0]), [2]);
}

#[test]
fn who_waits_for_what_may_be_stored_is_never_told_that_it_is_not() {
    let (bench, a) = (Bench::new(1 << 20, 100), run("a"));
    let told = bench.push_waiting(&a, 1);
    bench.push(&a, 2).unwrap();
    let flight = bench.flight();
    bench.queue.spill_all();
    assert!(matches!(told.blocking_recv(), Ok(Told::Late)));
    bench.queue.settle(&flight, vec![Err(silence())]);
    assert_eq!(sizes(&bench.flight().legs[0]), [2], "what was accepted goes again");
}
