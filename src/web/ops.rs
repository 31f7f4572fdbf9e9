//! What operators ask: does it live, is it ready, what does it count; and what there is to call.

use super::App;
use crate::event::Timestamp;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Data;
use serde_json::json;

/// `GET /health/live`: the process runs.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(json!({ "status": "live" }))
}

/// `GET /health/ready`: the mode and its reasons. Not ready only before the first look at the store, and
/// while stopping: a degraded hub still serves.
pub(super) async fn ready(app: Data<App>) -> HttpResponse {
    let (mode, store, spool) = (app.hub.mode(), app.hub.store_status(), app.hub.spool_status());
    let ready = app.hub.has_started() && !app.hub.is_closing();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let since = (mode.since_ms > 0).then(|| Timestamp::from_ms(mode.since_ms).to_string());
    HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(json!({
        "mode": mode.mode.as_str(),
        "since": since,
        "why": mode.why,
        "store": {
            "kind": store.kind,
            "place": store.place,
            "reachable": store.trouble.is_none(),
            "trouble": store.trouble,
        },
        "spool": {
            "events": spool.events,
            "bytes": spool.bytes,
            "oldest": spool.oldest_ms.map(|ms| Timestamp::from_ms(ms).to_string()),
            "trouble": spool.trouble,
        },
    }))
}

/// `GET /metrics`, in Prometheus' text format.
pub(super) async fn metrics(app: Data<App>) -> HttpResponse {
    let text = app.metrics.as_ref().map(metrics_exporter_prometheus::PrometheusHandle::render);
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(text.unwrap_or_default())
}

/// `GET /openapi.json`.
pub(super) async fn openapi() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(include_str!("openapi.json"))
}

/// `GET /`: where to go from here.
pub(super) async fn index() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "name": "runhub",
        "version": env!("CARGO_PKG_VERSION"),
        "openapi": "/openapi.json",
        "schemas": "/schemas/events.json",
        "runs": "/runs",
        "publish": "POST /runs/{run_id}/events",
        "follow": "GET /runs/{run_id}/events/stream",
        "history": "GET /runs/{run_id}/events",
        "health": "/health/ready",
        "metrics": "/metrics",
    }))
}
