//! `runhub tail`: follows a run, and goes on where it was after a lost connection.

use super::client::{Client, run_argument, text_of};
use super::output::{Printer, goes_on};
use super::sse::Frames;
use super::{Failure, Target, pipe, say};
use crate::event::{EventId, RunId};
use crate::telemetry::log::one_line;
use clap::Args;
use serde_json::Value;
use std::time::Duration;

#[derive(Args)]
pub(super) struct TailArgs {
    /// The run to follow.
    #[arg(value_parser = run_argument)]
    run: RunId,
    /// Where to begin: start, live, or behind an event id.
    #[arg(long, default_value = "start")]
    from: String,
    /// Only these types, such as llm.*,tool.end.
    #[arg(long)]
    types: Option<String>,
    /// "folded": what is stored already comes with the deltas of a message as one event.
    #[arg(long, value_name = "folded", value_parser = ["folded"])]
    deltas: Option<String>,
    /// Print each event as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// How long to wait before connecting again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// How one connection ended.
enum End {
    /// The run is over.
    Finished,
    /// It can be taken up again.
    Lost(String),
}

pub(super) fn run(args: &TailArgs) -> Result<(), Failure> {
    let client = Client::new(&args.target.url)?;
    let mut cursor = match args.from.as_str() {
        "start" | "live" => None,
        id => {
            EventId::parse(id).map_err(|e| {
                Failure::Usage(format!("--from is start, live or an event id: {e}"))
            })?;
            Some(id.to_owned())
        }
    };
    pipe::end_with_the_reader();
    let printer = Printer::new(args.json);
    let mut connected_once = false;
    loop {
        let path = path(args, connected_once);
        let headers: Vec<(&str, &str)> =
            cursor.iter().map(|id| ("last-event-id", id.as_str())).collect();
        let end = match client.get(&path, &headers) {
            Ok(response) if response.status() == 204 => End::Finished,
            Ok(response) if response.status() == 503 && connected_once => {
                End::Lost("the hub is not available".to_owned())
            }
            Ok(response) if !response.status().is_success() => {
                text_of(response)?;
                End::Finished
            }
            Ok(response) => {
                connected_once = true;
                let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
                follow(Frames::new(reader), &mut cursor, &printer)?
            }
            Err(Failure::Failed(reason)) if connected_once => End::Lost(reason),
            Err(failure) => return Err(failure),
        };
        match end {
            End::Finished => return Ok(()),
            End::Lost(reason) => {
                say(&format!("runhub: {}; connecting again", one_line(&reason)));
                std::thread::sleep(RECONNECT_AFTER);
            }
        }
    }
}

fn path(args: &TailArgs, again: bool) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if args.from == "live" {
        query.append_pair("from", "live");
    }
    if let Some(types) = &args.types {
        query.append_pair("types", types);
    }
    // Folding is for the past; what was missed for a moment comes as it would have come live.
    if let Some(deltas) = args.deltas.as_deref().filter(|_| !again) {
        query.append_pair("deltas", deltas);
    }
    format!("/runs/{}/events/stream?{}", args.run, query.finish())
}

fn follow<R: std::io::Read>(
    mut frames: Frames<R>,
    cursor: &mut Option<String>,
    printer: &Printer,
) -> Result<End, Failure> {
    loop {
        let frame = match frames.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(End::Lost("the stream ended".to_owned())),
            Err(e) => return Ok(End::Lost(format!("the stream broke off: {e}"))),
        };
        if frame.name.contains('.') {
            if !goes_on(printer.print(&frame.data))? {
                return Ok(End::Finished);
            }
            cursor.clone_from(&frame.last_id);
            continue;
        }
        let reason = serde_json::from_str::<Value>(&frame.data).ok();
        let reason = reason.as_ref().and_then(|v| v.get("reason")?.as_str()).unwrap_or_default();
        match (frame.name.as_str(), reason) {
            ("close", "run_finished" | "run_deleted") => {
                say(&format!("runhub: {}", reason.replace('_', " ")));
                return Ok(End::Finished);
            }
            ("close", reason) => {
                return Ok(End::Lost(format!("the hub closed the stream: {reason}")));
            }
            (name, _) => say(&format!("runhub: {} {}", one_line(name), one_line(&frame.data))),
        }
    }
}
