//! `runhub demo`: plays the run of a small agent team into a running hub, so that there is something to
//! follow. What is played stands in [`script`]; how it becomes events in [`player`]; how they reach the hub,
//! whatever happens to it meanwhile, in [`publisher`].

mod player;
mod publisher;
mod script;

use super::client::{Client, text_of};
use super::output::goes_on;
use super::{Failure, Target};
use crate::event::RunId;
use clap::Args;
use player::Player;
use publisher::Publisher;
use std::io::Write;

#[derive(Args)]
pub(super) struct DemoArgs {
    /// How fast: 1 is reading speed, about 15 tokens a second; 0.01 to 1000.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = speed_argument)]
    speed: f64,
    /// How many runs to play at once: 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    runs: u8,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    // Said before anything is promised: there is no hub, or it is none.
    text_of(Client::new(&args.target.url)?.get("/health/live", &[])?)?;
    let runs = (0..args.runs).map(|_| new_run()).collect::<Result<Vec<_>, _>>()?;
    let mut out = std::io::stdout();
    let url = args.target.url.trim_end_matches('/');
    for run in &runs {
        let how = format!(
            "playing {run}; follow it with\n  runhub tail {run} --url {url}\n  curl -N {url}/runs/{run}/events/stream"
        );
        if !goes_on(writeln!(out, "{how}"))? {
            break;
        }
    }
    let played = std::thread::scope(|scope| {
        let play = |run| scope.spawn(move || play(args, run));
        let threads: Vec<_> = runs.iter().map(play).collect();
        let ended = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure::Failed("a player died".to_owned())))
        });
        ended.collect::<Vec<_>>()
    });
    let mut outcome = Ok(());
    for (run, ended) in runs.iter().zip(played) {
        match ended {
            Ok(line) => drop(goes_on(writeln!(out, "{run} completed: {line}"))?),
            Err(failure) => outcome = Err(failure),
        }
    }
    outcome
}

/// Plays a run to its end, on a connection of its own; says in a few words what was played.
fn play(args: &DemoArgs, run: &RunId) -> Result<String, Failure> {
    let publisher = Publisher::new(Client::new(&args.target.url)?, run);
    Player::new(publisher, args.speed).play(script::SCRIPT)
}

fn new_run() -> Result<RunId, Failure> {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";
    let mut name = "demo-".to_owned();
    for _ in 0..6 {
        name.push(char::from(LETTERS[rand::random_range(0..LETTERS.len())]));
    }
    RunId::parse(&name).map_err(|e| Failure::Failed(format!("{name}: {e}")))
}

fn speed_argument(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("a speed is a number from 0.01 to 1000".to_owned()),
    }
}
