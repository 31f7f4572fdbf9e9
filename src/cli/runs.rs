//! `runhub runs`: lists the runs, the last active first.

use super::client::{Client, text_of};
use super::output::goes_on;
use super::{Failure, Target};
use crate::event::RunStatus;
use crate::telemetry::log::one_line;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::Write;

/// Runs asked for at a time.
const PAGE: usize = 100;

#[derive(Args)]
pub(super) struct RunsArgs {
    /// Only runs with this status.
    #[arg(long, value_parser = PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::as_str)))]
    status: Option<String>,
    /// At most this many runs.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Print each run as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// A page of the list; its runs stay as the hub wrote them.
#[derive(Deserialize)]
struct Page {
    runs: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

pub(super) fn run(args: &RunsArgs) -> Result<(), Failure> {
    let client = Client::new(&args.target.url)?;
    let (mut runs, mut cursor) = (Vec::new(), None);
    while runs.len() < args.limit {
        let text = text_of(client.get(&path(args, args.limit - runs.len(), cursor), &[])?)?;
        let page: Page = serde_json::from_str(&text).map_err(|e| {
            Failure::Failed(format!("{} answered with no list of runs: {e}", client.shown()))
        })?;
        runs.extend(page.runs);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let lines: Vec<String> = match args.json {
        true => runs.iter().map(|run| run.get().to_owned()).collect(),
        false => table(&runs),
    };
    let mut out = std::io::stdout().lock();
    for line in lines {
        if !goes_on(writeln!(out, "{line}"))? {
            break;
        }
    }
    Ok(())
}

fn path(args: &RunsArgs, left: usize, cursor: Option<String>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &left.min(PAGE).to_string());
    if let Some(status) = &args.status {
        query.append_pair("status", status);
    }
    if let Some(cursor) = cursor {
        query.append_pair("cursor", &cursor);
    }
    format!("/runs?{}", query.finish())
}

/// A head and a line a run, in columns.
fn table(runs: &[Box<RawValue>]) -> Vec<String> {
    let head = ["RUN", "STATUS", "EVENTS", "LAST ACTIVITY (UTC)", "SUBSCRIBERS"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(runs.iter().map(|run| {
        let run: Value = serde_json::from_str(run.get()).unwrap_or_default();
        let cell = |key: &str| match run.get(key) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => one_line(text),
            Some(other) => one_line(&other.to_string()),
        };
        // Of 2025-01-01T12:00:00.001Z as much as people read.
        let active = cell("updated_at");
        let active = active.get(..19).unwrap_or(&active).replace('T', " ");
        [cell("run_id"), cell("status"), cell("length"), active, cell("subscribers")]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let [run_width, status_width, events_width] = [0, 1, 2].map(|n| width(n).unwrap_or(0));
    let line = |[run, status, events, active, subscribers]: &[String; 5]| {
        format!(
            "{run:<run_width$}  {status:<status_width$}  {events:>events_width$}  {active:<19}  {subscribers}"
        )
    };
    rows.iter().map(line).collect()
}
