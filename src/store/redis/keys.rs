//! The names of a run's keys, CONTRACT section 4.

use crate::config::KeyStyle;
use crate::event::RunId;

/// The sorted set of runs by last activity.
pub(super) const RUNS: &str = "runs";

/// What is written and read to see whether a server serves.
pub(super) const PROBE: &str = "runhub:probe";

/// The names of all keys of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys(pub(super) KeyStyle);

/// The key of a stream that holds a run's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamKey {
    pub(super) name: String,
    /// Whether it is a job's, and only other programs write to it.
    pub(super) is_jobs: bool,
}

/// How a stream's key is written: what stands before the run's id, and what behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    before: &'static str,
    behind: &'static str,
}

/// The job streams' shapes, the one that wins first. `common.lua` knows them by how they begin.
const JOB_SHAPES: [Shape; 2] =
    [Shape { before: "job_events:", behind: "" }, Shape { before: "job:", behind: "" }];

impl Shape {
    fn name(self, run: &RunId) -> String {
        [self.before, run.as_str(), self.behind].concat()
    }

    /// The pattern that these keys match; others may match it too.
    pub(super) fn pattern(self) -> String {
        format!("{}*{}", self.before, self.behind)
    }

    /// The run whose stream has this key.
    pub(super) fn run_of(self, key: &str) -> Option<RunId> {
        RunId::parse(key.strip_prefix(self.before)?.strip_suffix(self.behind)?).ok()
    }
}

impl Keys {
    /// The run's own stream, which the hub writes to.
    pub(super) fn stream(self, run: &RunId) -> StreamKey {
        StreamKey { name: self.stream_shape().name(run), is_jobs: false }
    }

    /// The job streams that may be served as this run, the one that wins first.
    pub(super) fn job_streams(run: &RunId) -> [StreamKey; 2] {
        JOB_SHAPES.map(|shape| StreamKey { name: shape.name(run), is_jobs: true })
    }

    /// The shapes of the keys of streams that are served as runs.
    pub(super) fn shapes(self, with_jobs: bool) -> Vec<Shape> {
        let jobs = JOB_SHAPES.into_iter().filter(|_| with_jobs);
        std::iter::once(self.stream_shape()).chain(jobs).collect()
    }

    pub(super) fn meta(self, run: &RunId) -> String {
        self.key(run, "meta")
    }

    /// The base of the keys that hold the `event_id` index; a script appends the generation.
    pub(super) fn index(self, run: &RunId) -> String {
        self.key(run, "event_ids")
    }

    /// The key that says for a while when the run was deleted, ms.
    pub(super) fn deleted(self, run: &RunId) -> String {
        match self.0 {
            KeyStyle::Plain => ["runhub:deleted:", run.as_str()].concat(),
            KeyStyle::Tagged => ["runhub:deleted:{", run.as_str(), "}"].concat(),
        }
    }

    fn stream_shape(self) -> Shape {
        match self.0 {
            KeyStyle::Plain => Shape { before: "run:", behind: ":events" },
            KeyStyle::Tagged => Shape { before: "run:{", behind: "}:events" },
        }
    }

    fn key(self, run: &RunId, part: &str) -> String {
        let (before, behind) = match self.0 {
            KeyStyle::Plain => ("run:", ":"),
            KeyStyle::Tagged => ("run:{", "}:"),
        };
        [before, run.as_str(), behind, part].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_run() {
        let run = RunId::parse("7").unwrap();
        for (style, own, pattern) in [
            (KeyStyle::Plain, "run:7:events", "run:*:events"),
            (KeyStyle::Tagged, "run:{7}:events", "run:{*}:events"),
        ] {
            let shapes = Keys(style).shapes(true);
            assert_eq!((Keys(style).stream(&run).name.as_str(), shapes.len()), (own, 3));
            assert_eq!(shapes[0].pattern(), pattern);
            assert_eq!(shapes[0].run_of(own), Some(run.clone()));
            assert_eq!(Keys(style).shapes(false).len(), 1);
        }
        let [plain, events, job] = Keys(KeyStyle::Plain).shapes(true).try_into().unwrap();
        assert_eq!(Keys::job_streams(&run).map(|key| key.name), ["job_events:7", "job:7"]);
        assert_eq!(
            (events.run_of("job_events:7"), job.run_of("job:7")),
            (Some(run.clone()), Some(run))
        );
        for odd in
            ["run:{7}:events", "run::events", "run:a:b:events", "run:events", "run:a b:events"]
        {
            assert_eq!(plain.run_of(odd), None, "{odd}");
        }
        assert_eq!(job.run_of("job:7:logs"), None);
    }
}
