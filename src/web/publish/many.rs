//! `POST /events`: events of many runs in one body, each with its `run_id`. All are checked before any is
//! written; what is then written of each run is written whole.

use super::answer::{self, Row};
use super::parse;
use super::{ack, idempotency_key};
use crate::event::{EventKey, NewEvent, RunId};
use crate::hub::PublishError;
use crate::web::problem::{Code, Problem};
use crate::web::query::Query;
use crate::web::{App, body};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures::future::join_all;
use std::collections::HashMap;

/// The events of one run, and where each stands in the body.
#[derive(Default)]
struct OfRun {
    indexes: Vec<usize>,
    events: Vec<NewEvent>,
}

/// Handles the request.
pub(in crate::web) async fn publish(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request);
    let ack = ack(&query)?;
    if query.get("mode")?.is_some() {
        let detail = "mode=stream is for one run: POST /runs/{run_id}/events?mode=stream";
        return Err(Problem::new(Code::InvalidQuery, detail));
    }
    let kind = body::kind(&request)?;
    let idempotency = idempotency_key(&request)?;
    let body = body::read(&request, payload, kind, &app).await?;
    let (events, single) = parse::of_many(&app.hub, &body, kind)?;
    drop(body);
    let events = parse::complete(events, single, idempotency.as_deref())?;
    let told: Vec<(RunId, EventKey)> =
        events.iter().map(|new| (new.event.run_id.clone(), new.key.clone())).collect();

    let mut runs: Vec<OfRun> = Vec::new();
    let mut places: HashMap<RunId, usize> = HashMap::new();
    for (index, new) in events.into_iter().enumerate() {
        let place = *places.entry(new.event.run_id.clone()).or_insert_with(|| {
            runs.push(OfRun::default());
            runs.len() - 1
        });
        runs[place].indexes.push(index);
        runs[place].events.push(new);
    }
    let publishes = runs.into_iter().map(|OfRun { indexes, events }| {
        let hub = &app.hub;
        async move {
            let run = events.first().map(|new| new.event.run_id.clone());
            let published = match run {
                Some(run) => hub.publish(&run, events, ack).await,
                None => Ok(crate::hub::Published::Accepted),
            };
            (indexes, published)
        }
    });
    let mut rows: Vec<Option<Row<'_>>> = told.iter().map(|_| None).collect();
    let (mut failure, mut stored) = (None, 0_u64);
    for (indexes, published) in join_all(publishes).await {
        match published {
            Ok(published) => {
                stored += indexes.len() as u64;
                for (place, index) in indexes.into_iter().enumerate() {
                    let (run, key) = &told[index];
                    rows[index] = Some(Row::new(Some(run), key, &published, place));
                }
            }
            Err(error) if failure.is_none() => failure = Some((indexes, error)),
            Err(_) => {}
        }
    }
    if let Some((indexes, error)) = failure {
        let (index, error) = match error {
            PublishError::KeyReused { index } => {
                let index = indexes.get(index).copied().unwrap_or(index);
                (Some(index), PublishError::KeyReused { index })
            }
            error => (indexes.first().copied(), error),
        };
        // The runs are independent: those that could be written are.
        return Err(Problem::from(error).at(index).with("stored", stored));
    }
    let rows: Vec<Row<'_>> = rows.into_iter().flatten().collect();
    Ok(answer::of_events(None, &rows))
}
