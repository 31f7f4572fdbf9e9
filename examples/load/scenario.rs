//! The scenarios: what each is, in numbers.

use crate::live::{self, Live};
use crate::measured::Measured;
use crate::options::{Options, Publish, Store};
use crate::publishers::Pace;
use crate::resume::{self, Resume};
use crate::setup::Setup;
use crate::target::Kind;
use crate::{history, idle, many_runs, start, work};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    A,
    B,
    Bb,
    C,
    Cb,
    D,
    E,
    EPlus,
    F,
    G,
    W,
    S,
}

use Scenario::{A, B, Bb, C, Cb, D, E, EPlus, F, G, S, W};

pub const ALL: [Scenario; 12] = [A, B, Bb, C, Cb, D, E, EPlus, F, G, W, S];

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            A => "a",
            B => "b",
            Bb => "bb",
            C => "c",
            Cb => "cb",
            D => "d",
            E => "e",
            EPlus => "e+",
            F => "f",
            G => "g",
            W => "w",
            S => "s",
        }
    }

    /// Why this cannot be asked of the target, if it cannot.
    pub fn does_not_apply(self, options: &Options) -> Option<&'static str> {
        let hub = options.target == Kind::Hub;
        let has_redis = match options.base {
            Some(_) => options.redis.is_some(),
            None => options.store == Store::Redis,
        };
        match (self, options.target) {
            (_, Kind::Hub) if options.publish == Publish::Xadd && !has_redis => {
                Some("XADD needs a Redis behind the hub: --store redis, or --base with --redis")
            }
            (E | EPlus | F, Kind::Copier) => Some("keeps nothing"),
            (F, Kind::Nchan) => Some("has no query"),
            (EPlus, _) if !hub => Some("is about a hub"),
            (G | W, _) if !hub || !has_redis => Some("is about a hub's work on Redis"),
            (S, _) if !hub || options.base.is_some() => Some("is about a hub started here"),
            _ => None,
        }
    }

    pub fn measure(self, options: &Options) -> Result<Measured, String> {
        if self == S {
            return start::measure(options);
        }
        let setup = Setup::start(options)?;
        let subscribers = |usual| options.subscribers.unwrap_or(usual);
        let secs = |usual| options.secs.unwrap_or(usual);
        match self {
            A => live::measure(
                &setup,
                &Live {
                    subscribers: subscribers(100),
                    runs: 100,
                    connections: 4,
                    batch: 1,
                    pace: Pace::Rate(1000.0),
                    secs: secs(8.0),
                },
            ),
            B | Bb => live::measure(
                &setup,
                &Live {
                    subscribers: subscribers(1000),
                    runs: 1,
                    connections: 1,
                    batch: if self == B { 1 } else { 16 },
                    pace: Pace::Undelivered(64),
                    secs: secs(5.0),
                },
            ),
            C | Cb => live::measure(
                &setup,
                &Live {
                    subscribers: subscribers(1000),
                    runs: subscribers(1000),
                    connections: 16,
                    batch: if self == C { 1 } else { 20 },
                    pace: Pace::Undelivered(4000),
                    secs: secs(5.0),
                },
            ),
            D => idle::measure(&setup, subscribers(10_000)),
            E => resume::measure(
                &setup,
                &Resume { subscribers: subscribers(100), history: 1000, behind: 500 },
            ),
            EPlus => resume::crowd(
                &setup,
                &Resume { subscribers: subscribers(1000), history: 10_000, behind: 1 },
            ),
            F => history::measure(&setup, secs(5.0)),
            G => many_runs::measure(options, setup, subscribers(10_000), secs(10.0)),
            W => work::measure(&setup),
            S => start::measure(options),
        }
    }
}
