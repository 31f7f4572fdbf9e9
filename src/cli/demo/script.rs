//! What the demo plays, as data: a team builds a small tool, from the requirement to the last test. One
//! search times out and is done again; QA finds one bug, which the engineer mends.

use std::time::Duration;

/// Somebody on the team.
pub(super) struct Agent {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) team: &'static str,
}

/// One thing that happens.
pub(super) enum Step {
    /// The run begins.
    Starts {
        by: &'static Agent,
        task: &'static str,
    },
    /// Who is on which team.
    Topology {
        by: &'static Agent,
        hierarchy: &'static [(&'static str, &'static [&'static Agent])],
    },
    /// The next stage.
    Stage {
        by: &'static Agent,
        to: &'static str,
    },
    /// Somebody gets work.
    Dispatches {
        by: &'static Agent,
        to: &'static Agent,
        task: &'static str,
    },
    /// Somebody begins with it.
    Begins {
        by: &'static Agent,
        node: &'static str,
        prompt: &'static str,
    },
    /// And has done it.
    Ends {
        by: &'static Agent,
        node: &'static str,
        output: &'static str,
    },
    Thinks {
        by: &'static Agent,
        thought: &'static str,
    },
    /// A message, which comes token by token.
    Speaks {
        by: &'static Agent,
        text: &'static str,
    },
    Uses {
        by: &'static Agent,
        tool: &'static str,
        arguments: &'static [(&'static str, &'static str)],
        takes: Duration,
        outcome: Result<&'static str, &'static str>,
    },
    /// The run ends well.
    Completes {
        by: &'static Agent,
        summary: &'static str,
    },
}

const fn agent(
    id: &'static str,
    name: &'static str,
    kind: &'static str,
    team: &'static str,
) -> Agent {
    Agent { id, name, kind, team }
}

static BOSS: Agent = agent("boss-1", "Boss", "supervisor", "management");
static PRODUCT: Agent = agent("pm-1", "Product Manager", "worker", "product");
static ARCHITECT: Agent = agent("arch-1", "Architect", "worker", "engineering");
static PROJECT: Agent = agent("pjm-1", "Project Manager", "worker", "management");
static ENGINEER: Agent = agent("eng-1", "Engineer", "worker", "engineering");
static QA: Agent = agent("qa-1", "QA", "worker", "quality");

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) static SCRIPT: &[Step] = &[
    Step::Starts { by: &BOSS, task: "Build a pomodoro timer for the terminal" },
    Step::Topology {
        by: &BOSS,
        hierarchy: &[
            ("management", &[&BOSS, &PROJECT]),
            ("product", &[&PRODUCT]),
            ("engineering", &[&ARCHITECT, &ENGINEER]),
            ("quality", &[&QA]),
        ],
    },
    Step::Stage { by: &BOSS, to: "requirement" },
    Step::Speaks {
        by: &BOSS,
        text: "We build a pomodoro timer for the terminal: small, honest, no accounts. I want the \
               requirements first, on one page.",
    },
    Step::Dispatches { by: &BOSS, to: &PRODUCT, task: "Write the requirements on one page" },
    Step::Begins {
        by: &PRODUCT,
        node: "write_requirements",
        prompt: "Write the requirements of a pomodoro timer for the terminal, on one page.",
    },
    Step::Thinks {
        by: &PRODUCT,
        thought: "Before I invent features I should see what people miss in the timers there are.",
    },
    Step::Uses {
        by: &PRODUCT,
        tool: "web_search",
        arguments: &[("query", "terminal pomodoro timer complaints")],
        takes: ms(2500),
        outcome: Err("the search did not answer within 10 s"),
    },
    Step::Thinks { by: &PRODUCT, thought: "A timeout is worth one more try before I go without." },
    Step::Uses {
        by: &PRODUCT,
        tool: "web_search",
        arguments: &[("query", "terminal pomodoro timer complaints")],
        takes: ms(1200),
        outcome: Ok("12 results; most: the timer forgets its state when the terminal is closed"),
    },
    Step::Speaks {
        by: &PRODUCT,
        text: "Requirements. One: start, pause and resume with one key each. Two: 25 minutes of work, \
               5 of rest, both configurable. Three: closing the terminal must not lose the session; this is \
               what people complain about most. Four: a bell at the end, which can be turned off.",
    },
    Step::Ends { by: &PRODUCT, node: "write_requirements", output: "Four requirements, one page" },
    Step::Stage { by: &BOSS, to: "design" },
    Step::Dispatches {
        by: &BOSS,
        to: &ARCHITECT,
        task: "Design it so that a session outlives its terminal",
    },
    Step::Begins {
        by: &ARCHITECT,
        node: "write_design",
        prompt: "Design the timer. A session must outlive the terminal it was started in.",
    },
    Step::Thinks {
        by: &ARCHITECT,
        thought: "If only the time of the start is kept, nothing has to run while nobody looks.",
    },
    Step::Speaks {
        by: &ARCHITECT,
        text: "Design. No daemon. A session is a small file that holds when it was started and how long it \
               was paused; the time left is computed whenever somebody asks. Three modules: session for the \
               arithmetic, store for the file, screen for the keys and the countdown.",
    },
    Step::Uses {
        by: &ARCHITECT,
        tool: "write_file",
        arguments: &[("path", "docs/design.md")],
        takes: ms(600),
        outcome: Ok("docs/design.md, 41 lines"),
    },
    Step::Ends { by: &ARCHITECT, node: "write_design", output: "docs/design.md" },
    Step::Begins {
        by: &PROJECT,
        node: "plan",
        prompt: "Cut the design into tasks and put them in order.",
    },
    Step::Speaks {
        by: &PROJECT,
        text: "Three tasks, in this order: session and its tests, then the store, then the screen. The first \
               two carry the risk, so QA may start on them while the screen is being written.",
    },
    Step::Ends { by: &PROJECT, node: "plan", output: "Three tasks" },
    Step::Stage { by: &BOSS, to: "development" },
    Step::Dispatches {
        by: &PROJECT,
        to: &ENGINEER,
        task: "Session, store and screen, in this order",
    },
    Step::Begins {
        by: &ENGINEER,
        node: "implement",
        prompt: "Implement session, store and screen as docs/design.md says.",
    },
    Step::Uses {
        by: &ENGINEER,
        tool: "read_file",
        arguments: &[("path", "docs/design.md")],
        takes: ms(300),
        outcome: Ok("41 lines"),
    },
    Step::Speaks {
        by: &ENGINEER,
        text: "I begin with the arithmetic:\n\nfn left(&self, now: Instant) -> Duration {\n    \
               self.length.saturating_sub(now - self.started)\n}\n\nThe store writes to a second file \
               and renames it, so that a crash leaves the old session or the new one.",
    },
    Step::Uses {
        by: &ENGINEER,
        tool: "write_file",
        arguments: &[("path", "src/session.rs")],
        takes: ms(700),
        outcome: Ok("src/session.rs, 88 lines"),
    },
    Step::Uses {
        by: &ENGINEER,
        tool: "write_file",
        arguments: &[("path", "src/screen.rs")],
        takes: ms(900),
        outcome: Ok("src/screen.rs, 134 lines"),
    },
    Step::Uses {
        by: &ENGINEER,
        tool: "run_tests",
        arguments: &[("command", "cargo test")],
        takes: ms(3000),
        outcome: Ok("14 passed, 0 failed"),
    },
    Step::Ends { by: &ENGINEER, node: "implement", output: "14 tests pass" },
    Step::Stage { by: &BOSS, to: "testing" },
    Step::Dispatches { by: &PROJECT, to: &QA, task: "Test against the four requirements" },
    Step::Begins { by: &QA, node: "test", prompt: "Test the timer against its four requirements." },
    Step::Uses {
        by: &QA,
        tool: "run_scenario",
        arguments: &[("name", "pause for 10 minutes, then resume")],
        takes: ms(2000),
        outcome: Ok("25:00 expected, 15:00 shown"),
    },
    Step::Speaks {
        by: &QA,
        text: "One bug, against requirement one: the time goes on while the session is paused. After ten \
               minutes of pause, ten minutes of work are gone. Everything else holds.",
    },
    Step::Ends { by: &QA, node: "test", output: "One bug: a pause counts as work" },
    Step::Dispatches { by: &PROJECT, to: &ENGINEER, task: "A pause must not count as work" },
    Step::Begins {
        by: &ENGINEER,
        node: "fix",
        prompt: "Fix: the time goes on while the session is paused.",
    },
    Step::Speaks {
        by: &ENGINEER,
        text: "QA is right: I never subtract the pauses. They are kept in the file already, so it is one line \
               in left(), and a test that pauses twice.",
    },
    Step::Uses {
        by: &ENGINEER,
        tool: "run_tests",
        arguments: &[("command", "cargo test")],
        takes: ms(2500),
        outcome: Ok("15 passed, 0 failed"),
    },
    Step::Ends { by: &ENGINEER, node: "fix", output: "Pauses are subtracted; 15 tests pass" },
    Step::Begins {
        by: &QA,
        node: "retest",
        prompt: "Test the pause again, and the rest once more.",
    },
    Step::Uses {
        by: &QA,
        tool: "run_scenario",
        arguments: &[("name", "pause for 10 minutes, then resume")],
        takes: ms(1500),
        outcome: Ok("25:00 expected, 25:00 shown"),
    },
    Step::Speaks {
        by: &QA,
        text: "The pause is right now, and so are the other requirements. From my side it can go out.",
    },
    Step::Ends { by: &QA, node: "retest", output: "All four requirements hold" },
    Step::Speaks {
        by: &BOSS,
        text: "Thank you all. One page of requirements, one bug, found here and not by a user: delivered.",
    },
    Step::Completes { by: &BOSS, summary: "The timer is delivered; one bug was found and mended" },
];
