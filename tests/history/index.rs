//! A history, sorted by what it is about.

use super::record::{EventId, Log, Outcome, Place, Record, Sent, What};
use std::collections::{BTreeMap, HashMap};

/// The records, sorted.
pub struct Index<'a> {
    pub ops: BTreeMap<u64, Op<'a>>,
    /// Which publish sent the event of this key.
    pub senders: HashMap<&'a str, u64>,
    pub logs: BTreeMap<(Log, &'a str), Vec<Entry<'a>>>,
    /// What each subscriber saw on each run, in order.
    pub streams: BTreeMap<(&'a str, &'a str), Vec<&'a What>>,
    /// Times in which the hub was stopped.
    pub stops: Vec<(u64, u64)>,
    /// What those who take part found wrong themselves.
    pub complaints: Vec<&'a What>,
}

/// A publish.
pub struct Op<'a> {
    pub publisher: &'a str,
    pub run: &'a str,
    pub events: &'a [Sent],
    pub attempts: BTreeMap<u32, Attempt<'a>>,
}

/// Once sending it.
pub struct Attempt<'a> {
    pub began: u64,
    pub ended: Option<(u64, Ending<'a>)>,
}

/// What it came to.
pub enum Ending<'a> {
    Answered(&'a Outcome),
    Unknown,
    Unreached,
}

/// An event as somebody has it.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub key: &'a str,
    pub place: Place,
    pub content: &'a str,
}

impl<'a> Index<'a> {
    pub fn of(records: &'a [Record]) -> Self {
        let mut index = Self {
            ops: BTreeMap::new(),
            senders: HashMap::new(),
            logs: BTreeMap::new(),
            streams: BTreeMap::new(),
            stops: Vec::new(),
            complaints: Vec::new(),
        };
        let mut stopping: HashMap<&str, u64> = HashMap::new();
        for record in records {
            index.take(record);
            match &record.what {
                What::FaultBegun { name, stops_hub: true } => {
                    stopping.insert(name, record.at);
                }
                What::FaultEnded { name } => {
                    let began = stopping.remove(name.as_str());
                    index.stops.extend(began.map(|began| (began, record.at)));
                }
                _ => {}
            }
        }
        index
    }

    fn take(&mut self, record: &'a Record) {
        let at = record.at;
        match &record.what {
            What::Invoked { publisher, run, op, attempt, events } => {
                self.senders.extend(events.iter().map(|e| (e.key.as_str(), *op)));
                let attempts = BTreeMap::new();
                let new = Op { publisher, run, events, attempts };
                let begun = Attempt { began: at, ended: None };
                self.ops.entry(*op).or_insert(new).attempts.insert(*attempt, begun);
            }
            What::Answered { op, attempt, outcome } => {
                self.end(*op, *attempt, at, Ending::Answered(outcome));
            }
            What::Unknown { op, attempt, .. } => self.end(*op, *attempt, at, Ending::Unknown),
            What::Unreached { op, attempt } => self.end(*op, *attempt, at, Ending::Unreached),
            What::Connected { subscriber, run, .. }
            | What::Received { subscriber, run, .. }
            | What::Gap { subscriber, run, .. } => {
                self.streams.entry((subscriber, run)).or_default().push(&record.what);
            }
            What::Final { log, run, key, place, content } => {
                let entry = Entry { key, place: *place, content };
                self.logs.entry((*log, run)).or_default().push(entry);
            }
            What::Overdue { .. } | What::Broken { .. } => self.complaints.push(&record.what),
            What::Disconnected { .. }
            | What::Mode { .. }
            | What::Health { .. }
            | What::FaultBegun { .. }
            | What::FaultEnded { .. } => {}
        }
    }

    fn end(&mut self, op: u64, attempt: u32, at: u64, ending: Ending<'a>) {
        if let Some(attempt) = self.ops.get_mut(&op).and_then(|op| op.attempts.get_mut(&attempt)) {
            attempt.ended = Some((at, ending));
        }
    }

    /// What the hub says the run is.
    pub fn history(&self, run: &str) -> &[Entry<'a>] {
        let mut logs = self.logs.iter();
        let history = logs.find(|((log, of), _)| *log == Log::Hub && *of == run);
        history.map_or(&[], |(_, entries)| entries.as_slice())
    }

    /// The logs that were read at the end. The hub's history always was, if only to be empty.
    pub fn log_kinds(&self) -> Vec<Log> {
        let store_was_read = self.logs.keys().any(|(log, _)| *log == Log::Store);
        if store_was_read { vec![Log::Hub, Log::Store] } else { vec![Log::Hub] }
    }

    /// Everything that subscribers received, by subscriber and run.
    pub fn received(&self) -> impl Iterator<Item = (&'a str, &'a str, Entry<'a>)> + '_ {
        self.streams.iter().flat_map(|((subscriber, run), seen)| {
            let entries = seen.iter().filter_map(|what| received(what));
            entries.map(move |entry| (*subscriber, *run, entry))
        })
    }

    /// The publish that sent this event to this run.
    pub fn sender(&self, run: &str, key: &str) -> Option<&Op<'a>> {
        self.senders.get(key).and_then(|op| self.ops.get(op)).filter(|op| op.run == run)
    }

    /// Before which id the run was trimmed, as streams have said.
    pub fn trimmed_before(&self, run: &str) -> Option<EventId> {
        let of_run = self.streams.iter().filter(|((_, of), _)| *of == run);
        let oldest = of_run.flat_map(|(_, seen)| seen).filter_map(|what| match what {
            What::Gap { reason, oldest, .. } if reason == "trimmed" => *oldest,
            _ => None,
        });
        oldest.max()
    }
}

/// The event that came, if that is what this record tells.
pub fn received(what: &What) -> Option<Entry<'_>> {
    match what {
        What::Received { key, place, content, .. } => Some(Entry { key, place: *place, content }),
        _ => None,
    }
}

impl Op<'_> {
    fn endings(&self) -> impl Iterator<Item = &Ending<'_>> {
        self.attempts.values().filter_map(|a| a.ended.as_ref().map(|(_, ending)| ending))
    }

    /// The hub has promised that it is, or will be, stored.
    pub fn is_promised(&self) -> bool {
        self.endings().any(|ending| {
            matches!(
                ending,
                Ending::Answered(
                    Outcome::Persisted { .. } | Outcome::Duplicate { .. } | Outcome::Spooled
                )
            )
        })
    }

    /// The places the hub has told.
    pub fn places(&self) -> impl Iterator<Item = &Vec<Place>> {
        self.endings().filter_map(|ending| match ending {
            Ending::Answered(Outcome::Persisted { places } | Outcome::Duplicate { places }) => {
                Some(places)
            }
            _ => None,
        })
    }

    /// Whether it was ever open what became of it.
    pub fn was_in_doubt(&self) -> bool {
        self.endings().any(|ending| match ending {
            Ending::Unknown | Ending::Answered(Outcome::Spooled) => true,
            Ending::Answered(Outcome::Refused { code }) => !says_nothing_was_stored(code),
            Ending::Answered(_) | Ending::Unreached => false,
        })
    }

    /// The codes it was refused with, if these say of every attempt that nothing was stored.
    pub fn surely_refused(&self) -> Option<Vec<String>> {
        let mut codes = Vec::new();
        for attempt in self.attempts.values() {
            match &attempt.ended {
                Some((_, Ending::Unreached)) => {}
                Some((_, Ending::Answered(Outcome::Refused { code })))
                    if says_nothing_was_stored(code) =>
                {
                    codes.push(code.clone());
                }
                _ => return None,
            }
        }
        Some(codes)
    }
}

/// Whether this error code says so. `STORE_UNAVAILABLE` does not, and what is not known does not either.
fn says_nothing_was_stored(code: &str) -> bool {
    matches!(code, "SPOOL_FULL" | "RATE_LIMITED" | "EVENT_TOO_LARGE" | "BATCH_TOO_LARGE")
        || code.starts_with("INVALID_")
}
