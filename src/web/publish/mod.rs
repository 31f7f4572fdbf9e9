//! `POST /runs/{run_id}/events`: one event, an array, or a line each. Its siblings are `POST /events`
//! ([`many`]) and the body that is taken line by line ([`lines`]).

mod answer;
mod lines;
pub(super) mod many;
mod parse;

use super::App;
use super::body;
use super::extract::{header, run_id};
use super::problem::{Code, Problem};
use super::query::Query;
use crate::event::EventKey;
use crate::hub::Ack;
use actix_web::http::header::HeaderName;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use answer::Row;

/// How a body is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyMode {
    /// Line by line, as it arrives.
    Stream,
}

/// Handles the request.
pub(super) async fn publish(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    let query = Query::of(&request);
    let ack = ack(&query)?;
    let kind = body::kind(&request)?;
    let idempotency = idempotency_key(&request)?;
    if let Some(BodyMode::Stream) = query.word("mode", &[("stream", BodyMode::Stream)])? {
        return lines::publish(&app, &run, payload, kind, ack, idempotency).await;
    }
    let body = body::read(&request, payload, kind, &app).await?;
    let (events, single) = parse::of_run(&app.hub, &run, &body, kind)?;
    drop(body);
    let events = parse::complete(events, single, idempotency.as_deref())?;
    let keys: Vec<EventKey> = events.iter().map(|new| new.key.clone()).collect();
    let published = app.hub.publish(&run, events, ack).await?;
    let rows = keys.iter().enumerate().map(|(index, key)| Row::new(None, key, &published, index));
    Ok(answer::of_events(Some(&run), &rows.collect::<Vec<_>>()))
}

/// What the publisher wants to wait for.
fn ack(query: &Query<'_>) -> Result<Ack, Problem> {
    let words = [("persisted", Ack::Persisted), ("accepted", Ack::Accepted)];
    Ok(query.word("ack", &words)?.unwrap_or_default())
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
