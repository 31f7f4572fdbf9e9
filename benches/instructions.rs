//! The three hottest functions, for `benches/instructions/check` to count their instructions under callgrind:
//! `instructions NAME` calls one of them so often as it then prints; without a name it prints the names.
//!
//! The counts are the same each time: there are no hash maps with random seeds and no other threads in what is
//! counted. They hardly change from one machine to the next, because valgrind has a processor of its own,
//! which offers memchr and glibc's memcpy the same instruction sets on any x86-64 with AVX2. What may change
//! them is another rustc or another glibc, whose allocator and memcpy count as well. A clock is read for each
//! delivery; under valgrind that is always the same system call.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "it answers a script")]

mod samples;

use runhub::event::ReadRules;
use runhub::hub::measured::Outboxes;
use std::hint::black_box;

/// Calls that are counted, and those before them that are not: what is allocated once is then there.
const COUNTED: u64 = 100;
const WARM_UP: u64 = 10;
const READERS: usize = 1000;
const EVENTS: u64 = 16;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("parse_one_event") => parse_one_event(),
        Some("encode_16_events") => encode_16_events(),
        Some("deliver_to_1000_outboxes") => deliver_to_1000_outboxes(),
        Some(name) => panic!("nothing is called {name}"),
        None => {
            return println!("parse_one_event\nencode_16_events\ndeliver_to_1000_outboxes");
        }
    }
    println!("{COUNTED}");
}

fn parse_one_event() {
    repeat(samples::run(), |_, _| samples::TOKEN, |run, json| samples::parse(run, json));
}

fn encode_16_events() {
    let state = (ReadRules::default(), samples::stored(0, EVENTS));
    let encode = |(rules, _): &mut (_, _), events| samples::encode(0, events, rules);
    repeat(state, |(_, events), _| events.clone(), encode);
}

fn deliver_to_1000_outboxes() {
    let rules = ReadRules::default();
    let outboxes = Outboxes::new(READERS, samples::position(0), samples::ROOM);
    let prepare = |(outboxes, due): &mut (Outboxes, usize), n| {
        assert_eq!(outboxes.take_all(), *due, "every reader got the batch before");
        let batch = samples::encode(n * EVENTS, samples::stored(n * EVENTS, EVENTS), &rules);
        *due = READERS * batch.size();
        batch
    };
    repeat((outboxes, 0), prepare, |(outboxes, _), batch| {
        outboxes.deliver(&batch);
        batch
    });
}

/// Does the work on what is prepared for it, again and again.
fn repeat<S, I, O>(
    mut state: S,
    prepare: impl Fn(&mut S, u64) -> I,
    work: impl Fn(&mut S, I) -> O,
) {
    for n in 0..WARM_UP + COUNTED {
        let input = black_box(prepare(&mut state, n));
        drop(black_box(match n < WARM_UP {
            true => work(&mut state, input),
            false => count_instructions_of(|| work(&mut state, input)),
        }));
    }
}

/// What callgrind counts, and nothing else: the script knows this function by its name.
#[inline(never)]
fn count_instructions_of<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}
