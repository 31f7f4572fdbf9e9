//! What the commands share that talk to a running hub.

use super::Failure;
use crate::event::{EventId, RunId};
use std::io::Read;
use std::time::Duration;
use ureq::{Agent, Body, http::Response};

/// The longest answer that is not a stream, in bytes.
const LONGEST_ANSWER: u64 = 64 << 20;

/// A hub to talk to.
pub(super) struct Client {
    base: String,
    shown: String,
    agent: Agent,
}

impl Client {
    pub(super) fn new(url: &str) -> Result<Self, Failure> {
        let shown = without_credentials(url);
        if !url.starts_with("http://") {
            return Err(Failure::Usage(format!(
                "{shown} is no address of a hub; expected http://HOST:PORT"
            )));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            // Heartbeats come more often than this.
            .timeout_per_read(Some(Duration::from_secs(45)))
            .user_agent(concat!("runhub/", env!("CARGO_PKG_VERSION")))
            .build();
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { base, shown, agent: config.new_agent() })
    }

    /// The hub's address, for people: without a password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Response<Body>, Failure> {
        let mut request =
            self.agent.post(format!("{}{path}", self.base)).content_type("application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).map_err(|e| self.unreachable(&e))
    }

    pub(super) fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.call().map_err(|e| self.unreachable(&e))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::Failed(format!("cannot reach a hub at {}: {error}", self.shown))
    }
}

/// An address without the name and password that may stand before its host.
fn without_credentials(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    format!("{scheme}://{host}{}", &rest[end..])
}

/// The body of an answer that is a success; what the hub says of any other.
pub(super) fn text_of(response: Response<Body>) -> Result<String, Failure> {
    let status = response.status();
    let mut text = String::new();
    let mut reader = response.into_body().into_with_config().limit(LONGEST_ANSWER).reader();
    reader
        .read_to_string(&mut text)
        .map_err(|e| Failure::Failed(format!("the hub's answer was cut off: {e}")))?;
    if status.is_success() {
        return Ok(text);
    }
    let problem: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let part = |name| problem.as_ref().and_then(|p| p.get(name)?.as_str().map(str::to_owned));
    match (part("code"), part("detail")) {
        (Some(code), Some(detail)) => {
            let answered = format!("the hub answered {code}: {detail}");
            // Its words are those of the command.
            let is_usage = code == "INVALID_QUERY";
            Err(if is_usage { Failure::Usage(answered) } else { Failure::Failed(answered) })
        }
        _ => Err(Failure::Failed(format!("the hub answered {status}"))),
    }
}

/// A run id as an argument.
pub(super) fn run_argument(text: &str) -> Result<RunId, String> {
    RunId::parse(text).map_err(|e| e.to_string())
}

/// An event's id as an argument.
pub(super) fn event_id_argument(text: &str) -> Result<EventId, String> {
    EventId::parse(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (given, shown) in [
            ("http://127.0.0.1:8082/", "http://127.0.0.1:8082"),
            ("http://me:p@ss@hub:1/base@x", "http://hub:1/base@x"),
            ("hub:8082", "hub:8082"),
        ] {
            assert_eq!(without_credentials(given), shown);
        }
    }
}
