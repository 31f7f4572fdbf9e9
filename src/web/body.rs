//! Reading the body of a publish: its type, its size, its pace.

use super::App;
use super::body_room::{FREE, Held};
use super::problem::{Code, Problem};
use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN};
use actix_web::web::Payload;
use futures::StreamExt;
use std::ops::Deref;

/// How a body's events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// One object, or an array of them.
    Json,
    /// A line an event.
    Ndjson,
}

/// The kind of body a request has.
pub(super) fn kind(request: &HttpRequest) -> Result<BodyKind, Problem> {
    let refuse = |detail: &str| Err(Problem::new(Code::UnsupportedMediaType, detail));
    let encoding =
        request.headers().get(CONTENT_ENCODING).map(actix_web::http::header::HeaderValue::as_bytes);
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return refuse("a compressed body is not taken; send it as it is");
    }
    // A page of another site can send these two without being asked first, but not without its Origin.
    let from_page = request.headers().contains_key(ORIGIN);
    let Some(given) = request.headers().get(CONTENT_TYPE) else {
        return if from_page {
            refuse("a page has to say that it sends application/json")
        } else {
            Ok(BodyKind::Json)
        };
    };
    let given = given.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = given.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let charset = parts.find_map(|p| p.strip_prefix("charset=")).map(|c| c.trim_matches('"'));
    if !matches!(charset, None | Some("utf-8" | "utf8")) {
        return refuse("JSON is UTF-8");
    }
    match kind {
        "application/json" => Ok(BodyKind::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(BodyKind::Ndjson),
        other if other.starts_with("application/") && other.ends_with("+json") => {
            Ok(BodyKind::Json)
        }
        // What `curl -d` says of any body.
        "application/x-www-form-urlencoded" if !from_page => Ok(BodyKind::Json),
        _ => refuse("send application/json or application/x-ndjson"),
    }
}

/// A body that was read whole.
pub(super) struct Body {
    bytes: Vec<u8>,
    _held: Held,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the whole body.
pub(super) async fn read(
    request: &HttpRequest,
    mut payload: Payload,
    kind: BodyKind,
    app: &App,
) -> Result<Body, Problem> {
    let config = &app.hub.config().publish;
    let most = config.max_body.as_usize();
    let declared =
        request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let declared: usize = declared.unwrap_or(0);
    let mut bytes = Vec::with_capacity(declared.min(FREE));
    let mut held = app.bodies.hold();
    loop {
        let next = tokio::time::timeout(config.body_timeout, payload.next()).await;
        let Ok(next) = next else {
            let detail = format!("the body stopped coming for {:?}", config.body_timeout);
            return Err(Problem::new(Code::InvalidJson, detail).within_a_body());
        };
        match next {
            None => return Ok(Body { bytes, _held: held }),
            Some(Ok(chunk)) => {
                bytes.extend_from_slice(&chunk);
                held.came(chunk.len(), config.body_timeout)?;
            }
            Some(Err(_)) => return Err(Problem::new(Code::InvalidJson, "the body was cut off")),
        }
        if bytes.len().max(declared) > most {
            let one = kind == BodyKind::Json
                && bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
            let code = if one { Code::EventTooLarge } else { Code::BatchTooLarge };
            return Err(Problem::new(code, format!("the body has more than {most} bytes")));
        }
        held.set(bytes.len())?;
    }
}
