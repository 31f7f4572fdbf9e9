//! What tells most about an event, in a few words: the text of a delta, a tool and its arguments, the
//! stages that change. An event of another type, or with other fields than its type has, shows its data.

use serde_json::Value;

/// The words for an event of this type with this data.
pub(super) fn telling(kind: &str, data: &Value) -> String {
    of_type(kind, data).filter(|said| !said.is_empty()).unwrap_or_else(|| data.to_string())
}

fn of_type(kind: &str, data: &Value) -> Option<String> {
    let field = |names: &[&str]| names.iter().find_map(|name| data.get(name)).map(words);
    let named = |names: &[&str], about: &[&str]| {
        let name = field(names)?;
        Some(field(about).map_or_else(|| name.clone(), |about| format!("{name}: {about}")))
    };
    match kind {
        "llm.stream" | "llm.end" | "message.delta" | "message.complete" => {
            field(&["content", "delta"])
        }
        "llm.start" => named(&["model"], &["prompt"]),
        "llm.reasoning" => field(&["thought"]),
        "llm.tool_call" => call(field(&["tool"])?, data.get("args")),
        "llm.tool_result" => Some(format!("{} → {}", field(&["tool"])?, field(&["result"])?)),
        "tool.start" => call(field(&["tool_name"])?, data.get("tool_args")),
        "tool.end" => {
            let tool = field(&["tool_name"])?;
            if data.get("success") == Some(&Value::Bool(false)) {
                let error = field(&["error", "tool_result"]).unwrap_or_default();
                return Some(format!("{tool} failed: {error}"));
            }
            Some(format!("{tool} → {}", field(&["tool_result"])?))
        }
        "stage.change" => {
            let from = field(&["from_stage", "old_stage"]).filter(|from| from != "null");
            let to = field(&["to_stage", "new_stage"])?;
            Some(format!("{} → {to}", from.as_deref().unwrap_or("(start)")))
        }
        "node.start" | "node.end" => named(&["node_name"], &["output"]),
        "agent.start" => field(&["prompt"]),
        "agent.end" => named(&["status"], &["output"]),
        "agent.error" => named(&["error_type"], &["error"]),
        "lifecycle.started" => field(&["task"]),
        "lifecycle.completed" => field(&["summary", "result"]),
        "lifecycle.failed" => named(&["error_type"], &["error"]).or_else(|| field(&["error"])),
        "lifecycle.cancelled" => field(&["reason"]),
        "lifecycle.finish" => named(&["status"], &["error"]),
        "dispatch.team" => named(&["team_name"], &["task"]),
        "dispatch.worker" | "dispatch.assigned" => named(&["worker_name", "team_name"], &["task"]),
        "system.warning" | "system.error" => field(&["message"]),
        "task.progress" => named(&["task_type"], &["step", "progress"]),
        "task.failed" => named(&["task_type"], &["error"]),
        "task.started" | "task.completed" => field(&["task_type"]),
        _ => None,
    }
}

/// A text as it is, anything else as JSON.
fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn call(tool: String, arguments: Option<&Value>) -> Option<String> {
    Some(match arguments {
        None | Some(Value::Null) => tool,
        Some(arguments) => format!("{tool} {arguments}"),
    })
}

#[cfg(test)]
mod tests {
    use super::telling;
    use serde_json::json;

    #[test]
    fn each_type_says_what_it_is_about() {
        for (kind, data, said) in [
            ("llm.stream", json!({ "content": "hi " }), "hi "),
            ("message.delta", json!({ "delta": "ho" }), "ho"),
            ("tool.start", json!({ "tool_name": "s", "tool_args": { "q": 1 } }), r#"s {"q":1}"#),
            ("tool.start", json!({ "tool_name": "s" }), "s"),
            ("tool.end", json!({ "tool_name": "s", "tool_result": [1] }), "s → [1]"),
            (
                "tool.end",
                json!({ "tool_name": "s", "tool_result": "", "success": false, "error": "late" }),
                "s failed: late",
            ),
            ("stage.change", json!({ "old_stage": "a", "new_stage": "b" }), "a → b"),
            ("stage.change", json!({ "from_stage": null, "to_stage": "b" }), "(start) → b"),
            ("agent.end", json!({ "status": "success" }), "success"),
            ("lifecycle.failed", json!({ "error": "no money" }), "no money"),
            ("dispatch.worker", json!({ "worker_name": "w", "task": "t" }), "w: t"),
            ("tool.start", json!({ "x": 2 }), r#"{"x":2}"#),
            ("llm.stream", json!({ "content": "" }), r#"{"content":""}"#),
            ("my.own", json!({ "x": 2 }), r#"{"x":2}"#),
            ("my.own", json!(null), "null"),
        ] {
            assert_eq!(telling(kind, &data), said, "{kind}");
        }
    }
}
