//! How far followed streams go: asked of those that may have been deleted or rolled back, and of all where job
//! streams are served.

use super::ask::send_all;
use super::link::{checked, is_not_here};
use super::reader::Reader;
use super::readers::Tools;
use super::reply;
use super::roster::Wanted;
use super::streams::Streams;
use crate::event::{EventId, RunId};
use crate::store::StoreError;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};

/// Streams looked at in one call.
pub(super) const STREAMS_A_CHECK: usize = 64;

impl Reader {
    /// Compares where followers stand with their streams' heads.
    pub(super) async fn check_heads(
        &self,
        connection: &mut MultiplexedConnection,
        followed: Vec<(u64, Wanted)>,
        tools: &Tools,
    ) -> Result<(), StoreError> {
        if followed.is_empty() {
            return Ok(());
        }
        // In a cluster one call may only name keys that are kept together.
        let at_once = if tools.moved.is_some() { 1 } else { STREAMS_A_CHECK };
        let (mut unsure, jobs) = (Vec::new(), tools.streams.serves_jobs());
        let calls: Vec<&[(u64, Wanted)]> = followed.chunks(at_once).collect();
        for (followed, heads) in calls.iter().zip(heads(connection, &calls, tools).await?) {
            let heads = match heads.and_then(reply::items) {
                Err(error) if is_not_here(&error) => {
                    let mut roster = self.roster.lock();
                    followed.iter().for_each(|(_, wanted)| roster.is_broken(&wanted.key.name));
                    continue;
                }
                heads => heads?,
            };
            for ((number, wanted), head) in followed.iter().zip(heads) {
                let head = EventId::parse(reply::text(&head)?).ok();
                self.roster.lock().head(*number, wanted.after, head.unwrap_or(EventId::START));
                if jobs && (wanted.key.is_jobs || head.is_none()) {
                    unsure.push((*number, wanted.run.clone()));
                }
            }
        }
        self.change_streams(unsure, &tools.streams).await;
        Ok(())
    }

    /// Finds those of the runs that have another stream by now.
    async fn change_streams(&self, runs: Vec<(u64, RunId)>, streams: &Streams) {
        let (numbers, runs): (Vec<u64>, Vec<RunId>) = runs.into_iter().unzip();
        if runs.is_empty() {
            return;
        }
        // Looked for on a connection of its own, whose troubles are not this one's.
        let Ok(found) = streams.look_for(&runs).await else { return };
        let mut roster = self.roster.lock();
        for (number, key) in numbers.into_iter().zip(found) {
            roster.follows(number, key);
        }
    }
}

/// How far the streams go; an answer for each call.
async fn heads(
    connection: &mut MultiplexedConnection,
    calls: &[&[(u64, Wanted)]],
    tools: &Tools,
) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
    let script = &tools.making.scripts.heads;
    let mut ask = async |verb: &str, body: &str| {
        let mut commands = Pipeline::with_capacity(calls.len());
        for followed in calls {
            let call = commands.cmd(verb).arg(body).arg(followed.len());
            for (_, Wanted { key, .. }) in *followed {
                call.arg(&key.name);
            }
            for (_, Wanted { after, .. }) in *followed {
                call.arg(after.to_string());
            }
        }
        send_all(connection, &commands, tools.making.timeout).await
    };
    let mut replies = ask("EVALSHA", &script.hash).await?;
    let lost = |reply: &Value| matches!(reply, Value::ServerError(e) if e.code() == "NOSCRIPT");
    if replies.iter().any(lost) {
        replies = ask("EVAL", &script.code).await?;
    }
    Ok(replies.into_iter().map(checked).collect())
}
