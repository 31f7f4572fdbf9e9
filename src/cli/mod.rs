//! The commands. Each has a file; exit codes are 0 for success, 1 for a failure, 2 for wrong words or a
//! wrong configuration.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its terminal")]

mod check;
mod client;
mod demo;
mod dotenv;
mod files;
mod history;
mod output;
mod pipe;
mod publish;
mod runs;
mod scheduling;
mod serve;
mod sse;
mod tail;
mod telling;

use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// The event hub for agent runs: publish, store, follow live, resume, replay.
#[derive(Parser)]
#[command(name = "runhub", version, about, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub (the default).
    Serve(serve::ServeArgs),
    /// Publish one event to a run.
    Publish(publish::PublishArgs),
    /// Follow a run; goes on after a lost connection.
    Tail(tail::TailArgs),
    /// Print the events of a run that are stored.
    History(history::HistoryArgs),
    /// List the runs, the last active first.
    Runs(runs::RunsArgs),
    /// Say whether a hub could start here: configuration, store, spool. Changes nothing.
    Check(check::CheckArgs),
    /// Play the run of a small agent team into a hub.
    Demo(demo::DemoArgs),
}

/// Which hub a command talks to.
#[derive(Args)]
struct Target {
    /// The hub's address.
    #[arg(long, env = "RUNHUB_URL", default_value = "http://127.0.0.1:8082")]
    url: String,
}

/// Why a command failed, in one line.
#[derive(Debug)]
enum Failure {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2.
    Usage(String),
}

/// Runs the command that the process was called with.
pub fn run() -> ExitCode {
    let outcome = dotenv::load().and_then(|()| run_command());
    let (code, message) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => (1, message),
        Err(Failure::Usage(message)) => (2, message),
    };
    say(&format!("runhub: {}", crate::telemetry::log::one_line(&message)));
    ExitCode::from(code)
}

/// Writes a line to standard error, if that can be written to: a full disk behind it is no reason to stop.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn run_command() -> Result<(), Failure> {
    let cli = Cli::parse();
    match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Publish(args)) => publish::run(&args),
        Some(Command::Tail(args)) => tail::run(&args),
        Some(Command::History(args)) => history::run(&args),
        Some(Command::Runs(args)) => runs::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
    }
}
