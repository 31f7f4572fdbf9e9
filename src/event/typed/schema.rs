//! The known types as a JSON Schema (2020-12): the data of each under its name in `$defs`, and on top the
//! rule that an event's data is as its type says.

use super::{FieldRow, KNOWN, KnownType, Shape};
use crate::event::EventType;
use serde_json::{Map, Value, json};

/// The whole document.
pub fn document() -> Value {
    let defs: Map<String, Value> =
        KNOWN.iter().map(|known| (known.name.to_owned(), of_type(known))).collect();
    let rules: Vec<Value> = KNOWN.iter().map(rule).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:runhub:schemas:events",
        "title": "Events of agent runs",
        "description": "The data of each known type is in $defs, under the type's name. The document as a whole \
            holds for an event, published or received: data is as the type says. Types that are not listed carry \
            any JSON, and objects any other keys.",
        "type": "object",
        "allOf": rules,
        "$defs": defs,
    })
}

/// That an event of this type, however it names it, has this data.
fn rule(known: &KnownType) -> Value {
    let mut named =
        vec![json!({ "required": ["type"], "properties": { "type": { "const": known.name } } })];
    if let Ok(kind) = EventType::parse(known.name) {
        let parts = json!({ "category": kind.category(), "action": kind.action() });
        named.push(json!({ "required": ["event"], "properties": { "event": { "const": parts } } }));
    }
    let flat = known.flat.into_iter().chain([known.name]).collect::<Vec<_>>();
    named.push(
        json!({ "required": ["event_type"], "properties": { "event_type": { "enum": flat } } }),
    );
    let mut then =
        json!({ "properties": { "data": { "$ref": format!("#/$defs/{}", known.name) } } });
    if needs_data(known.shape) {
        then["required"] = json!(["data"]);
    }
    json!({ "if": { "anyOf": named }, "then": then })
}

fn needs_data(shape: Shape) -> bool {
    match shape {
        Shape::Anything => false,
        Shape::Fields { fields, either } => either.is_some() || fields.iter().any(|f| f.required),
    }
}

/// The schema of a type's data.
fn of_type(known: &KnownType) -> Value {
    let mut schema = Map::new();
    let mut set = |key: &str, value: Value| schema.insert(key.to_owned(), value);
    set("title", json!(known.name));
    set("description", json!(text(known.doc)));
    set("x-flat-name", json!(known.flat));
    set("x-terminal", json!(known.terminal));
    let Shape::Fields { fields, either } = known.shape else { return Value::Object(schema) };
    // Absent data is null, and is as good as an object without keys.
    let kind = if needs_data(known.shape) { json!("object") } else { json!(["object", "null"]) };
    set("type", kind);
    let properties: Map<String, Value> = fields.iter().flat_map(properties).collect();
    set("properties", Value::Object(properties));
    let (other, alone): (Vec<&FieldRow>, Vec<&FieldRow>) =
        fields.iter().filter(|field| field.required).partition(|field| !field.also.is_empty());
    let alone: Vec<&str> = alone.iter().map(|field| field.name).collect();
    set("required", json!(alone));
    let find = |name: &str| fields.iter().find(|field| field.name == name);
    let mut choices: Vec<Value> = other
        .into_iter()
        .map(|field| one_of(keys(field).map(|key| (key, field)).collect()))
        .collect();
    if let Some((first, second)) = either {
        let both = [first, second].into_iter().filter_map(|name| Some((name, find(name)?)));
        choices.push(one_of(both.collect()));
    }
    if !choices.is_empty() {
        set("allOf", Value::Array(choices));
    }
    Value::Object(schema)
}

/// A field under each of its keys.
fn properties(field: &FieldRow) -> impl Iterator<Item = (String, Value)> {
    // Under several keys, one that is null leaves it to the others.
    let mut schema = field.kind.schema(!field.required || !field.also.is_empty());
    schema.insert("description".to_owned(), json!(text(field.doc)));
    if let Some(default) = field.default.and_then(|json| serde_json::from_str(json).ok()) {
        schema.insert("default".to_owned(), default);
    }
    keys(field).map(move |key| (key.to_owned(), Value::Object(schema.clone())))
}

fn keys(field: &FieldRow) -> impl Iterator<Item = &'static str> + use<> {
    std::iter::once(field.name).chain(field.also.iter().copied())
}

/// That one of these keys is there, and not null.
fn one_of(keys: Vec<(&'static str, &FieldRow)>) -> Value {
    let there = |(key, field): (&str, &FieldRow)| json!({ "required": [key], "properties": { key: field.kind.schema(false) } });
    json!({ "anyOf": keys.into_iter().map(there).collect::<Vec<_>>() })
}

/// Documentation as one text.
fn text(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_schema_with_what_it_needs() {
        let document = document();
        let defs = document["$defs"].as_object().unwrap();
        assert_eq!(defs.len(), KNOWN.len());
        let end = &defs["tool.end"];
        assert_eq!(end["required"], json!(["tool_name", "tool_result"]));
        assert_eq!(end["properties"]["tool_name"]["type"], "string");
        assert_eq!(end["properties"]["success"]["type"], json!(["boolean", "null"]));
        assert_eq!(end["properties"]["success"]["default"], true);
        assert_eq!(end["additionalProperties"], Value::Null);
        let change = &defs["stage.change"];
        assert_eq!(change["required"], json!([]));
        assert_eq!(change["allOf"][0]["anyOf"][1]["required"], json!(["new_stage"]));
        assert_eq!(change["properties"]["old_stage"]["type"], json!(["string", "null"]));
        assert_eq!(defs["llm.stream"]["allOf"][0]["anyOf"][1]["required"], json!(["delta"]));
        assert_eq!(defs["lifecycle.completed"]["type"], json!(["object", "null"]));
        assert_eq!(
            defs["lifecycle.finish"]["properties"]["status"]["enum"],
            json!(["success", "error"])
        );
        assert_eq!(defs["custom.event"]["type"], Value::Null);
    }
}
