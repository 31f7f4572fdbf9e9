//! What each subscriber saw of its run, across all its connections.

use super::finding::Finding;
use super::index::{Entry, Index, received};
use super::record::{EventId, Place, What};
use super::stored::sent_like_this;
use std::collections::{BTreeSet, HashMap};

pub fn check(index: &Index, findings: &mut Vec<Finding>) {
    for ((subscriber, run), seen) in &index.streams {
        let mut stretch = Stretch::of(subscriber, run, index);
        for what in seen {
            match what {
                What::Connected { last, .. } => stretch.connected(*last),
                What::Gap { reason, requested, .. } if reason == "reset" => {
                    // If what the subscriber had is still there, nothing was reset, and what comes again
                    // comes twice.
                    if !requested.is_some_and(|id| stretch.history_has(id)) {
                        stretch.end(findings);
                        stretch = Stretch::of(subscriber, run, index);
                    }
                }
                What::Gap { .. } => stretch.gap = true,
                other => {
                    if let Some(entry) = received(other) {
                        stretch.take(entry, findings);
                    }
                }
            }
        }
        stretch.end(findings);
    }
}

/// What a subscriber got between two resets.
struct Stretch<'a> {
    subscriber: &'a str,
    run: &'a str,
    index: &'a Index<'a>,
    /// The number it began behind; none as long as that is not known.
    from: Option<u64>,
    /// It began at the run's start.
    all: bool,
    seen: HashMap<&'a str, Place>,
    numbers: BTreeSet<u64>,
    high: Option<Place>,
    /// A gap was said, and what follows has not come yet.
    gap: bool,
    /// The numbers that gaps were said for.
    excused: Vec<(u64, u64)>,
}

impl<'a> Stretch<'a> {
    fn of(subscriber: &'a str, run: &'a str, index: &'a Index<'a>) -> Self {
        Self {
            subscriber,
            run,
            index,
            from: None,
            all: false,
            seen: HashMap::new(),
            numbers: BTreeSet::new(),
            high: None,
            gap: false,
            excused: Vec::new(),
        }
    }

    fn connected(&mut self, last: Option<EventId>) {
        if self.from.is_none() && self.seen.is_empty() {
            self.all = last.is_none();
            self.from = match last {
                None => Some(0),
                Some(id) => {
                    let history = self.index.history(self.run);
                    let at = history.iter().position(|entry| entry.place.id == id);
                    // The number it has, or that of the last event before it that has one.
                    at.map(|at| {
                        let before = history[..=at].iter().rev();
                        before.filter_map(|e| e.place.sequence).next().unwrap_or(0)
                    })
                }
            };
        }
    }

    fn history_has(&self, id: EventId) -> bool {
        self.index.history(self.run).iter().any(|entry| entry.place.id == id)
    }

    fn take(&mut self, entry: Entry<'a>, findings: &mut Vec<Finding>) {
        let (subscriber, run) = (self.subscriber.to_owned(), self.run.to_owned());
        sent_like_this(self.index, self.subscriber, self.run, &entry, findings);
        if self.index.sender(self.run, entry.key).is_none() {
            return;
        }
        let key = entry.key.to_owned();
        if let Some(earlier) = self.seen.insert(entry.key, entry.place) {
            let places = [earlier, entry.place];
            findings.push(Finding::DeliveredTwice { subscriber, run, key, places });
        } else if let Some(high) = self.high
            && !entry.place.is_behind(high)
        {
            let (place, behind) = (entry.place, high);
            findings.push(Finding::Backwards { whose: subscriber, run, key, place, behind });
        }
        if let Some(number) = entry.place.sequence {
            if std::mem::take(&mut self.gap) {
                let high = self.high.and_then(|high| high.sequence);
                self.excused.push((high.or(self.from).unwrap_or(0), number));
            }
            self.numbers.insert(number);
        }
        if self.high.is_none_or(|high| high.id < entry.place.id) {
            self.high = Some(entry.place.after(self.high));
        }
    }

    /// Finds what never came. Numbers that the history lacks between others are lost, not skipped; what
    /// lies before its beginning was trimmed, which a gap has to say.
    fn end(&self, findings: &mut Vec<Finding>) {
        self.unnumbered_end(findings);
        let Some(highest) = self.numbers.last() else { return };
        let from = self.from.or(self.numbers.first().map(|first| first - 1)).unwrap_or(0);
        let kept: BTreeSet<u64> =
            self.index.history(self.run).iter().filter_map(|entry| entry.place.sequence).collect();
        let excused = |n: u64| self.excused.iter().any(|(after, before)| *after < n && n < *before);
        let trimmed = |n: u64| kept.first().is_some_and(|oldest| n < *oldest);
        let missing = (from + 1..*highest)
            .filter(|n| !self.numbers.contains(n))
            .filter(|n| kept.contains(n) || (trimmed(*n) && !excused(*n)));
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for n in missing {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == n => *last = n,
                _ => ranges.push((n, n)),
            }
        }
        findings.extend(ranges.into_iter().map(|(first, last)| Finding::Skipped {
            subscriber: self.subscriber.to_owned(),
            run: self.run.to_owned(),
            first,
            last,
        }));
    }

    /// The same of what other programs have added. Of what lies before the first event that came it is not known
    /// whether it was to come, unless all was.
    fn unnumbered_end(&self, findings: &mut Vec<Finding>) {
        let first = self.seen.values().map(|place| place.id).min();
        let (Some(first), Some(high)) = (first, self.high) else { return };
        let history = self.index.history(self.run).iter();
        let missing = history.filter(|entry| {
            let Place { id, sequence } = entry.place;
            let wanted = id < high.id && (id > first || self.all);
            sequence.is_none() && wanted && !self.seen.contains_key(entry.key)
        });
        findings.extend(missing.map(|entry| Finding::SkippedUnnumbered {
            subscriber: self.subscriber.to_owned(),
            run: self.run.to_owned(),
            key: entry.key.to_owned(),
            place: entry.place,
        }));
    }
}
