//! `GET /runs/{run_id}/events/ws`: a run over a WebSocket (RFC 6455). Each event is a text message with its
//! JSON; what is no event is one with `control`. The hub pings, and cuts who does not answer.

use super::App;
use super::extract::{last_event_id, run_id};
use super::problem::{Code, Problem};
use super::query::Query;
use super::stream;
use crate::config::Config;
use crate::hub::{
    CloseReason, Control, Item, Shape, SubscribeError, SubscribeOptions, Subscription,
};
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, ProtocolError, Session};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The most bytes a client may send in one message. Readers have nothing to say.
const LONGEST_MESSAGE: usize = 64 << 10;
/// The most messages a client may send within a minute.
const MOST_MESSAGES: u32 = 100;
const TOO_LARGE: &str = "the message is too large";
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Handles the request.
pub(super) async fn follow(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    check_handshake(&request)?;
    check_origin(request.headers(), app.hub.config())?;
    let query = Query::of(&request);
    let cursor = last_event_id(&request, &query)?;
    let options = SubscribeOptions { shape: Shape::Items, ..stream::options(&query, cursor)? };
    let subscription = match app.hub.subscribe(&run, options).await {
        Ok(subscription) => Some(subscription),
        // There is nothing left to say but that.
        Err(SubscribeError::Finished) => None,
        Err(error) => return Err(error.into()),
    };
    let (response, session, incoming) = actix_ws::handle(&request, payload)
        .map_err(|e| Problem::new(Code::InvalidQuery, format!("no WebSocket handshake: {e}")))?;
    let incoming = incoming
        .max_frame_size(LONGEST_MESSAGE)
        .aggregate_continuations()
        .max_continuation_size(LONGEST_MESSAGE);
    let subscribe = &app.hub.config().subscribe;
    let conversation = Conversation {
        session,
        incoming,
        ping_every: subscribe.heartbeat,
        stall: subscribe.stall_timeout,
    };
    actix_web::rt::spawn(conversation.hold(subscription));
    Ok(response)
}

/// What a handshake must have, with a problem document for each thing it lacks.
fn check_handshake(request: &HttpRequest) -> Result<(), Problem> {
    let has = |name: header::HeaderName, word: &str| {
        let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|w| w.trim().eq_ignore_ascii_case(word))
    };
    let refuse = |detail: &str| Err(Problem::new(Code::InvalidQuery, detail));
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return refuse("this is a WebSocket: send Connection: Upgrade and Upgrade: websocket");
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return refuse("the version of WebSockets is 13: send Sec-WebSocket-Version: 13");
    }
    if !request.headers().contains_key(header::SEC_WEBSOCKET_KEY) {
        return refuse("a WebSocket handshake has a Sec-WebSocket-Key");
    }
    Ok(())
}

/// A page may open a WebSocket anywhere, unasked: what CORS does for other requests is done here. A page of
/// the hub's own address, one that is listed, and whatever is no page, may.
fn check_origin(headers: &HeaderMap, config: &Config) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = host.is_some_and(|host| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    });
    if own || config.server.cors_origins.0.iter().any(|listed| listed == origin) {
        return Ok(());
    }
    let detail = "pages of this origin may not use the hub; list it in server.cors_origins";
    Err(Problem::new(Code::Forbidden, detail))
}

/// One WebSocket.
struct Conversation {
    session: Session,
    incoming: AggregatedMessageStream,
    ping_every: Duration,
    /// How long a client may take nothing.
    stall: Duration,
}

/// Why a conversation ends.
enum End {
    /// The stream ends.
    Closed(CloseReason),
    /// The client is gone, or says goodbye.
    Gone,
    /// The client breaks a rule.
    Refused(CloseCode, &'static str),
}

impl Conversation {
    /// Talks until one of the two has enough.
    async fn hold(mut self, subscription: Option<Subscription>) {
        let end = match subscription {
            Some(subscription) => self.talk(subscription).await,
            None => {
                let close = Control::Close(CloseReason::RunFinished);
                match timeout(self.stall, self.session.text(control(&close))).await {
                    Ok(Ok(())) => End::Closed(CloseReason::RunFinished),
                    _ => End::Gone,
                }
            }
        };
        let (code, description) = match end {
            End::Gone => (CloseCode::Normal, None),
            End::Closed(reason) => {
                let code = match reason {
                    CloseReason::RunFinished | CloseReason::RunDeleted => CloseCode::Normal,
                    CloseReason::Shutdown => CloseCode::Away,
                    CloseReason::SlowClient => CloseCode::Again,
                };
                (code, Some(reason.as_str().to_owned()))
            }
            End::Refused(code, why) => (code, Some(why.to_owned())),
        };
        let reason = actix_ws::CloseReason { code, description };
        drop(timeout(GOODBYE, self.session.close(Some(reason))).await);
    }

    async fn talk(&mut self, mut subscription: Subscription) -> End {
        let mut ping_at = Instant::now() + self.ping_every;
        let mut unanswered = 0;
        let (mut heard, mut minute) = (0, Instant::now());
        loop {
            tokio::select! {
                item = poll_fn(|cx| subscription.poll_next(cx)) => {
                    if let Some(end) = self.say(item).await {
                        return end;
                    }
                }
                message = self.incoming.recv() => {
                    if minute.elapsed() >= Duration::from_secs(60) {
                        (heard, minute) = (0, Instant::now());
                    }
                    heard += 1;
                    // Whatever comes shows that the client is there.
                    unanswered = 0;
                    if let Some(end) = self.hear(message).await {
                        return end;
                    }
                    if heard > MOST_MESSAGES {
                        return End::Refused(CloseCode::Policy, "too many messages");
                    }
                }
                () = tokio::time::sleep_until(ping_at) => {
                    if unanswered >= 2 {
                        return End::Gone;
                    }
                    unanswered += 1;
                    ping_at = Instant::now() + self.ping_every;
                    match timeout(self.stall, self.session.ping(b"")).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return End::Gone,
                        Err(_) => return End::Closed(CloseReason::SlowClient),
                    }
                }
            }
        }
    }

    /// Passes on what the stream has.
    async fn say(&mut self, item: Option<Item>) -> Option<End> {
        let (text, end) = match item {
            Some(Item::Event(event)) => {
                // An event's JSON is text.
                (bytestring::ByteString::try_from(event.json).unwrap_or_default(), None)
            }
            Some(Item::Control(said)) => {
                let end = match &said {
                    Control::Close(reason) => Some(End::Closed(*reason)),
                    _ => None,
                };
                (control(&said).into(), end)
            }
            // Streams of items have no bytes.
            Some(Item::Bytes(_)) => return None,
            None => return Some(End::Gone),
        };
        match timeout(self.stall, self.session.text(text)).await {
            Ok(Ok(())) => end,
            Ok(Err(_)) => Some(End::Gone),
            Err(_) => Some(End::Closed(CloseReason::SlowClient)),
        }
    }

    /// Takes what the client says: nothing of it matters but that it says something.
    async fn hear(
        &mut self,
        message: Option<Result<AggregatedMessage, ProtocolError>>,
    ) -> Option<End> {
        match message {
            None | Some(Ok(AggregatedMessage::Close(_))) => Some(End::Gone),
            Some(Ok(AggregatedMessage::Ping(bytes))) => {
                match timeout(self.stall, self.session.pong(&bytes)).await {
                    Ok(Ok(())) => None,
                    _ => Some(End::Gone),
                }
            }
            Some(Ok(_)) => None,
            Some(Err(ProtocolError::Overflow)) => Some(End::Refused(CloseCode::Size, TOO_LARGE)),
            // How the library says that a fragmented message is no UTF-8, or too large in all.
            Some(Err(ProtocolError::Io(e))) if e.kind() == ErrorKind::InvalidData => {
                Some(End::Refused(CloseCode::Invalid, "the text is not UTF-8"))
            }
            Some(Err(ProtocolError::Io(e))) if e.kind() == ErrorKind::Other => {
                Some(End::Refused(CloseCode::Size, TOO_LARGE))
            }
            Some(Err(_)) => Some(End::Refused(CloseCode::Protocol, "not a WebSocket message")),
        }
    }
}

fn control(control: &Control) -> String {
    format!("{{\"control\":\"{}\",{}}}", control.name(), control.members())
}
