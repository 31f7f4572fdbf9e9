//! Plays a script: turns its steps into events by the vocabulary, at the speed of somebody who reads along.

use super::super::Failure;
use super::publisher::Publisher;
use super::script::{Agent, Step};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Between two tokens at speed 1, on average.
const TOKEN: Duration = Duration::from_millis(66);
/// Before a step that says something new.
const BREATH: Duration = Duration::from_millis(400);
/// The name given as the language model's.
const MODEL: &str = "demo";

pub(super) struct Player {
    publisher: Publisher,
    speed: f64,
    started: Instant,
    /// When the next event is due.
    due: Instant,
    stage: Option<&'static str>,
    messages: u64,
    tokens: u64,
    tool_calls: u64,
    tool_failures: u64,
}

impl Player {
    pub(super) fn new(publisher: Publisher, speed: f64) -> Self {
        let now = Instant::now();
        Self {
            publisher,
            speed,
            started: now,
            due: now,
            stage: None,
            messages: 0,
            tokens: 0,
            tool_calls: 0,
            tool_failures: 0,
        }
    }

    /// Plays all of it; says in a few words what was played.
    pub(super) fn play(mut self, script: &[Step]) -> Result<String, Failure> {
        for step in script {
            self.step(step)?;
        }
        let (events, tokens) = (self.publisher.sent(), self.tokens);
        let seconds = self.started.elapsed().as_secs_f64();
        Ok(format!("{events} events, {tokens} tokens, {seconds:.1} s"))
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Starts { by, task } => {
                self.tell(by, "lifecycle.started", json!({ "task": task }))
            }
            Step::Topology { by, hierarchy } => {
                let teams = hierarchy.iter().map(|(team, members)| {
                    let names: Vec<_> = members.iter().map(|member| member.name).collect();
                    ((*team).to_owned(), json!(names))
                });
                let hierarchy: Map<String, Value> = teams.collect();
                self.tell(by, "system.topology", json!({ "hierarchy": hierarchy }))
            }
            Step::Stage { by, to } => {
                let from = self.stage.replace(to);
                self.wait(BREATH);
                self.tell(by, "stage.change", json!({ "from_stage": from, "to_stage": to }))
            }
            Step::Dispatches { by, to, task } => {
                self.wait(BREATH);
                let data = json!({ "worker_name": to.name, "team_name": to.team, "task": task });
                self.tell(by, "dispatch.assigned", data)
            }
            Step::Begins { by, node, prompt } => {
                self.wait(BREATH);
                self.tell(by, "node.start", json!({ "node_name": node, "agent_name": by.name }))?;
                let data = json!({ "prompt": prompt, "framework": "demo", "mode": "team" });
                self.tell(by, "agent.start", data)
            }
            Step::Ends { by, node, output } => {
                let data = json!({ "status": "success", "output": output, "stage": self.stage });
                self.tell(by, "agent.end", data)?;
                let data = json!({ "node_name": node, "agent_name": by.name, "output": output });
                self.tell(by, "node.end", data)
            }
            Step::Thinks { by, thought } => {
                self.wait(BREATH);
                self.tell(by, "llm.reasoning", json!({ "thought": thought }))
            }
            Step::Speaks { by, text } => self.speak(by, text),
            Step::Uses { by, tool, arguments, takes, outcome } => {
                self.wait(BREATH);
                let arguments =
                    arguments.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
                let arguments: Map<String, Value> = arguments.collect();
                self.tool_calls += 1;
                let data = json!({ "tool_name": tool, "tool_args": arguments });
                self.tell(by, "tool.start", data)?;
                self.wait(*takes);
                let data = match outcome {
                    Ok(result) => {
                        json!({ "tool_name": tool, "tool_result": result, "success": true })
                    }
                    Err(error) => {
                        self.tool_failures += 1;
                        json!({ "tool_name": tool, "tool_result": null, "success": false, "error": error })
                    }
                };
                self.tell(by, "tool.end", data)
            }
            Step::Completes { by, summary } => {
                let statistics = json!({
                    // This event is one of them.
                    "events": self.publisher.sent() + 1,
                    "messages": self.messages,
                    "tokens": self.tokens,
                    "tool_calls": self.tool_calls,
                    "tool_failures": self.tool_failures,
                    "duration_seconds": self.started.elapsed().as_secs_f64(),
                });
                let data =
                    json!({ "result": "delivered", "summary": summary, "statistics": statistics });
                self.tell(by, "lifecycle.completed", data)
            }
        }
    }

    /// A message: its tokens one by one, then the whole.
    fn speak(&mut self, by: &Agent, text: &str) -> Result<(), Failure> {
        self.wait(BREATH);
        self.messages += 1;
        let message = format!("{}-m{}", self.publisher.run(), self.messages);
        self.tell_of(by, "llm.start", json!({ "model": MODEL }), &message)?;
        let mut tokens = 0;
        for token in text.split_inclusive(char::is_whitespace) {
            self.wait(TOKEN.mul_f64(rand::random_range(0.5..1.5)));
            let data = json!({ "content": token, "content_type": "text" });
            self.tell_of(by, "llm.stream", data, &message)?;
            tokens += 1;
        }
        self.tokens += tokens;
        let usage = json!({ "completion_tokens": tokens });
        let data = json!({ "content": text, "usage": usage, "finish_reason": "stop" });
        self.tell_of(by, "llm.end", data, &message)?;
        let data = json!({ "content": text, "role": "assistant", "stage": self.stage });
        self.tell_of(by, "message.complete", data, &message)
    }

    fn tell_of(
        &mut self,
        by: &Agent,
        kind: &str,
        data: Value,
        message: &str,
    ) -> Result<(), Failure> {
        let mut event = event(by, kind, data);
        event["message_id"] = json!(message);
        self.publisher.publish(&event)
    }

    fn tell(&mut self, by: &Agent, kind: &str, data: Value) -> Result<(), Failure> {
        self.publisher.publish(&event(by, kind, data))
    }

    /// Waits until so much later, at this speed, than the last wait was to end: what publishing takes is part
    /// of it. After an outage nothing is made up for.
    fn wait(&mut self, pause: Duration) {
        self.due += pause.div_f64(self.speed);
        match self.due.checked_duration_since(Instant::now()) {
            Some(left) => std::thread::sleep(left),
            None => self.due = Instant::now(),
        }
    }
}

fn event(by: &Agent, kind: &str, data: Value) -> Value {
    let source = json!({
        "agent_id": by.id, "agent_type": by.kind, "agent_name": by.name, "team_name": by.team,
    });
    let mut event = json!({ "type": kind, "source": source });
    event["data"] = data;
    event
}
