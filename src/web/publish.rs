//! `POST /runs/{run_id}/events`: one event, an array, or a line each.

use super::App;
use super::body::{self, BodyKind};
use super::extract::{header, run_id};
use super::problem::{Code, Problem};
use super::query::Query;
use crate::event::json_text::push_string;
use crate::event::parse::{EventLimits, parse_event};
use crate::event::{EventKey, InvalidEvent, NewEvent, RunId, Timestamp};
use crate::hub::{Ack, Hub, Published};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::value::RawValue;
use std::io::Write;

/// Handles the request.
pub(super) async fn publish(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    let query = Query::of(&request);
    let words = [("persisted", Ack::Persisted), ("accepted", Ack::Accepted)];
    let ack = query.word("ack", &words)?.unwrap_or_default();
    if query.get("mode")?.is_some() {
        return Err(Problem::new(Code::InvalidQuery, "mode is not supported by this version"));
    }
    let kind = body::kind(&request)?;
    let idempotency = idempotency_key(&request)?;
    let config = &app.hub.config().publish;
    let body = body::read(&request, payload, kind, config).await?;
    let limits = EventLimits { max_data: config.max_data.as_usize() };
    let most = usize::try_from(config.max_batch).unwrap_or(usize::MAX);
    let (events, single) = parse(&app.hub, &run, &body, kind, limits, most)?;
    drop(body);
    let events = complete(events, single, idempotency.as_deref())?;
    let keys: Vec<EventKey> = events.iter().map(|new| new.key.clone()).collect();
    let published = app.hub.publish(&run, events, ack).await?;
    Ok(answer(&run, &keys, &published))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    static NAME: HeaderName = HeaderName::from_static("idempotency-key");
    let Some(key) = header(request, &NAME)? else { return Ok(None) };
    match EventKey::parse(key) {
        Ok(key) => Ok(Some(key.as_str().to_owned())),
        Err(e) => Err(Problem::new(
            Code::InvalidEventId,
            format!("Idempotency-Key stands for event_id: {e}"),
        )),
    }
}

/// The events of a body, checked whole, and whether it was a single one.
fn parse(
    hub: &Hub,
    run: &RunId,
    body: &[u8],
    kind: BodyKind,
    limits: EventLimits,
    most: usize,
) -> Result<(Vec<crate::event::Event>, bool), Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|e| Problem::new(Code::InvalidJson, format!("the body is not UTF-8: {e}")))?;
    let now = Timestamp::now();
    let one = |json: &str| parse_event(run, json, now, limits).and_then(|event| hub.admit(event));
    let elements: Vec<&str> = match kind {
        BodyKind::Ndjson => text.lines().filter(|line| !line.trim().is_empty()).collect(),
        BodyKind::Json if text.trim_start().starts_with('[') => {
            let array: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| {
                Problem::new(Code::InvalidJson, format!("the body is not JSON: {e}"))
            })?;
            array.into_iter().map(RawValue::get).collect()
        }
        BodyKind::Json => return Ok((vec![one(text)?], true)),
    };
    if elements.is_empty() {
        return Err(Problem::new(Code::InvalidEvent, "the batch has no events"));
    }
    if elements.len() > most {
        let detail = format!("the batch has {} events, the most is {most}", elements.len());
        return Err(Problem::new(Code::BatchTooLarge, detail));
    }
    let parsed = elements.into_iter().enumerate().map(|(index, json)| {
        one(json).map_err(|error| {
            // An element that is not JSON is a bad element, not a bad body: other lines are well.
            let problem = match error {
                InvalidEvent::Syntax(_) => Problem::new(Code::InvalidEvent, error.to_string()),
                other => other.into(),
            };
            problem.at(Some(index))
        })
    });
    Ok((parsed.collect::<Result<_, _>>()?, false))
}

/// Gives each event its `event_id`: its own, else one from the idempotency key, else a new one.
fn complete(
    events: Vec<crate::event::Event>,
    single: bool,
    idempotency: Option<&str>,
) -> Result<Vec<NewEvent>, Problem> {
    let complete = |(index, mut event): (usize, crate::event::Event)| {
        if let (None, Some(key)) = (&event.event_id, idempotency) {
            let key = if single { key.to_owned() } else { format!("{key}-{index}") };
            let key = EventKey::parse(&key).map_err(|_| {
                let detail =
                    "Idempotency-Key is too long for a batch: with an index it is no event_id";
                Problem::new(Code::InvalidEventId, detail)
            })?;
            event.event_id = Some(key);
        }
        Ok(NewEvent::new(event))
    };
    events.into_iter().enumerate().map(complete).collect()
}

fn answer(run: &RunId, keys: &[EventKey], published: &Published) -> HttpResponse {
    let (status, word) = match published {
        Published::Persisted(placed) if placed.iter().all(|p| p.duplicate) => {
            (StatusCode::OK, "persisted")
        }
        Published::Persisted(_) => (StatusCode::CREATED, "persisted"),
        Published::Spooled => (StatusCode::ACCEPTED, "spooled"),
        Published::Accepted => (StatusCode::ACCEPTED, "accepted"),
    };
    let mut body = Vec::with_capacity(96 + keys.len() * 96);
    // Writing to a Vec cannot fail.
    let _ =
        write!(body, r#"{{"run_id":"{run}","status":"{word}","count":{},"events":["#, keys.len());
    for (index, key) in keys.iter().enumerate() {
        body.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        if let Published::Persisted(placed) = published
            && let Some(place) = placed.get(index)
        {
            let _ = write!(body, r#""id":"{}","sequence":{},"#, place.id, place.sequence.0);
        }
        body.extend_from_slice(br#""event_id":"#);
        push_string(&mut body, key.as_str());
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    HttpResponse::build(status).insert_header((CONTENT_TYPE, "application/json")).body(body)
}
