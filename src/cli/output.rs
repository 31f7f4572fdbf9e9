//! Events on standard output, one line each: for people, or as the hub's own JSON.
//!
//! On a terminal a line is cut at [`WIDTH`] characters and coloured, unless `NO_COLOR` is set; into a pipe
//! or a file it goes plain, and as long as a log line may be.

use super::Failure;
use super::telling::telling;
use crate::telemetry::log::one_line;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// The most characters of a line on a terminal.
const WIDTH: usize = 160;

const DIM: &str = "2";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "34";
const MAGENTA: &str = "35";
const CYAN: &str = "36";

/// An event's fields. One that cannot be taken apart, such as a number beyond all bounds in its data, is shown as it is
/// written.
fn fields(event: &str) -> Value {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(event).unwrap_or_default();
    let value = |raw: &RawValue| {
        serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::String(raw.get().to_owned()))
    };
    fields.into_iter().map(|(name, raw)| (name, value(raw))).collect()
}

/// Writes events.
pub(super) struct Printer {
    json: bool,
    colour: bool,
    width: Option<usize>,
}

impl Printer {
    /// For the standard output as it is.
    pub(super) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: terminal && !unwanted, width: terminal.then_some(WIDTH) }
    }

    /// Writes an event, given as the JSON that the hub sent.
    pub(super) fn print(&self, event: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.json {
            true => writeln!(out, "{event}"),
            false => writeln!(out, "{}", self.readable(event)),
        }
    }

    fn readable(&self, event: &str) -> String {
        let event = fields(event);
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (category, action) = (text("/event/category"), text("/event/action"));
        let kind = format!("{category}.{action}");
        // Of 2025-01-01T12:00:00.001Z the time of the day.
        let time = text("/timestamp").get(11..23).unwrap_or("-");
        let sequence = match event.get("sequence") {
            None | Some(Value::Null) => "-".to_owned(),
            Some(sequence) => sequence.to_string(),
        };
        let sources = ["agent_name", "agent_id", "node_name", "team_name"];
        let source = sources.map(|key| event.pointer(&format!("/source/{key}")));
        let source = source.into_iter().flatten().filter_map(Value::as_str).find(|s| !s.is_empty());
        let data = event.get("data").unwrap_or(&Value::Null);
        let mut said = telling(&kind, data);
        if let Some(folded) = event.get("folded").and_then(Value::as_u64) {
            said += &format!(" [{folded} deltas]");
        }
        // Each part is made harmless before colours are put around it.
        let start = format!("{} {:>5}", one_line(time), one_line(&sequence));
        let (source, kind) = (one_line(source.unwrap_or("-")), one_line(&kind));
        let (source, kind) = (format!("{source:<16}"), format!("{kind:<16}"));
        let used = [&start, &source, &kind].map(|part| part.chars().count() + 1);
        let left = self.width.map(|width| width.saturating_sub(used.iter().sum()).max(20));
        let said = cut(&one_line(&said), left);
        if !self.colour {
            return format!("{start} {source} {kind} {said}").trim_end().to_owned();
        }
        let trouble = is_trouble(action, data);
        let colour = if trouble { RED } else { colour_of(category) };
        let said = if trouble { painted(RED, &said) } else { said };
        let (start, source) = (painted(DIM, &start), painted(BOLD, &source));
        format!("{start} {source} {} {said}", painted(colour, &kind))
    }
}

/// Whether the reader of our output is still there; `runhub tail … | head` is no failure.
pub(super) fn goes_on(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Failure::Failed(format!("cannot write to standard output: {e}"))),
    }
}

fn painted(colour: &str, text: &str) -> String {
    format!("\x1b[{colour}m{text}\x1b[0m")
}

fn colour_of(category: &str) -> &'static str {
    match category {
        "lifecycle" => GREEN,
        "llm" | "message" => CYAN,
        "tool" => YELLOW,
        "stage" | "task" => MAGENTA,
        "agent" | "dispatch" | "node" => BLUE,
        _ => DIM,
    }
}

fn is_trouble(action: &str, data: &Value) -> bool {
    matches!(action, "error" | "failed" | "warning")
        || data.get("success") == Some(&Value::Bool(false))
        || data.get("status").and_then(Value::as_str).is_some_and(|s| s == "error" || s == "failed")
}

fn cut(text: &str, most: Option<usize>) -> String {
    match most {
        Some(most) if text.chars().count() > most => {
            text.chars().take(most - 1).chain(['…']).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: (&str, &str), data: &Value) -> String {
        let (category, action) = kind;
        json!({
            "id": "1-0", "run_id": "7", "timestamp": "2025-01-01T12:00:00.001Z", "sequence": 12,
            "source": { "agent_id": "r1", "agent_name": "researcher" },
            "event": { "category": category, "action": action }, "data": data,
        })
        .to_string()
    }

    const PIPED: Printer = Printer { json: false, colour: false, width: None };
    const TERMINAL: Printer = Printer { json: false, colour: true, width: Some(WIDTH) };

    #[test]
    fn an_event_is_one_line_with_what_tells_most() {
        let shown = PIPED.readable(&event(("llm", "stream"), &json!({ "content": "two\nlines" })));
        assert_eq!(shown, "12:00:00.001    12 researcher       llm.stream       two\\nlines");
        let foreign = json!({ "sequence": null, "source": null, "data": null, "folded": 3,
            "event": { "category": "a", "action": "b" } });
        let shown = PIPED.readable(&foreign.to_string());
        assert_eq!(shown, "-     - -                a.b              null [3 deltas]");
        assert!(PIPED.readable("no JSON").starts_with("-     - -"));
    }

    #[test]
    fn data_that_cannot_be_taken_apart_is_shown_as_it_is() {
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        for data in [deep.as_str(), "1e400"] {
            let event = format!(
                r#"{{"timestamp":"2025-01-01T12:00:00.001Z","sequence":7,"event":{{"category":"a","action":"b"}},"data":{data}}}"#
            );
            let line = Printer { json: false, colour: false, width: None }.readable(&event);
            assert!(line.starts_with("12:00:00.001     7 -"), "{line}");
            assert!(line.contains("a.b") && line.contains(data), "{line}");
        }
    }

    #[test]
    fn a_terminal_gets_colours_and_no_more_than_its_width() {
        let long = "x".repeat(1000) + "\x1b[2J";
        let shown = TERMINAL.readable(&event(("llm", "stream"), &json!({ "content": long })));
        assert!(shown.contains("\x1b[36mllm.stream") && shown.ends_with("x…"), "{shown}");
        let plain: String = [DIM, BOLD, CYAN, "0"]
            .iter()
            .fold(shown, |text, code| text.replace(&format!("\x1b[{code}m"), ""));
        assert_eq!(plain.chars().count(), WIDTH, "{plain}");
        let said = TERMINAL.readable(&event(("llm", "stream"), &json!({ "content": "\x1b[2J" })));
        assert!(!said.contains("\x1b[2J") && said.contains("\\u{1b}[2J"), "{said}");
        let failed = json!({ "tool_name": "search", "success": false, "error": "timed out" });
        let failed = TERMINAL.readable(&event(("tool", "end"), &failed));
        assert!(failed.ends_with("\x1b[31msearch failed: timed out\x1b[0m"), "{failed}");
    }
}
