//! Finding out who has which slots: the servers known are asked all at once, and what most of them say counts. One that
//! was cut off from the others may not know better than what was.

use super::slots::SlotMap;
use crate::store::StoreError;
use crate::store::redis::dial::{answered, connect, describe};
use crate::store::redis::server::Server;
use futures::stream::{FuturesUnordered, StreamExt};
use redis::{AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, Value};
use std::collections::HashMap;
use std::time::Duration;

/// What a survey came to so far.
#[derive(Default)]
pub(super) struct Survey {
    votes: HashMap<SlotMap, usize>,
    /// What was met where there was no answer, for operators; without secrets.
    pub(super) troubles: Vec<String>,
}

impl Survey {
    /// Takes answers until more than half of those who are asked agree, or all have answered.
    pub(super) async fn take(
        &mut self,
        asked: impl IntoIterator<Item = impl Future<Output = Result<SlotMap, String>>>,
    ) {
        let mut asked: FuturesUnordered<_> = asked.into_iter().collect();
        let most = asked.len() / 2;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(slots) if slots.servers().is_empty() => {
                    self.troubles.push("a server knows of none that has slots".to_owned());
                }
                Ok(slots) => {
                    let votes = self.votes.entry(slots).or_default();
                    *votes += 1;
                    if *votes > most {
                        return;
                    }
                }
                Err(trouble) => self.troubles.push(trouble),
            }
        }
    }

    /// What most of those said who answered.
    pub(super) fn result(&self) -> Option<&SlotMap> {
        self.votes.iter().max_by_key(|(slots, votes)| (**votes, *slots)).map(|(slots, _)| slots)
    }
}

/// Asks a server that is known.
pub(super) async fn ask(host: &str, server: &Server) -> Result<SlotMap, String> {
    let asked = async { SlotMap::parse(server.inner.reads.command(question()).await?, host) };
    asked.await.map_err(|error: StoreError| error.to_string())
}

/// Asks a server that the URL names, which may be a replica, within this time.
pub(super) async fn ask_at(info: ConnectionInfo, limit: Duration) -> Result<SlotMap, String> {
    let place = info.addr().to_string();
    let host = match info.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(limit));
    let asked = async {
        let mut connection = connect(info, &config).await?;
        let answer = connection.send_packed_command(&question()).await.map_err(|e| describe(&e))?;
        if let Value::ServerError(error) = &answer {
            return Err(answered(error));
        }
        SlotMap::parse(answer, &host).map_err(|e| e.to_string())
    };
    asked.await.map_err(|reason| format!("{place}: {reason}"))
}

fn question() -> Cmd {
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    question
}
