//! What was measured: named numbers, and of many measurements the median of each.

use crate::options::{Options, Publish, Store};
use crate::publishers::Sent;
use crate::scenario::Scenario;
use crate::subscribers::Verdict;
use crate::target::{Kind, Target};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// What must be 0; of many measurements the worst counts.
pub const WRONG: [&str; 3] = ["lost", "doubled", "reordered"];

#[derive(Default)]
pub struct Measured {
    numbers: Vec<(String, f64)>,
    repeats: usize,
    pub skipped: Option<String>,
    pub failed: Option<String>,
}

impl Measured {
    pub fn skipped(why: &str) -> Self {
        Self { skipped: Some(why.to_owned()), ..Self::default() }
    }

    pub fn failed(why: String) -> Self {
        Self { failed: Some(why), ..Self::default() }
    }

    pub fn add(&mut self, name: impl Into<String>, number: f64) {
        self.numbers.push((name.into(), number));
    }

    /// The percentiles, in milliseconds.
    pub fn add_spread(&mut self, prefix: &str, spread: &Spread) {
        for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)] {
            self.add(format!("{prefix}{name}_ms"), spread.at(share));
        }
    }

    pub fn add_verdict(&mut self, verdict: &Verdict) {
        self.add("deliveries", verdict.deliveries as f64);
        for (name, number) in WRONG.iter().zip([verdict.lost, verdict.doubled, verdict.reordered]) {
            self.add(*name, number as f64);
        }
    }

    pub fn add_sent(&mut self, sent: &Sent) {
        self.add("published", sent.events as f64);
        self.add("events_per_s", sent.events as f64 / sent.secs().max(1e-9));
        self.add("answer_p50_ms", sent.answered.at(0.5));
        self.add("answer_p99_ms", sent.answered.at(0.99));
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }

    pub fn wrong(&self) -> f64 {
        WRONG.iter().filter_map(|name| self.get(name)).sum()
    }

    pub fn numbers(&self) -> impl Iterator<Item = (&str, f64)> {
        self.numbers.iter().map(|(name, number)| (name.as_str(), *number))
    }

    pub fn median(repeats: &[Self]) -> Self {
        let mut median = Self { repeats: repeats.len(), ..Self::default() };
        for (name, _) in repeats.iter().flat_map(Self::numbers) {
            if median.get(name).is_some() {
                continue;
            }
            let mut all: Vec<f64> = repeats.iter().filter_map(|one| one.get(name)).collect();
            all.sort_by(f64::total_cmp);
            let middle = all.len() / 2;
            median.add(
                name,
                match all.len() % 2 {
                    _ if WRONG.contains(&name) => all[all.len() - 1],
                    0 => f64::midpoint(all[middle - 1], all[middle]),
                    _ => all[middle],
                },
            );
        }
        median
    }

    pub fn json(&self, scenario: Scenario, options: &Options) -> Value {
        let mut object = Map::new();
        object.insert("scenario".to_owned(), json!(scenario.name()));
        object.insert("target".to_owned(), json!(Target::name(options.target)));
        if options.target == Kind::Hub {
            let publish = if options.publish == Publish::Xadd { "xadd" } else { "http" };
            object.insert("publish".to_owned(), json!(publish));
        }
        if options.target == Kind::Hub && options.base.is_none() {
            let store = if options.store == Store::Redis { "redis" } else { "embedded" };
            object.insert("store".to_owned(), json!(store));
        }
        for (name, why) in [("skipped", &self.skipped), ("failed", &self.failed)] {
            if let Some(why) = why {
                object.insert(name.to_owned(), json!(why));
                return Value::Object(object);
            }
        }
        object.insert("repeats".to_owned(), json!(self.repeats));
        for (name, number) in self.numbers() {
            object.insert(name.to_owned(), json!((number * 1e4).round() / 1e4));
        }
        Value::Object(object)
    }
}

/// The longest duration told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Many durations, of which the percentiles are asked for.
pub struct Spread(Histogram<u64>);

impl Default for Spread {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("these are valid bounds"))
    }
}

impl Spread {
    pub fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds / 1000);
    }

    /// In milliseconds.
    pub fn at(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1000.0
    }
}
