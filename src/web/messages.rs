//! `GET /runs/{run_id}/messages`: the transcript of a run, made of its events when it is asked for.

use super::App;
use super::extract::run_id;
use super::history::{run_expired, run_not_found};
use super::problem::Problem;
use super::query::Query;
use crate::event::EventId;
use crate::event::transcript::{Message, Transcript};
use crate::store::{RangeRequest, RunState};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// Events read from the store at a time, and about as many bytes.
const READ_EVENTS: usize = 1000;
const READ_BYTES: usize = 4 << 20;
/// About as many bytes of text are enough for an answer.
const PAGE_BYTES: usize = 16 << 20;

/// Handles the request.
pub(super) async fn messages(
    request: HttpRequest,
    app: Data<App>,
) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    let query = Query::of(&request);
    let limit = query.number("limit", MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let after =
        query.get("after")?.filter(|text| !text.is_empty()).map(EventId::parse).transpose()?;
    // A message may have begun long before where the reader is.
    let mut transcript = Transcript::after(after.unwrap_or(EventId::START));
    let (mut position, mut any, mut whole) = (EventId::START, false, false);
    while !whole {
        let request = RangeRequest::after(position, READ_EVENTS, READ_BYTES);
        let page = app.hub.range(&run, request).await?;
        for stored in &page.events {
            transcript.push(stored);
            (position, any) = (stored.id, true);
        }
        whole = !page.more || page.events.is_empty();
        let (count, bytes) = transcript.complete_so_far();
        if count > limit || (bytes > PAGE_BYTES && count > 0) {
            break;
        }
    }
    if !any {
        match app.hub.run(&run).await? {
            RunState::Known(_) => {}
            RunState::Unknown => return Err(run_not_found()),
            RunState::Expired => return Err(run_expired()),
        }
    }
    let (complete, open): (Vec<Message>, Vec<Message>) =
        transcript.finish().into_iter().partition(|message| message.complete);
    whole &= complete.len() <= limit;
    let mut messages: Vec<Message> = complete.into_iter().take(limit).collect();
    if whole {
        // What is being said stands at the end, however much was asked for.
        messages.extend(open);
    }
    // What is not complete comes again, longer or complete.
    let last = messages.iter().filter(|message| message.complete).map(|message| message.last_id);
    let next = last.max().or(after);
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(json!({
        "run_id": run.as_str(),
        "messages": messages.iter().map(show).collect::<Vec<_>>(),
        "next_after": next.map(|id| id.to_string()),
    })))
}

fn show(message: &Message) -> Value {
    json!({
        "message_id": message.message_id,
        "role": message.role,
        "content": message.content,
        "agent": message.agent,
        "node": message.node,
        "stage": message.stage,
        "trace_id": message.trace_id,
        "first_id": message.first_id.to_string(),
        "last_id": message.last_id.to_string(),
        "complete": message.complete,
    })
}
