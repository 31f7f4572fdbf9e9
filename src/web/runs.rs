//! The runs themselves: list, show, let expire, delete.

use super::App;
use super::body;
use super::extract::run_id;
use super::history::{run_expired, run_not_found};
use super::problem::{Code, Problem};
use super::query::Query;
use crate::event::object::Object;
use crate::event::{RunId, RunStatus, Timestamp};
use crate::hub::Hub;
use crate::store::{RunInfo, RunState, RunsCursor};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// The longest time a run can be given: a hundred years.
const MAX_EXPIRY_SECONDS: u64 = 100 * 365 * 24 * 3600;

/// `GET /runs`.
pub(super) async fn list(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request);
    let limit = query.number("limit", MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let words = RunStatus::ALL.map(|status| (status.as_str(), status));
    let status = query.word("status", &words)?;
    let cursor = query.get("cursor")?.map(parse_cursor).transpose()?;
    let page = app.hub.runs(cursor.as_ref(), limit, status).await?;
    let runs: Vec<Value> =
        page.runs.iter().map(|(run, info)| show_run(&app.hub, run, info)).collect();
    let next = page.next.map(|next| format!("{}_{}", next.ms, next.run));
    Ok(HttpResponse::Ok().json(json!({ "runs": runs, "next_cursor": next })))
}

fn parse_cursor(text: &str) -> Result<RunsCursor, Problem> {
    let parts = text.split_once('_').and_then(|(ms, run)| {
        Some(RunsCursor { ms: ms.parse().ok()?, run: RunId::parse(run).ok()? })
    });
    parts.ok_or_else(|| {
        Problem::new(Code::InvalidQuery, "cursor is the next_cursor of an earlier page")
    })
}

/// `GET /runs/{run_id}`.
pub(super) async fn show(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    let state = app.hub.run(&run).await?;
    answer(&app.hub, &run, state)
}

fn answer(hub: &Hub, run: &RunId, state: RunState) -> Result<HttpResponse, Problem> {
    match state {
        RunState::Known(info) => Ok(HttpResponse::Ok().json(show_run(hub, run, &info))),
        RunState::Unknown => Err(run_not_found()),
        RunState::Expired => Err(run_expired()),
    }
}

fn show_run(hub: &Hub, run: &RunId, info: &RunInfo) -> Value {
    let time = |ms| Timestamp::from_ms(ms).to_string();
    let has_events = info.last_id > crate::event::EventId::START;
    json!({
        "run_id": run.as_str(),
        "status": info.status.as_str(),
        "length": info.length,
        "first_id": info.first_id.map(|id| id.to_string()),
        "last_id": has_events.then(|| info.last_id.to_string()),
        "last_sequence": info.last_sequence.map(|s| s.0),
        "created_at": time(info.created_ms),
        "updated_at": time(info.updated_ms),
        "ended_at": info.ended_ms.map(time),
        "expires_in": info.expires_in.map(|left| left.as_millis().div_ceil(1000) as u64),
        "subscribers": hub.subscribers(run),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expiry {
    seconds: u64,
}

/// `PUT /runs/{run_id}/expiry`.
pub(super) async fn expiry(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    let kind = body::kind(&request)?;
    let body = body::read(&request, payload, kind, &app).await?;
    let parsed = serde_json::from_slice::<Object<Expiry>>(&body).ok().map(|Object(expiry)| expiry);
    let Some(expiry) = parsed.filter(|e| (1..=MAX_EXPIRY_SECONDS).contains(&e.seconds)) else {
        let detail = format!("expected {{\"seconds\":N}} with N from 1 to {MAX_EXPIRY_SECONDS}");
        return Err(Problem::new(Code::InvalidJson, detail));
    };
    let state = app.hub.set_expiry(&run, Duration::from_secs(expiry.seconds)).await?;
    answer(&app.hub, &run, state)
}

/// `DELETE /runs/{run_id}`.
pub(super) async fn delete(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    // Whoever asked may go before it is done; the run's readers are to be told all the same.
    let deleted = actix_web::rt::spawn(async move { app.hub.delete(&run).await });
    let ended = |_| Problem::new(Code::StoreUnavailable, "the deletion was cut short; try again");
    match deleted.await.map_err(ended)?? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(run_not_found()),
    }
}
