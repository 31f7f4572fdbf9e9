//! `runhub history`: prints the events of a run that are stored, page by page.

use super::client::{Client, event_id_argument, run_argument, text_of};
use super::output::{Printer, goes_on};
use super::{Failure, Target};
use crate::event::{EventId, RunId};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Events asked for at a time.
const PAGE: usize = 1000;

#[derive(Args)]
pub(super) struct HistoryArgs {
    /// The run to read.
    #[arg(value_parser = run_argument)]
    run: RunId,
    /// Only events behind this id.
    #[arg(long, value_name = "ID", value_parser = event_id_argument)]
    after: Option<EventId>,
    /// At most this many events; without it, all.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only these types, such as llm.*,tool.end.
    #[arg(long)]
    types: Option<String>,
    /// Only events of the agent with this id or name.
    #[arg(long)]
    agent: Option<String>,
    /// The newest first.
    #[arg(long)]
    reverse: bool,
    /// Print each event as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// A page of history; its events stay as the hub wrote them.
#[derive(Deserialize)]
struct Page<'p> {
    #[serde(borrow)]
    events: Vec<&'p RawValue>,
    next_id: Option<String>,
}

pub(super) fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let client = Client::new(&args.target.url)?;
    let printer = Printer::new(args.json);
    let (mut left, mut next) = (args.limit.unwrap_or(usize::MAX), None);
    while left > 0 {
        let text = text_of(client.get(&path(args, left.min(PAGE), next.as_deref()), &[])?)?;
        let page: Page<'_> = serde_json::from_str(&text).map_err(|e| {
            Failure::Failed(format!("{} answered with no page of events: {e}", client.shown()))
        })?;
        for event in &page.events {
            if !goes_on(printer.print(event.get()))? {
                return Ok(());
            }
        }
        left -= page.events.len().min(left);
        next = page.next_id;
        if next.is_none() {
            break;
        }
    }
    Ok(())
}

fn path(args: &HistoryArgs, limit: usize, next: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    let after = args.after.map(|id| id.to_string());
    let given = [
        ("after", after.as_deref()),
        ("start_id", next),
        ("types", args.types.as_deref()),
        ("agent", args.agent.as_deref()),
        ("order", args.reverse.then_some("desc")),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("/runs/{}/events?{}", args.run, query.finish())
}
