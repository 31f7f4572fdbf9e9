//! `runhub publish`: one event, from the command line.

use super::client::{Client, run_argument, text_of};
use super::output::goes_on;
use super::{Failure, Target};
use crate::event::json_text::push_string;
use crate::event::{EventType, RunId};
use clap::Args;
use serde_json::value::RawValue;
use std::io::Write;

#[derive(Args)]
pub(super) struct PublishArgs {
    /// The run to publish to.
    #[arg(value_parser = run_argument)]
    run: RunId,
    /// The event's type, such as llm.stream.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The event's data as JSON; "-" reads it from standard input.
    data: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &PublishArgs) -> Result<(), Failure> {
    EventType::parse(&args.kind).map_err(|e| Failure::Usage(e.to_string()))?;
    let data = match args.data.as_deref() {
        Some("-") => std::io::read_to_string(std::io::stdin())
            .map_err(|e| Failure::Failed(format!("cannot read standard input: {e}")))?,
        Some(data) => data.to_owned(),
        None => "null".to_owned(),
    };
    let data: &RawValue = serde_json::from_str(&data)
        .map_err(|e| Failure::Usage(format!("DATA is not JSON: {e}")))?;
    let mut body = b"{\"type\":".to_vec();
    push_string(&mut body, &args.kind);
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(data.get().as_bytes());
    body.push(b'}');
    let body = String::from_utf8(body).map_err(|e| Failure::Failed(e.to_string()))?;
    let client = Client::new(&args.target.url)?;
    let told = text_of(client.post(&format!("/runs/{}/events", args.run), &[], &body)?)?;
    goes_on(writeln!(std::io::stdout(), "{told}")).map(|_| ())
}
