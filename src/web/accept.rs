//! What the client says it accepts.

use super::problem::{Code, Problem};
use actix_web::HttpRequest;
use actix_web::http::header::ACCEPT;

/// Of the types offered, the one the client names first by weight; the first offered where it has no
/// preference. Source: RFC 9110, section 12.5.1.
pub(super) fn choose(
    request: &HttpRequest,
    offered: &[&'static str],
) -> Result<&'static str, Problem> {
    let mut ranges = Vec::new();
    for value in request.headers().get_all(ACCEPT) {
        let text = value.to_str().unwrap_or("*/*");
        ranges.extend(text.split(',').map(parse_range).filter(|(range, _)| !range.is_empty()));
    }
    if ranges.is_empty() {
        return offered.first().copied().ok_or_else(|| refuse(offered));
    }
    // The most telling range that fits decides a type's weight.
    let weight = |kind: &str| {
        let group = kind.split('/').next().unwrap_or_default();
        let exact = ranges.iter().find(|(range, _)| *range == kind);
        let exact =
            exact.or_else(|| ranges.iter().find(|(r, _)| r.strip_suffix("/*") == Some(group)));
        exact.or_else(|| ranges.iter().find(|(range, _)| *range == "*/*")).map_or(0.0, |(_, q)| *q)
    };
    let mut best: Option<(&'static str, f32)> = None;
    for kind in offered {
        let q = weight(kind);
        if q > best.map_or(0.0, |(_, best)| best) {
            best = Some((kind, q));
        }
    }
    best.map(|(kind, _)| kind).ok_or_else(|| refuse(offered))
}

fn parse_range(text: &str) -> (String, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default().to_ascii_lowercase();
    let q = parts.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse().ok());
    (range, q.unwrap_or(1.0))
}

fn refuse(offered: &[&'static str]) -> Problem {
    Problem::new(Code::NotAcceptable, format!("this is served as {}", offered.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    const OFFERED: [&str; 2] = ["application/json", "application/x-ndjson"];

    fn chosen(accept: Option<&str>) -> Result<&'static str, Problem> {
        let request =
            accept.into_iter().fold(TestRequest::default(), |r, a| r.insert_header((ACCEPT, a)));
        choose(&request.to_http_request(), &OFFERED)
    }

    #[test]
    fn the_client_decides() {
        for (accept, kind) in [
            (None, OFFERED[0]),
            (Some("*/*"), OFFERED[0]),
            (Some("application/*"), OFFERED[0]),
            (Some("application/x-ndjson"), OFFERED[1]),
            (Some("application/json;q=0.2, application/x-ndjson"), OFFERED[1]),
            (Some("text/html, */*;q=0.1"), OFFERED[0]),
            (Some(""), OFFERED[0]),
        ] {
            assert_eq!(chosen(accept).unwrap(), kind, "{accept:?}");
        }
        for accept in ["text/html", "application/json;q=0", "image/*"] {
            assert_eq!(chosen(Some(accept)).unwrap_err().code(), Code::NotAcceptable, "{accept}");
        }
    }
}
