//! The events of a campaign: how they are made, and how they are known again.
//!
//! Each has a key of its own in its data. Mostly that is its `event_id` as well; else the hub makes one.

use crate::history::{Place, Sent};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

const TYPES: [&str; 3] = ["llm.stream", "tool.start", "agent.step"];

/// An event to publish, and what is remembered of it.
pub fn make(key: String, chosen: bool, random: &mut StdRng) -> (Value, Sent) {
    let kind = TYPES[random.random_range(0..TYPES.len())];
    let text: String = (0..random.random_range(0..200)).map(|_| pick(random)).collect();
    let data = json!({ "key": key, "chosen": chosen, "text": text });
    let content = digest(kind, &data, chosen.then_some(key.as_str()));
    let mut event = json!({ "type": kind, "data": data });
    if chosen {
        event["event_id"] = Value::from(key.as_str());
    }
    (event, Sent { key, content })
}

/// Characters that encodings are tried with.
fn pick(random: &mut StdRng) -> char {
    const ODD: [char; 8] = ['"', '\\', '\n', '\r', 'é', '\u{2028}', '🎈', '\u{0}'];
    match random.random_range(0..20) {
        0 => ODD[random.random_range(0..ODD.len())],
        _ => char::from(random.random_range(b' '..=b'~')),
    }
}

/// All that has to come out as it went in, in a few characters.
fn digest(kind: &str, data: &Value, chosen: Option<&str>) -> String {
    format!("{:016x}", xxh3_64(json!([kind, data, chosen]).to_string().as_bytes()))
}

/// An event as somebody shows it: its key, place and content.
pub type Seen = (String, Place, String);

/// Knows an event again in the hub's JSON.
pub fn seen(event: &Value) -> Result<Seen, String> {
    let kind = match (event["event"]["category"].as_str(), event["event"]["action"].as_str()) {
        (Some(category), Some(action)) => format!("{category}.{action}"),
        _ => return Err(format!("an event without a type: {event}")),
    };
    let place = serde_json::from_value(json!({ "id": event["id"], "sequence": event["sequence"] }));
    let place = place.map_err(|e| format!("an event without a place: {e}: {event}"))?;
    known(&kind, &event["data"], event["event_id"].as_str(), place)
}

/// Knows an event again in the fields of a Redis entry.
pub fn seen_in_redis(id: &str, fields: &HashMap<String, String>) -> Result<Seen, String> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let wrong = || format!("an odd entry at {id}: {fields:?}");
    let kind = field("event_category").zip(field("event_action")).ok_or_else(wrong)?;
    let sequence = field("sequence").map(str::parse).transpose().map_err(|_| wrong())?;
    let data: Option<Value> = field("data").and_then(|data| serde_json::from_str(data).ok());
    let place = Place { id: id.parse()?, sequence };
    let kind = format!("{}.{}", kind.0, kind.1);
    known(&kind, &data.ok_or_else(wrong)?, field("event_id"), place)
}

fn known(kind: &str, data: &Value, event_id: Option<&str>, place: Place) -> Result<Seen, String> {
    let Some(key) = data["key"].as_str() else {
        return Err(format!("an event of nobody's at {place}: {data}"));
    };
    let chosen = if data["chosen"] == true { event_id } else { None };
    Ok((key.to_owned(), place, digest(kind, data, chosen)))
}
