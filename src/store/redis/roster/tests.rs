use super::*;
use crate::event::decode_entry;
use proptest::prelude::*;
use std::time::Duration;

fn run() -> RunId {
    RunId::parse("7").unwrap()
}

fn key() -> StreamKey {
    StreamKey { name: "run:7:events".to_owned(), is_jobs: false }
}

fn at(n: u64) -> EventId {
    if n == 0 { EventId::START } else { EventId::new(n, 0) }
}

fn events(range: std::ops::RangeInclusive<u64>) -> Vec<StoredEvent> {
    range.map(|n| decode_entry(&run(), at(n), [])).collect()
}

impl Roster {
    /// As if others had written to this stream.
    fn heat_up(&mut self, name: &str, now: Instant) {
        (0..2).for_each(|_| self.found(name, now));
    }
}

/// When nothing rests any more.
fn later() -> Instant {
    Instant::now() + Rests::LONGEST
}

fn taken(inbox: &mut mpsc::Receiver<TailItem>) -> Vec<u64> {
    let mut ids = Vec::new();
    while let Ok(TailItem::Events(events)) = inbox.try_recv() {
        ids.extend(events.iter().map(|e| e.id.ms));
    }
    ids
}

/// A follower for whom all there is, which is nothing, was read.
fn followed() -> (Roster, mpsc::Receiver<TailItem>) {
    let (mut roster, (sink, inbox)) = (Roster::default(), mpsc::channel(ROOM));
    roster.join(run(), key(), at(0), sink);
    roster.next_read(64, later());
    (roster, inbox)
}

/// The `n`th event is an append that follows directly, of which the server tells: its stream rests.
fn append(roster: &mut Roster, inbox: &mut mpsc::Receiver<TailItem>, n: u64, now: Instant) {
    roster.stored("run:7:events", at(n - 1), events(n..=n), now);
    assert_eq!(taken(inbox).pop(), Some(n));
    roster.stream_changed(b"run:7:events");
    assert!(roster.next_read(64, now).is_empty());
}

#[test]
fn what_was_stored_behind_the_position_is_not_read_again() {
    let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(ROOM));
    roster.join(run(), key(), at(0), sink);
    assert_eq!(roster.next_read(64, later()), [Wanted { run: run(), key: key(), after: at(0) }]);
    roster.stored("run:7:events", at(0), events(1..=2), Instant::now());
    // The read that was under way.
    roster.read("run:7:events", at(0), events(1..=3), false);
    // Another program has written the fourth one.
    roster.stored("run:7:events", at(4), events(5..=5), Instant::now());
    assert_eq!(taken(&mut inbox), [1, 2, 3]);
    assert!(roster.next_read(64, later()).is_empty());
    roster.stream_changed(b"run:7:events");
    assert_eq!(roster.next_read(64, later())[0].after, at(3));
    roster.read("run:7:events", at(3), events(4..=5), true);
    assert_eq!((taken(&mut inbox), roster.next_read(64, later()).len()), (vec![4, 5], 1));
}

#[test]
fn a_stream_that_is_appended_to_is_looked_at_when_that_is_over() {
    let (mut roster, _inbox) = followed();
    roster.read_nothing("run:7:events");
    roster.append_begins("run:7:events");
    roster.stream_changed(b"run:7:events");
    assert!(roster.next_read(64, later()).is_empty());
    let now = Instant::now();
    roster.stored("run:7:events", at(0), events(1..=1), now);
    assert!(roster.append_ended("run:7:events"));
    assert!(roster.next_read(64, now).is_empty());
    let rested = roster.next_rested().unwrap();
    assert_eq!(roster.next_read(64, rested)[0].after, at(1));
    // One that ends otherwise is no reason to wait.
    roster.append_begins("run:7:events");
    roster.stream_changed(b"run:7:events");
    assert!(roster.next_read(64, rested).is_empty() && roster.append_ended("run:7:events"));
    assert_eq!(roster.next_read(64, rested).len(), 1);
}

#[test]
fn a_stream_that_nobody_else_writes_to_is_looked_at_less_often() {
    let ((mut roster, mut inbox), now) = (followed(), Instant::now());
    let mut rest_after = |roster: &mut Roster, n| {
        append(roster, &mut inbox, n, now);
        let rested = roster.next_rested().unwrap();
        assert_eq!(roster.next_read(64, rested)[0].after, at(n));
        rested - now
    };
    let first = rest_after(&mut roster, 1);
    let last = (2..=30).map(|n| rest_after(&mut roster, n)).last().unwrap();
    assert!(first * 10 < last && last <= Rests::LONGEST, "{first:?} {last:?}");
    // Another program has.
    roster.read("run:7:events", at(30), events(31..=31), false);
    assert_eq!(rest_after(&mut roster, 32), first);
}

#[test]
fn what_an_append_tells_of_is_read_though_the_stream_rests() {
    let ((mut roster, mut inbox), now) = (followed(), Instant::now());
    for n in 1..=30 {
        append(&mut roster, &mut inbox, n, now);
    }
    // Another program has written the next one.
    assert!(!roster.awaits("run:7:events", at(31)));
    roster.stored_elsewhere("run:7:events");
    assert_eq!(roster.next_read(64, now)[0].after, at(30));
    roster.read("run:7:events", at(30), events(31..=32), false);
    assert_eq!(taken(&mut inbox), [31, 32]);
    assert_eq!((roster.next_read(64, later()), roster.next_rested()), (vec![], None));
    // Nor does it rest when anything may have happened.
    append(&mut roster, &mut inbox, 33, now);
    roster.all_changed();
    assert_eq!(roster.next_read(64, now)[0].after, at(33));
}

#[test]
fn appends_without_a_pause_starve_nobody_who_is_out_of_step() {
    let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(ROOM));
    roster.append_begins("run:7:events");
    roster.join(run(), key(), at(0), sink);
    roster.append_begins("run:7:events");
    assert_eq!(roster.next_read(64, later())[0].after, at(0));
    roster.read("run:7:events", at(0), events(1..=1), false);
    roster.append_ended("run:7:events");
    // Another program has written the second one.
    for n in [3, 5, 7] {
        roster.append_begins("run:7:events");
        assert!(!roster.awaits("run:7:events", at(n - 1)));
        roster.stored_elsewhere("run:7:events");
        roster.append_ended("run:7:events");
        roster.append_begins("run:7:events");
        assert_eq!(roster.next_read(64, Instant::now())[0].after, at(n - 2));
        roster.read("run:7:events", at(n - 2), events(n - 1..=n), false);
        roster.append_ended("run:7:events");
    }
    assert_eq!(taken(&mut inbox), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_follower_without_room_is_read_for_when_it_has_some() {
    let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(2));
    let number = roster.join(run(), key(), at(0), sink);
    roster.stored("run:7:events", at(0), events(1..=1), Instant::now());
    assert!(!roster.awaits("run:7:events", at(1)));
    assert!(roster.next_read(64, later()).is_empty());
    assert_eq!(taken(&mut inbox), [1]);
    assert!(roster.has_room(number) && !roster.has_room(number));
    assert_eq!(roster.next_read(64, later()).len(), 1);
}

#[test]
fn what_was_read_for_one_follower_is_not_for_another_who_stands_before_it() {
    let (mut roster, (sink, mut full)) = (Roster::default(), mpsc::channel(2));
    let behind = roster.join(run(), key(), at(0), sink);
    roster.stored("run:7:events", at(0), events(1..=1), Instant::now());
    let (sink, mut inbox) = mpsc::channel(ROOM);
    roster.join(run(), key(), at(5), sink);
    // The first has room for one more, which is too little.
    assert_eq!(roster.next_read(64, later())[0].after, at(5));
    roster.read("run:7:events", at(5), events(6..=6), false);
    assert_eq!((taken(&mut full), taken(&mut inbox)), (vec![1], vec![6]));
    assert!(roster.has_room(behind));
    assert_eq!(roster.next_read(64, later())[0].after, at(1));
    roster.read("run:7:events", at(1), events(2..=6), false);
    assert_eq!((taken(&mut full), taken(&mut inbox)), (vec![2, 3, 4, 5, 6], vec![]));
}

#[test]
fn a_head_before_the_position_resets_and_one_behind_it_is_read() {
    let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(ROOM));
    let number = roster.join(run(), key(), at(5), sink);
    roster.next_read(64, later());
    roster.head(number, at(5), at(5));
    assert!(roster.next_read(64, later()).is_empty());
    roster.head(number, at(5), at(6));
    assert_eq!(roster.next_read(64, later())[0].after, at(5));
    roster.head(number, at(4), at(3));
    assert!(inbox.try_recv().is_err());
    roster.head(number, at(5), at(3));
    assert!(matches!(inbox.try_recv(), Ok(TailItem::Reset)));
    assert_eq!(roster.next_read(64, later())[0].after, at(0));
}

/// The `n`th event is another program's, which the server tells of.
fn find(roster: &mut Roster, n: u64, now: Instant) {
    roster.stream_changed(b"run:7:events");
    assert_eq!(roster.next_read(64, now).len(), 1);
    assert!(roster.read("run:7:events", at(n - 1), events(n..=n), false));
    roster.found("run:7:events", now);
}

#[test]
fn a_stream_that_others_keep_writing_to_gets_a_lookout_and_is_not_read_meanwhile() {
    let ((mut roster, mut inbox), now) = (followed(), Instant::now());
    let seconds = |n| now + Duration::from_secs(n);
    find(&mut roster, 1, now);
    find(&mut roster, 2, seconds(3));
    assert!(!roster.wants_lookout());
    find(&mut roster, 3, seconds(4));
    assert!(roster.wants_lookout() && roster.send_lookout(seconds(7)).is_none(), "too late");
    find(&mut roster, 4, seconds(8));
    let now = seconds(9);
    let seconds = |n| now + Duration::from_secs(n);
    find(&mut roster, 5, now);
    let mut lookout = roster.send_lookout(now).unwrap();
    assert_eq!((lookout.at.after, roster.wants_lookout()), (at(5), false));
    roster.stream_changed(b"run:7:events");
    assert!(roster.next_read(64, later()).is_empty());
    assert_eq!(taken(&mut inbox), [1, 2, 3, 4, 5]);
    // It may see what was read before it came.
    assert!(roster.seen(&mut lookout, events(4..=7), seconds(1)));
    assert_eq!((taken(&mut inbox), lookout.at.after), (vec![6, 7], at(7)));
    // Where nothing happens it stays for a while, and the stream may be another.
    roster.take_doubtful(false);
    assert!(roster.seen(&mut lookout, vec![], seconds(20)));
    assert_eq!(roster.take_doubtful(false).len(), 1);
    assert!(!roster.seen(&mut lookout, vec![], seconds(31)));
    assert_eq!(roster.next_read(64, later())[0].after, at(7));
}

#[test]
fn a_lookout_leaves_a_quiet_stream_to_others_and_a_follower_without_room() {
    let ((mut roster, inbox), now) = (followed(), Instant::now());
    (1..=4).for_each(|n| find(&mut roster, n, now));
    let mut lookout = roster.send_lookout(now).unwrap();
    let other = StreamKey { name: "run:8:events".to_owned(), is_jobs: false };
    let (sink, _inbox) = mpsc::channel(ROOM);
    roster.join(RunId::parse("8").unwrap(), other, at(0), sink);
    roster.heat_up("run:8:events", now);
    assert!(roster.seen(&mut lookout, events(5..=5), now));
    assert!(!roster.seen(&mut lookout, vec![], now + Duration::from_secs(2)));
    assert_eq!(roster.next_read(64, later()).len(), 2);
    (6..=7).for_each(|n| find(&mut roster, n, now));
    roster.heat_up("run:7:events", now);
    let _for_the_other = roster.send_lookout(now).unwrap();
    assert!(roster.send_lookout(now).is_none(), "its follower takes nothing");
    roster.heat_up("run:7:events", now);
    assert!(roster.wants_lookout());
    roster.leave(1);
    assert!(!roster.wants_lookout(), "it is gone");
    drop(inbox);
}

#[test]
fn a_lookout_is_called_back_by_an_append_and_by_doubt() {
    let ((mut roster, mut inbox), now) = (followed(), Instant::now());
    (1..=4).for_each(|n| find(&mut roster, n, now));
    let mut lookout = roster.send_lookout(now).unwrap();
    roster.append_begins("run:7:events");
    assert!(!roster.seen(&mut lookout, events(5..=5), now));
    roster.stored("run:7:events", at(4), events(5..=5), now);
    roster.append_ended("run:7:events");
    assert_eq!(taken(&mut inbox), [1, 2, 3, 4, 5]);
    assert_eq!(roster.next_read(64, later())[0].after, at(5));
    (6..=9).for_each(|n| find(&mut roster, n, later()));
    let mut lookout = roster.send_lookout(later()).unwrap();
    roster.head(1, at(9), at(3));
    assert_eq!(roster.next_read(64, later())[0].after, at(0));
    // What it saw is of the stream that was.
    assert!(!roster.seen(&mut lookout, events(10..=10), later()));
    assert_eq!(taken(&mut inbox), [6, 7, 8, 9]);
    assert!(inbox.try_recv().is_err(), "but the reset");
}

/// What happens to a stream and its reader, in any order.
#[derive(Debug, Clone)]
enum Step {
    /// The hub appends, and hears of it later.
    Append(u8),
    /// Another program appends.
    Foreign(u8),
    /// The oldest answer to an append arrives.
    Answer,
    /// The server's word that the stream has changed arrives.
    Notice,
    /// A read is sent.
    Send,
    /// The answer to it arrives.
    Reply,
    /// A lookout is sent, if one is wanted or not.
    SendLookout,
    /// What the oldest of the lookouts that are under way saw arrives, or that it saw nothing.
    Seen,
    /// The connection of the oldest is lost.
    LoseLookout,
    /// The follower takes what there is.
    Take,
    /// So many milliseconds pass.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_u8..4).prop_map(Step::Append),
        (1_u8..4).prop_map(Step::Foreign),
        Just(Step::Answer),
        Just(Step::Notice),
        Just(Step::Send),
        Just(Step::Reply),
        Just(Step::SendLookout),
        Just(Step::Seen),
        Just(Step::LoseLookout),
        Just(Step::Take),
        (1_u64..150).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_crosses_all_events_come_once_and_in_order(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let (mut roster, (sink, mut inbox)) = (Roster::default(), mpsc::channel(3));
        let number = roster.join(run(), key(), at(0), sink);
        let (mut log, mut got) = (0_u64, Vec::new());
        let mut answers = VecDeque::new();
        // Read by the server at that length; the answer is on its way.
        let mut reading: Option<(EventId, u64)> = None;
        let (mut registered, mut notice) = (false, false);
        // Each with the length at which the server answered it, unless it waits there.
        let mut lookouts: VecDeque<(Lookout, Option<u64>)> = VecDeque::new();
        let mut clock = Instant::now();
        let last = [
            Step::Answer, Step::Notice, Step::Reply, Step::Take, Step::Seen, Step::Take, Step::Wait(150),
            Step::Send, Step::Reply, Step::Take,
        ];
        let settle = std::iter::repeat_n(last, 60).flatten();
        for step in steps.into_iter().chain(settle) {
            match step {
                Step::Append(n) | Step::Foreign(n) => {
                    let before = log;
                    log += u64::from(n);
                    // The server tells once of a stream that was read.
                    notice |= std::mem::take(&mut registered);
                    for (_, length) in &mut lookouts {
                        length.get_or_insert(log);
                    }
                    if matches!(step, Step::Append(_)) {
                        roster.append_begins("run:7:events");
                        answers.push_back((before, log));
                    }
                }
                Step::Answer => if let Some((before, last)) = answers.pop_front() {
                    let events = events(before + 1..=last);
                    if roster.awaits("run:7:events", at(before)) {
                        roster.stored("run:7:events", at(before), events, clock);
                    } else {
                        roster.stored_elsewhere("run:7:events");
                    }
                    roster.append_ended("run:7:events");
                },
                Step::Notice => if std::mem::take(&mut notice) {
                    roster.stream_changed(b"run:7:events");
                },
                Step::Send => if reading.is_none()
                    && let Some(wanted) = roster.next_read(64, clock).pop()
                {
                    registered = true;
                    reading = Some((wanted.after, log));
                },
                Step::Reply => if let Some((after, length)) = reading.take() {
                    let until = length.min(after.ms + 4);
                    roster.read("run:7:events", after, events(after.ms + 1..=until), until < length);
                },
                Step::SendLookout => {
                    roster.heat_up("run:7:events", clock);
                    lookouts.extend(roster.send_lookout(clock).map(|lookout| {
                        let length = (log > lookout.at.after.ms).then_some(log);
                        (lookout, length)
                    }));
                }
                Step::Seen => if let Some((mut lookout, length)) = lookouts.pop_front() {
                    let after = lookout.at.after.ms;
                    let seen = length.map_or(vec![], |length| events(after + 1..=length.min(after + 4)));
                    if roster.seen(&mut lookout, seen, clock) {
                        let length = (log > lookout.at.after.ms).then_some(log);
                        lookouts.push_back((lookout, length));
                    }
                },
                Step::LoseLookout => if let Some((lookout, _)) = lookouts.pop_front() {
                    roster.lookout_is_back(&lookout);
                },
                Step::Take => {
                    got.extend(taken(&mut inbox));
                    roster.has_room(number);
                }
                Step::Wait(ms) => clock += Duration::from_millis(ms),
            }
        }
        prop_assert_eq!(got, (1..=log).collect::<Vec<_>>());
    }
}
