//! The table against VOCABULARY, and what its structs read and write.

use super::*;
use crate::event::parse::{EventLimits, parse_event};
use crate::event::{LifecycleRules, Version};
use serde_json::json;

fn event(kind: &str, data: &str) -> Event {
    let run = RunId::parse("7").unwrap();
    let json = format!(r#"{{"type":"{kind}","data":{data}}}"#);
    parse_event(&run, &json, Timestamp::from_ms(1), EventLimits { max_data: 1 << 20 }).unwrap()
}

/// The error that names what does not fit.
fn misfit(kind: &str, data: &str) -> String {
    event(kind, data).typed().unwrap_err().to_string()
}

#[test]
fn the_table_is_the_vocabulary() {
    /// Type, flat name, needed fields, optional fields.
    const VOCABULARY: &str = "
        lifecycle.started - - task
        lifecycle.completed - - result,summary,statistics
        lifecycle.failed - error error_type
        lifecycle.cancelled - - reason
        lifecycle.finish finish status error
        agent.start agent_start prompt,framework mode
        agent.end agent_end status output,stage,prd_document,design_document
        agent.error agent_error error,error_type details
        llm.start llm_start - model,prompt,temperature
        llm.stream llm_stream - content,delta,content_type
        llm.end llm_end content usage,finish_reason
        llm.reasoning - thought -
        llm.tool_call - tool,args -
        llm.tool_result - tool,result -
        tool.start tool_start tool_name tool_args
        tool.end tool_end tool_name,tool_result success,error
        message.delta message_delta delta role
        message.complete message_complete content role,stage
        node.start node_start node_name agent_name
        node.end node_end node_name agent_name,output
        stage.change stage_change to_stage from_stage
        dispatch.team - team_name,task -
        dispatch.worker - worker_name,task -
        dispatch.assigned - - task,worker_name,team_name
        system.topology - hierarchy -
        system.warning - message -
        system.error - message code
        task.started task_started task_type -
        task.progress task_progress task_type,progress step,progress_percent
        task.completed task_completed task_type result,duration
        task.failed task_failed task_type,error -
        outline.generated outline_generated outline -
        document.generated document_generated document -
        custom.event custom - -";
    let names = |shape: Shape, required: bool| match shape {
        Shape::Anything => "-".to_owned(),
        Shape::Fields { fields, .. } => {
            let names: Vec<&str> =
                fields.iter().filter(|f| f.required == required).map(|f| f.name).collect();
            if names.is_empty() { "-".to_owned() } else { names.join(",") }
        }
    };
    let row = |known: &KnownType| {
        let flat = known.flat.unwrap_or("-");
        format!("{} {flat} {} {}", known.name, names(known.shape, true), names(known.shape, false))
    };
    let ours: Vec<String> = KNOWN.iter().map(row).collect();
    let agreed: Vec<&str> = VOCABULARY.trim().lines().map(str::trim).collect();
    assert_eq!(ours, agreed);
    let mut terminal: Vec<&str> = KNOWN.iter().filter(|k| k.terminal).map(|k| k.name).collect();
    terminal.sort_unstable();
    let rules = LifecycleRules::default();
    assert_eq!(terminal, rules.terminal().map(|(kind, _)| kind).collect::<Vec<_>>());
    for known in KNOWN {
        assert!(EventType::parse(known.name).is_ok(), "{}", known.name);
        if let Shape::Fields { fields, .. } = known.shape {
            for json in fields.iter().filter_map(|field| field.default) {
                assert!(serde_json::from_str::<Value>(json).is_ok(), "{json}");
            }
        }
    }
}

#[test]
fn a_known_type_is_its_struct_and_another_its_untouched_json() {
    let end =
        event("tool.end", r#"{"tool_name":"search","tool_result":null,"took":1.5,"error":null}"#);
    let Typed::ToolEnd(end) = end.typed().unwrap() else { panic!("a tool.end") };
    assert_eq!(
        (end.tool_name.as_str(), &end.tool_result, &end.error),
        ("search", &Value::Null, &None)
    );
    assert!(end.succeeded() && end.extra["took"] == 1.5);
    assert!(!ToolEnd::new("x", 1).success(false).succeeded());
    let other = event("a.b", r#"{ "n":1.10, "n":1e400 }"#);
    assert_eq!(other.typed(), Ok(Typed::Other(r#"{ "n":1.10, "n":1e400 }"#.into())));
    assert_eq!(
        event("custom.event", "[1]").typed(),
        Ok(Typed::CustomEvent(CustomEvent::new(vec![1])))
    );
    assert_eq!(
        event("lifecycle.completed", "null").typed(),
        Ok(Typed::LifecycleCompleted(LifecycleCompleted::new()))
    );
}

#[test]
fn other_keys_for_a_field_are_read() {
    for data in [
        r#"{"from_stage":"a","to_stage":"b"}"#,
        r#"{"old_stage":"a","new_stage":"b"}"#,
        r#"{"from_stage":null,"old_stage":"a","to_stage":"b"}"#,
    ] {
        let event = event("stage.change", data);
        let expected = StageChange::new("b").from_stage("a");
        assert_eq!(event.typed(), Ok(Typed::StageChange(expected)), "{data}");
        assert_eq!(&*event.data, data);
    }
    for (data, text) in [(r#"{"content":"x"}"#, "x"), (r#"{"delta":"y","content":null}"#, "y")] {
        let event = event("llm.stream", data);
        let Typed::LlmStream(stream) = event.typed().unwrap() else { panic!("a delta") };
        assert_eq!((stream.text(), stream.kind_of_content()), (text, "text"));
    }
}

#[test]
fn what_does_not_fit_is_named() {
    for (kind, data, says) in [
        (
            "tool.start",
            "{}",
            "the data of tool.start does not fit: \"tool_name\" is missing; it must be text",
        ),
        ("tool.start", "null", "\"tool_name\" is missing"),
        ("tool.start", "[]", "\"data\" is an array; it must be an object"),
        ("tool.start", r#"{"tool_name":5}"#, "\"tool_name\" is 5; it must be text"),
        (
            "tool.start",
            r#"{"tool_name":"x","tool_args":"y"}"#,
            "\"tool_args\" is \"y\"; it must be an object",
        ),
        ("tool.end", r#"{"tool_name":"x"}"#, "\"tool_result\" is missing; it must be some JSON"),
        (
            "lifecycle.finish",
            r#"{"status":"done"}"#,
            "\"status\" is \"done\"; it must be one of success, error",
        ),
        ("llm.stream", r#"{"delta":null}"#, "\"content\" is missing"),
        ("llm.start", r#"{"temperature":"hot"}"#, "it must be a number"),
        ("stage.change", r#"{"new_stage":1}"#, "\"new_stage\" is 1"),
        ("task.failed", r#"{"taskType":"x"}"#, "\"error\" is missing"),
        (
            "tool.start",
            r#"{"tool_name":"x","n":1e400}"#,
            "\"data\" cannot be read: number out of range",
        ),
    ] {
        let error = misfit(kind, data);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_runner_makes_events_that_read_back() {
    let run = RunId::parse("7").unwrap();
    let event = LlmStream::new("hi").event(&run).with_message_id("m").with_version(Version::FIRST);
    assert_eq!((event.kind.as_str(), &*event.data), ("llm.stream", r#"{"content":"hi"}"#));
    assert_eq!(event.typed(), Ok(Typed::LlmStream(LlmStream::new("hi"))));
    assert_eq!(event.extras.as_ref().unwrap().message_id.as_deref(), Some("m"));
    let args = Object::from_iter([("q".to_owned(), json!("rust"))]);
    let mut start = ToolStart::new("search").tool_args(args);
    start.extra.insert("try".to_owned(), json!(2));
    let event = start.event(&run);
    assert_eq!(&*event.data, r#"{"tool_name":"search","tool_args":{"q":"rust"},"try":2}"#);
    assert_eq!(serde_json::from_str::<ToolStart>(&event.data).unwrap(), start);
    assert_eq!(event.typed(), Ok(Typed::ToolStart(start)));
    let end = AgentEnd::new(AgentOutcome::Failed).output(json!([1]));
    assert_eq!(&*end.event(&run).data, r#"{"status":"failed","output":[1]}"#);
    assert_eq!(&*CustomEvent::new("x").event(&run).data, "\"x\"");
}
