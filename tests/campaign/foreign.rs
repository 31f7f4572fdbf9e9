//! A program that adds events to Redis itself, past every hub, and never twice.

use super::content::make;
use super::shared::{Leaver, Shared};
use crate::history::{Outcome, Place, What};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::Connection;
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long an answer of Redis is waited for: less than a publish may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pauses between events, in ms.
const PACE: std::ops::Range<u64> = 10..80;

/// Adds events to some of the runs until told to stop.
pub fn write(shared: &Shared, redis: &str, runs: &[String], number: usize, seed: u64) {
    let _leaver = Leaver(shared);
    let client = redis::Client::open(redis).expect("a URL of Redis");
    let mut random = StdRng::seed_from_u64(seed);
    let (name, mut connection) = (format!("x{number}"), None);
    while !shared.stop_publishing.load(Ordering::Acquire) {
        let op = shared.next_op();
        let (event, sent) = make(format!("{name}-{op}"), false, &mut random);
        let run = &runs[random.random_range(0..runs.len())];
        shared.record(What::Invoked {
            publisher: name.clone(),
            run: run.clone(),
            op,
            attempt: 1,
            events: vec![sent],
        });
        shared.record(match connection.take().map_or_else(|| connect(&client), Ok) {
            Err(_) => What::Unreached { op, attempt: 1 },
            Ok(mut open) => match add(&mut open, run, &name, &event) {
                Ok(outcome) => {
                    connection = Some(open);
                    What::Answered { op, attempt: 1, outcome }
                }
                Err(why) => What::Unknown { op, attempt: 1, why },
            },
        });
        std::thread::sleep(Duration::from_millis(random.random_range(PACE)));
    }
}

fn connect(client: &redis::Client) -> redis::RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// One entry, with the fields that the contract asks of other programs.
fn add(
    connection: &mut Connection,
    run: &str,
    agent: &str,
    event: &Value,
) -> Result<Outcome, String> {
    let kind = event["type"].as_str().and_then(|kind| kind.split_once('.'));
    let (category, action) = kind.expect("its type has two parts");
    let mut command = redis::cmd("XADD");
    command.arg(format!("run:{run}:events")).arg("*");
    command.arg("source_agent_name").arg(agent);
    command.arg("event_category").arg(category).arg("event_action").arg(action);
    command.arg("data").arg(event["data"].to_string());
    match command.query::<String>(connection) {
        Ok(id) => {
            let place = Place { id: id.parse()?, sequence: None };
            Ok(Outcome::Persisted { places: vec![place] })
        }
        Err(e) => match e.code() {
            Some(code) => Ok(Outcome::Refused { code: code.to_owned() }),
            None => Err(e.to_string()),
        },
    }
}
