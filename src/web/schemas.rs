//! `GET /schemas/events.json`: the known event types as a JSON Schema.

use crate::event::typed::schema;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64;

/// The document and its entity tag: the same for as long as the process runs.
static EVENTS: LazyLock<(String, String)> = LazyLock::new(|| {
    let text = schema::document().to_string();
    let tag = format!("\"{:016x}\"", xxh3_64(text.as_bytes()));
    (text, tag)
});

/// Handles the request.
pub(super) async fn events(request: HttpRequest) -> HttpResponse {
    let (text, tag) = &*EVENTS;
    let mut known =
        request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let is_known = known.any(|tags| {
        tags.split(',').map(str::trim).any(|t| t == "*" || t.trim_start_matches("W/") == tag)
    });
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, tag.as_str()))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"));
    if is_known {
        return response.finish();
    }
    response.insert_header((CONTENT_TYPE, "application/schema+json")).body(text.as_str())
}
