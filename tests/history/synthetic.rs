//! Histories as a faultless hub would cause them, made up by seed: what the checker must find clean.

use super::record::{EventId, Log, Outcome, Place, Record, Sent, What};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const RUNS: usize = 2;
pub const SUBSCRIBERS: usize = 3;
const PUBLISHERS: usize = 3;
const PUBLISHES: u64 = 150;

/// A history with publishes of every outcome, and subscribers that come and go.
pub fn history(seed: u64) -> Vec<Record> {
    let random = StdRng::seed_from_u64(seed);
    let mut world = World { random, now: 0, records: Vec::new(), runs: Vec::new(), op: 0 };
    world.runs = (0..RUNS).map(|_| Run { log: Vec::new(), seen: [0; SUBSCRIBERS] }).collect();
    for run in 0..RUNS {
        for subscriber in 0..SUBSCRIBERS {
            world.connect(run, subscriber);
        }
    }
    for number in 0..PUBLISHES {
        match number {
            30 => world.fault("redis is killed", false, true),
            60 => world.fault("redis is killed", false, false),
            90 => world.fault("the hub is stopped", true, true),
            91 => world.fault("the hub is stopped", true, false),
            _ => {}
        }
        world.publish();
        world.read(4);
    }
    world.read(usize::MAX);
    world.write_the_end();
    world.records
}

pub fn run_name(run: usize) -> String {
    format!("run{run}")
}

pub fn subscriber_name(subscriber: usize) -> String {
    format!("s{subscriber}")
}

struct World {
    random: StdRng,
    now: u64,
    records: Vec<Record>,
    runs: Vec<Run>,
    op: u64,
}

struct Run {
    log: Vec<(Sent, Place)>,
    /// How much of it each subscriber has.
    seen: [usize; SUBSCRIBERS],
}

impl World {
    fn say(&mut self, what: What) {
        self.now += self.random.random_range(1..1000);
        self.records.push(Record { at: self.now, what });
    }

    fn fault(&mut self, name: &str, stops_hub: bool, begins: bool) {
        let name = name.to_owned();
        self.say(match begins {
            true => What::FaultBegun { name, stops_hub },
            false => What::FaultEnded { name },
        });
    }

    fn store(&mut self, run: usize, events: &[Sent]) -> Vec<Place> {
        let log = &mut self.runs[run].log;
        let mut places = Vec::new();
        for sent in events {
            let sequence = log.len() as u64 + 1;
            let id = EventId { ms: 1000 + sequence / 3, n: sequence % 3 };
            let place = Place { id, sequence: Some(sequence) };
            log.push((sent.clone(), place));
            places.push(place);
        }
        places
    }

    fn publish(&mut self) {
        self.op += 1;
        let (op, run) = (self.op, self.random.random_range(0..RUNS));
        let publisher = format!("p{}", self.random.random_range(0..PUBLISHERS));
        let count = self.random.random_range(1..4);
        let sent = |n| Sent { key: format!("{op}-{n}"), content: format!("content of {op}-{n}") };
        let events: Vec<Sent> = (0..count).map(sent).collect();
        let invoked = |attempt| What::Invoked {
            publisher: publisher.clone(),
            run: run_name(run),
            op,
            attempt,
            events: events.clone(),
        };
        let answered = |attempt, outcome| What::Answered { op, attempt, outcome };
        let unknown = |attempt| What::Unknown { op, attempt, why: "the end of file".to_owned() };
        let refused = |code: &str| Outcome::Refused { code: code.to_owned() };
        self.say(invoked(1));
        match self.random.random_range(0..10) {
            0 => {
                let places = self.store(run, &events);
                self.say(unknown(1));
                self.say(invoked(2));
                self.say(answered(2, Outcome::Duplicate { places }));
            }
            1 => {
                self.say(unknown(1));
                self.say(invoked(2));
                let places = self.store(run, &events);
                self.say(answered(2, Outcome::Persisted { places }));
            }
            2 => {
                self.say(What::Unreached { op, attempt: 1 });
                self.say(invoked(2));
                self.say(answered(2, refused("STORE_UNAVAILABLE")));
                self.say(invoked(3));
                self.store(run, &events);
                self.say(answered(3, Outcome::Spooled));
            }
            3 => {
                self.store(run, &events);
                self.say(answered(1, Outcome::Spooled));
            }
            4 => {
                self.store(run, &events);
                self.say(unknown(1));
            }
            5 => self.say(unknown(1)),
            6 => self.say(answered(1, refused("SPOOL_FULL"))),
            7 => {
                self.store(run, &events);
                self.say(answered(1, Outcome::Accepted));
            }
            _ => {
                let places = self.store(run, &events);
                self.say(answered(1, Outcome::Persisted { places }));
            }
        }
    }

    fn connect(&mut self, run: usize, subscriber: usize) {
        let seen = self.runs[run].seen[subscriber];
        let last = seen.checked_sub(1).map(|at| self.runs[run].log[at].1.id);
        let (subscriber, run) = (subscriber_name(subscriber), run_name(run));
        self.say(What::Connected { subscriber, run, last });
    }

    /// Subscribers receive up to so many events each, and some reconnect.
    fn read(&mut self, most: usize) {
        for run in 0..RUNS {
            for subscriber in 0..SUBSCRIBERS {
                if self.random.random_bool(0.05) {
                    let why = "on purpose".to_owned();
                    let seen = self.runs[run].seen[subscriber];
                    let last = seen.checked_sub(1).map(|at| self.runs[run].log[at].1.id);
                    let (subscriber, run) = (subscriber_name(subscriber), run_name(run));
                    self.say(What::Disconnected { subscriber, run, last, why });
                }
                if self.random.random_bool(0.05) {
                    self.connect(run, subscriber);
                }
                let seen = self.runs[run].seen[subscriber];
                let new = (self.runs[run].log.len() - seen).min(most);
                for at in seen..seen + new {
                    let (sent, place) = self.runs[run].log[at].clone();
                    self.say(What::Received {
                        subscriber: subscriber_name(subscriber),
                        run: run_name(run),
                        key: sent.key,
                        place,
                        content: sent.content,
                    });
                }
                self.runs[run].seen[subscriber] += new;
            }
        }
    }

    fn write_the_end(&mut self) {
        for log in [Log::Hub, Log::Store] {
            for run in 0..RUNS {
                for (sent, place) in self.runs[run].log.clone() {
                    let (key, content) = (sent.key, sent.content);
                    self.say(What::Final { log, run: run_name(run), key, place, content });
                }
            }
        }
    }
}
