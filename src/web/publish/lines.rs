//! `POST /runs/{run_id}/events?mode=stream`: a body that is taken line by line while it arrives, so that a
//! stream of tokens is one request. Each line is an event at once; lines that have arrived together go
//! together. The first bad line ends it, and is told with its number and what was stored before it.

use super::answer::{self, Standing};
use super::parse::{Bounds, complete_one, of_element};
use crate::event::parse::{MAX_ENVELOPE, parse_event};
use crate::event::{NewEvent, RunId, Timestamp};
use crate::hub::{Ack, Hub, PublishError, Published};
use crate::store::Placed;
use crate::web::App;
use crate::web::body::BodyKind;
use crate::web::body_room::Held;
use crate::web::problem::{Code, Problem};
use actix_web::HttpResponse;
use actix_web::web::Payload;
use futures::StreamExt;
use std::pin::pin;

/// A body under way.
struct Lines<'a> {
    hub: &'a Hub,
    run: &'a RunId,
    ack: Ack,
    idempotency: Option<String>,
    bounds: Bounds,
    /// What has come of the line that is not whole yet.
    rest: Vec<u8>,
    held: Held,
    /// Lines seen, empty ones too.
    lines: u64,
    /// Events stored, spooled or accepted.
    count: u64,
    standing: Option<Standing>,
    last: Option<Placed>,
}

/// Takes the body and answers when it ends.
pub(super) async fn publish(
    app: &App,
    run: &RunId,
    mut payload: Payload,
    kind: BodyKind,
    ack: Ack,
    idempotency: Option<String>,
) -> Result<HttpResponse, Problem> {
    if kind != BodyKind::Ndjson {
        let detail = "mode=stream takes application/x-ndjson";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let config = &app.hub.config().publish;
    let mut lines = Lines {
        hub: &app.hub,
        run,
        ack,
        idempotency,
        bounds: Bounds::of(config),
        rest: Vec::new(),
        held: app.bodies.hold(),
        lines: 0,
        count: 0,
        standing: None,
        last: None,
    };
    let mut closing = pin!(app.hub.until_closing());
    loop {
        let next = tokio::time::timeout(config.stream_timeout, payload.next());
        let next = tokio::select! {
            biased;
            next = next => next,
            () = &mut closing => {
                let problem = Problem::from(PublishError::Closing).within_a_body();
                return Err(lines.ended(problem, lines.lines + 1));
            }
        };
        match next {
            Err(_) => {
                let detail = format!("the body stopped coming for {:?}", config.stream_timeout);
                let problem = Problem::new(Code::InvalidJson, detail).within_a_body();
                return Err(lines.ended(problem, lines.lines + 1));
            }
            Ok(Some(Err(_))) => {
                let problem = Problem::new(Code::InvalidJson, "the body was cut off");
                return Err(lines.ended(problem, lines.lines + 1));
            }
            Ok(Some(Ok(chunk))) => {
                let came = lines.held.came(chunk.len(), config.stream_timeout);
                came.map_err(|problem| lines.ended(problem, lines.lines + 1))?;
                lines.take(&chunk).await?;
            }
            Ok(None) => break,
        }
    }
    // The last line needs no line break.
    let last = std::mem::take(&mut lines.rest);
    lines.take_lines(&[&last]).await?;
    let standing = lines.standing.unwrap_or(Standing::Persisted);
    Ok(answer::of_lines(run, standing, lines.count, lines.last))
}

impl Lines<'_> {
    async fn take(&mut self, chunk: &[u8]) -> Result<(), Problem> {
        let longest = self.bounds.event.max_data + MAX_ENVELOPE;
        let Some(end) = chunk.iter().rposition(|byte| *byte == b'\n') else {
            self.rest.extend_from_slice(chunk);
            return self.wait_for_more(longest);
        };
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(&chunk[..end]);
        self.rest.extend_from_slice(&chunk[end + 1..]);
        let lines: Vec<&[u8]> = whole.split(|byte| *byte == b'\n').collect();
        for some in lines.chunks(self.bounds.events) {
            self.take_lines(some).await?;
        }
        self.wait_for_more(longest)
    }

    /// Whether the line that is not whole yet may go on.
    fn wait_for_more(&mut self, longest: usize) -> Result<(), Problem> {
        if self.rest.len() > longest {
            let detail = format!("a line has more than {longest} bytes");
            return Err(self.ended(Problem::new(Code::EventTooLarge, detail), self.lines + 1));
        }
        self.held.set(self.rest.len()).map_err(|problem| self.ended(problem, self.lines + 1))
    }

    /// Publishes lines that are whole, up to the first bad one.
    async fn take_lines(&mut self, lines: &[&[u8]]) -> Result<(), Problem> {
        let (mut events, mut numbers, mut bad) = (Vec::new(), Vec::new(), None);
        for line in lines {
            self.lines += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let index = self.count + events.len() as u64;
            match self.event(line, index) {
                Ok(event) => {
                    events.push(event);
                    numbers.push(self.lines);
                }
                Err(problem) => {
                    bad = Some((problem, self.lines));
                    break;
                }
            }
        }
        if !events.is_empty() {
            self.write(events, &numbers).await?;
        }
        bad.map_or(Ok(()), |(problem, line)| Err(self.ended(problem, line)))
    }

    fn event(&self, line: &[u8], index: u64) -> Result<NewEvent, Problem> {
        let text = std::str::from_utf8(line)
            .map_err(|e| Problem::new(Code::InvalidEvent, format!("the line is not UTF-8: {e}")))?;
        let event = parse_event(self.run, text, Timestamp::now(), self.bounds.event)
            .and_then(|event| self.hub.admit(event));
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        complete_one(event.map_err(of_element)?, self.idempotency.as_deref(), Some(index))
    }

    async fn write(&mut self, events: Vec<NewEvent>, numbers: &[u64]) -> Result<(), Problem> {
        match self.hub.publish(self.run, events.clone(), self.ack).await {
            Ok(published) => {
                self.told(&published, events.len());
                Ok(())
            }
            // Of lines that went together those before the bad one are events all the same.
            Err(error @ PublishError::KeyReused { index }) => {
                let line = numbers.get(index).copied().unwrap_or(self.lines);
                let before: Vec<NewEvent> = events.into_iter().take(index).collect();
                if !before.is_empty() {
                    let count = before.len();
                    match self.hub.publish(self.run, before, self.ack).await {
                        Ok(published) => self.told(&published, count),
                        Err(other) => return Err(self.ended(other.into(), numbers[0])),
                    }
                }
                Err(self.ended(error.into(), line))
            }
            Err(error) => Err(self.ended(error.into(), numbers[0])),
        }
    }

    fn told(&mut self, published: &Published, count: usize) {
        self.count += count as u64;
        let standing = match published {
            Published::Accepted => Standing::Accepted,
            Published::Spooled => Standing::Spooled,
            Published::Persisted(placed) => {
                self.last = placed.last().copied().or(self.last);
                match placed.iter().all(|place| place.duplicate) {
                    true => Standing::Known,
                    false => Standing::Persisted,
                }
            }
        };
        self.standing = Some(self.standing.map_or(standing, |earlier| earlier.min(standing)));
        if standing < Standing::Persisted {
            // Where the last one is nobody knows yet.
            self.last = None;
        }
    }

    fn ended(&self, problem: Problem, line: u64) -> Problem {
        problem.with("line", line).with("count", self.count)
    }
}
