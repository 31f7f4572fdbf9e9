//! Questions on a connection that only one task uses, each with a time limit.

use super::dial::describe;
use crate::store::StoreError;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use std::time::Duration;
use tokio::time::timeout;

/// Sends a command. The driver's own time limit runs on the wall; this one is ours and monotonic.
pub(super) async fn send(
    connection: &mut MultiplexedConnection,
    command: &redis::Cmd,
    limit: Duration,
) -> Result<Value, StoreError> {
    let sent = timeout(limit, connection.send_packed_command(command));
    sent.await.map_err(|_| late())?.map_err(|e| no_answer(&e))
}

/// Sends commands together, of which there are some; one reply each, in order.
pub(super) async fn send_all(
    connection: &mut MultiplexedConnection,
    commands: &Pipeline,
    limit: Duration,
) -> Result<Vec<Value>, StoreError> {
    let sent = timeout(limit, connection.send_packed_commands(commands, 0, commands.len()));
    sent.await.map_err(|_| late())?.map_err(|e| no_answer(&e))
}

fn late() -> StoreError {
    StoreError::NoAnswer { reason: "no reply in time".into() }
}

/// A call that the driver could not bring to an answer.
fn no_answer(error: &redis::RedisError) -> StoreError {
    StoreError::NoAnswer { reason: describe(error) }
}
