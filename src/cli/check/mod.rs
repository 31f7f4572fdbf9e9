//! `runhub check`: says line by line whether a hub could start here with this configuration. It makes no
//! file that stays, opens no database and takes no lock, so it may run beside a hub that is at work.

mod folder;

use super::client::Client;
use super::output::goes_on;
use super::{Failure, serve};
use crate::config::{Config, load::DEFAULT_FILE};
use crate::store::redis;
use crate::store::{LogStore, StoreRules};
use crate::telemetry::log::one_line;
use clap::Args;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    serve: serve::ServeArgs,
    /// Also ask the hub at this address whether it is ready.
    #[arg(long, env = "RUNHUB_URL")]
    url: Option<String>,
}

/// What was found of one thing: well, with what is to be said of it, or not, and why.
type Finding = Result<String, String>;

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let config = serve::load(&args.serve)?;
    let client = args.url.as_deref().map(Client::new).transpose()?;
    // A URL that cannot be used is a wrong configuration, and said before anything is looked at.
    let redis = config.redis.url.as_ref().map(|url| {
        let rules = StoreRules::new(&config.retention, config.publish.dedup_window);
        redis::open(url, rules, &config.redis).map_err(|e| Failure::Usage(e.to_string()))
    });
    let redis = redis.transpose()?;
    let mut report = Report { failed: 0, read: true };
    report.line("configuration", Ok(origin(&args.serve)))?;
    report.line("data folder", folder::writable(&config.server.data_dir))?;
    let store = match &redis {
        Some(store) => reach(store, &config),
        None => folder::free(&config.server.data_dir.join("store"), "embedded in"),
    };
    report.line("store", store)?;
    report.line("spool", folder::free(&config.server.data_dir.join("spool"), "in"))?;
    if let Some(client) = client {
        report.line("hub", ask(&client))?;
    }
    match report.failed {
        0 => Ok(()),
        1 => Err(Failure::Failed("one thing is not well; see its line".to_owned())),
        failed => Err(Failure::Failed(format!("{failed} things are not well; see their lines"))),
    }
}

/// The lines on standard output.
struct Report {
    failed: usize,
    /// Whether anybody still reads them; the exit code is told all the same.
    read: bool,
}

impl Report {
    fn line(&mut self, what: &str, finding: Finding) -> Result<(), Failure> {
        self.failed += usize::from(finding.is_err());
        let (word, said) = match finding {
            Ok(said) => ("ok", said),
            Err(said) => ("FAILED", said),
        };
        if self.read {
            let line = format!("{word:<6}  {what}: {}", one_line(&said));
            self.read = goes_on(writeln!(std::io::stdout(), "{line}"))?;
        }
        Ok(())
    }
}

fn origin(args: &serve::ServeArgs) -> String {
    match &args.config {
        Some(path) => format!("{}, environment and flags", path.display()),
        None if Path::new(DEFAULT_FILE).exists() => {
            format!("{DEFAULT_FILE}, environment and flags")
        }
        None => "defaults, environment and flags; there is no file".to_owned(),
    }
}

/// Connects as a hub does, sentinels, password and version included, and reads once; nothing is written.
fn reach(store: &Arc<dyn LogStore>, config: &Config) -> Finding {
    let place = store.status().place;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot wait for Redis at {place}: {e}"))?;
    // Dialling, the questions to a new connection, and the read each have a limit of their own.
    let limit = config.redis.connect_timeout * 4 + config.redis.command_timeout * 2;
    let read =
        runtime.block_on(async { tokio::time::timeout(limit, store.runs(None, 1, None)).await });
    match read {
        Ok(Ok(_)) => Ok(format!("Redis at {place} answers, and is one that a hub can use")),
        Ok(Err(e)) => Err(format!("Redis at {place}: {e}; start it, or correct REDIS_URL")),
        Err(_) => Err(format!("Redis at {place} does not answer within {limit:?}")),
    }
}

fn ask(client: &Client) -> Finding {
    let place = client.shown();
    let response = client.get("/health/ready", &[]).map_err(|failure| match failure {
        Failure::Failed(reason) | Failure::Usage(reason) => reason,
    })?;
    let status = response.status();
    let text = response.into_body().read_to_string();
    let text = text.map_err(|e| format!("the answer of {place} was cut off: {e}"))?;
    let told: Value = serde_json::from_str(&text)
        .map_err(|_| format!("{place} answers {status}, but not as a hub does"))?;
    let said = |path: &str| told.pointer(path).and_then(Value::as_str).unwrap_or("unknown");
    let mode = said("/mode");
    if !status.is_success() {
        return Err(format!("{place} is starting or stopping ({status}, mode {mode})"));
    }
    if told.pointer("/store/reachable") != Some(&Value::Bool(true)) {
        let trouble = said("/store/trouble");
        return Err(format!("{place} serves, but cannot reach its store (mode {mode}): {trouble}"));
    }
    Ok(format!("{place} is ready, mode {mode}"))
}
