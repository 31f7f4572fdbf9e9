//! One connection to Redis that heals itself. While it is up, calls go through; while it is down they
//! fail at once, and a task redials with jittered pauses. A call that gets no answer takes the connection
//! down: what was asked may have been done, and a new connection is the only way to know where it stands.
//!
//! What happened to one connection has most likely happened to the others, which cannot know before they are
//! used. So a loss is counted for all links of a store, and each makes itself a new connection before it is
//! used after one.

use super::dial::{Dialer, describe};
use super::scripts::{LuaScript, Scripts};
use crate::store::StoreError;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd, Pipeline, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Pauses between dials: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long the first dial after a loss is waited for: a server that is well answers sooner, and then nothing but
/// one connection was lost.
const REDIAL: Duration = Duration::from_millis(100);

/// What the way to the server may need a second for: so much longer a call may take that brings as much. A large
/// publish would else be sent again and again, and never arrive.
const A_SECONDS_BYTES: usize = 1 << 20;

/// A connection that heals itself. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    shared: Arc<Shared>,
}

/// What links are made with.
#[derive(Clone)]
pub(super) struct Making {
    pub(super) dialer: Dialer,
    pub(super) scripts: Arc<Scripts>,
    /// How long the server may take to answer.
    pub(super) timeout: Duration,
    /// The connections that all links of the store have lost.
    pub(super) losses: Arc<AtomicU64>,
}

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Anything.
    Writes,
    /// What does no harm when it is done twice: sent again, once, when the connection turns out to be gone.
    Reads,
}

struct Shared {
    purpose: Use,
    making: Making,
    state: Mutex<State>,
    down: Notify,
    /// True once the first dial has ended, either way; sent again with each that ends.
    dialled: watch::Sender<bool>,
}

enum State {
    /// `losses` is what was counted when the connection was made.
    Up { generation: u64, connection: MultiplexedConnection, losses: u64 },
    /// A new connection may be about to be made; it is worth to wait for that as long as `patience`.
    Down { generation: u64, reason: String, patience: Duration },
}

impl Link {
    /// A link that is down until its first dial, which starts at once on `runtime`, where the connection then
    /// lives; and the task that keeps it up.
    pub(super) fn start(purpose: Use, making: Making, runtime: &Handle) -> (Self, JoinHandle<()>) {
        let state = State::Down {
            generation: 0,
            reason: "not connected yet".to_owned(),
            patience: Duration::ZERO,
        };
        let shared = Shared {
            purpose,
            making,
            state: Mutex::new(state),
            down: Notify::new(),
            dialled: watch::Sender::new(false),
        };
        let link = Self { shared: Arc::new(shared) };
        let task = runtime.spawn(keep_dialling(Arc::clone(&link.shared)));
        (link, task)
    }

    /// Why the link is down, if it is.
    pub(super) fn trouble(&self) -> Option<String> {
        match &*self.shared.state.lock() {
            State::Up { .. } => None,
            State::Down { reason, .. } => Some(reason.clone()),
        }
    }

    /// Sends commands together; one reply each, in order, where a server's error is a reply too.
    pub(super) async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        if commands.is_empty() {
            // The driver would wait for a reply that never comes.
            return Ok(Vec::new());
        }
        if !*self.shared.dialled.borrow() {
            // At the start nothing is known yet; the dial has a time limit of its own.
            drop(self.shared.dialled.subscribe().wait_for(|dialled| *dialled).await);
        }
        self.renew_after_a_loss().await;
        let bytes: usize = commands.cmd_iter().map(text_bytes).sum();
        let limit =
            self.shared.making.timeout + Duration::from_secs((bytes / A_SECONDS_BYTES) as u64);
        let (mut generation, mut connection) = self.connection(limit)?;
        let mut sent = connection.send_packed_commands(commands, 0, commands.len()).await;
        if self.shared.purpose == Use::Reads
            && let Err(e) = &sent
            && !e.is_timeout()
        {
            // Most likely Redis had closed the connection long ago, which nobody notices before using it.
            let dialled = self.shared.dialled.subscribe();
            self.take_down(generation, describe(e));
            self.wait_for(dialled, self.shared.making.timeout).await;
            (generation, connection) = self.connection(limit)?;
            sent = connection.send_packed_commands(commands, 0, commands.len()).await;
        }
        match sent {
            Ok(replies) => {
                let lost = |reply: &Value| match reply {
                    Value::ServerError(e) => {
                        is_of_the_wrong_server(e.code()).then(|| e.code().to_owned())
                    }
                    _ => None,
                };
                if let Some(code) = replies.iter().find_map(lost) {
                    self.take_down(generation, format!("the server answered {code}"));
                }
                Ok(replies)
            }
            Err(e) => {
                let reason = describe(&e);
                self.take_down(generation, reason.clone());
                Err(StoreError::NoAnswer { reason })
            }
        }
    }

    /// Sees to it that the link is up: one that does not answer is dialled anew.
    pub(super) async fn revive(&self) -> Result<(), StoreError> {
        let dialled = self.shared.dialled.subscribe();
        if self.command(redis::cmd("PING")).await.is_err() {
            self.wait_for(dialled, self.shared.making.timeout).await;
            self.command(redis::cmd("PING")).await?;
        }
        Ok(())
    }

    /// Makes a new connection if any link has lost one since this one was made.
    async fn renew_after_a_loss(&self) {
        let making = &self.shared.making;
        let (dialled, patience) = {
            let mut state = self.shared.state.lock();
            let patience = match &*state {
                State::Down { patience, .. } if patience.is_zero() => return,
                State::Down { patience, .. } => *patience,
                State::Up { generation, losses, .. } => {
                    if *losses == making.losses.load(Ordering::Relaxed) {
                        return;
                    }
                    let (generation, patience) = (*generation, making.timeout);
                    let reason = "another connection was lost".to_owned();
                    *state = State::Down { generation, reason, patience };
                    patience
                }
            };
            (self.shared.dialled.subscribe(), patience)
        };
        self.shared.down.notify_one();
        self.wait_for(dialled, patience).await;
    }

    /// Waits for the end of a dial, either way.
    async fn wait_for(&self, mut dialled: watch::Receiver<bool>, patience: Duration) {
        if self.trouble().is_none() {
            // It is up again already.
            return;
        }
        drop(tokio::time::timeout(patience, dialled.changed()).await);
    }

    /// The connection, for a call that may take so long.
    fn connection(&self, limit: Duration) -> Result<(u64, MultiplexedConnection), StoreError> {
        match &*self.shared.state.lock() {
            State::Up { generation, connection, .. } => {
                let mut connection = connection.clone();
                connection.set_response_timeout(limit);
                Ok((*generation, connection))
            }
            State::Down { reason, .. } => Err(StoreError::Unreachable { reason: reason.clone() }),
        }
    }

    /// Sends one command.
    pub(super) async fn command(&self, command: Cmd) -> Result<Value, StoreError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        let replies = self.pipeline(&commands).await?;
        replies.into_iter().next().map_or_else(|| Err(odd("no reply")), checked)
    }

    /// Runs scripts, one after the other. A server that lost its scripts gets them again, and only what
    /// it did not run is sent again; of each script call that is the whole.
    pub(super) async fn scripts(
        &self,
        script: &LuaScript,
        calls: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let mut commands = Pipeline::with_capacity(calls.len());
        for call in calls {
            commands.add_command(call);
        }
        let replies = self.pipeline(&commands).await?;
        let lost = |reply: &Value| matches!(reply, Value::ServerError(e) if e.code() == "NOSCRIPT");
        let calls = commands.cmd_iter().zip(&replies).enumerate();
        let (missing, calls): (Vec<usize>, Vec<Cmd>) = calls
            .filter(|(_, (_, reply))| lost(reply))
            .map(|(index, (call, _))| (index, call.clone()))
            .unzip();
        let mut replies: Vec<_> = replies.into_iter().map(checked).collect();
        if missing.is_empty() {
            return Ok(replies);
        }
        let mut again = Pipeline::with_capacity(missing.len() + 1);
        again.cmd("SCRIPT").arg("LOAD").arg(&script.code);
        for call in calls {
            again.add_command(call);
        }
        match self.pipeline(&again).await {
            Ok(found) => {
                for (index, reply) in missing.into_iter().zip(found.into_iter().skip(1)) {
                    replies[index] = checked(reply);
                }
            }
            // The others ran.
            Err(e) => missing.into_iter().for_each(|index| replies[index] = Err(e.clone())),
        }
        Ok(replies)
    }

    /// Runs one script.
    pub(super) async fn script(&self, script: &LuaScript, call: Cmd) -> Result<Value, StoreError> {
        let replies = self.scripts(script, vec![call]).await?;
        replies.into_iter().next().unwrap_or_else(|| Err(odd("no reply")))
    }

    fn take_down(&self, generation: u64, reason: String) {
        let mut state = self.shared.state.lock();
        if matches!(&*state, State::Up { generation: g, .. } if *g == generation) {
            log::warn!("lost a connection to Redis ({}): {reason}", self.shared.purpose.name());
            self.shared.making.losses.fetch_add(1, Ordering::Relaxed);
            // Dropping the connection closes it.
            *state = State::Down { generation, reason, patience: REDIAL };
            self.shared.down.notify_one();
        }
    }
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Reads => "reads",
        }
    }
}

impl Shared {
    fn still_down(&self, generation: u64, reason: String) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Down { reason: earlier, .. } if *earlier != reason) {
            log::warn!("cannot connect to Redis ({}): {reason}", self.purpose.name());
        }
        *state = State::Down { generation, reason, patience: Duration::ZERO };
    }
}

/// The bytes of a command's words.
fn text_bytes(command: &Cmd) -> usize {
    let length = |word: Arg<&[u8]>| match word {
        Arg::Simple(word) => word.len(),
        _ => 0,
    };
    command.args_iter().map(length).sum()
}

/// Whether these words come from a server that is not, or no longer, the one to talk to.
fn is_of_the_wrong_server(code: &str) -> bool {
    matches!(code, "READONLY" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS")
}

/// Redials whenever the link is down.
async fn keep_dialling(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let down = match &*shared.state.lock() {
            State::Up { .. } => None,
            State::Down { generation, .. } => Some(*generation),
        };
        let Some(generation) = down else {
            shared.down.notified().await;
            continue;
        };
        let losses = shared.making.losses.load(Ordering::Relaxed);
        match connect(&shared.making).await {
            Ok(connection) => {
                log::info!("connected to Redis ({})", shared.purpose.name());
                let generation = generation + 1;
                *shared.state.lock() = State::Up { generation, connection, losses };
                shared.dialled.send_replace(true);
                pause = FIRST_PAUSE;
            }
            Err(reason) => {
                shared.still_down(generation, reason);
                shared.dialled.send_replace(true);
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Between half and all of the pause, so that hubs do not dial in step.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}

async fn connect(making: &Making) -> Result<MultiplexedConnection, String> {
    let mut connection = making.dialer.dial(making.timeout).await?;
    let mut loads = redis::pipe();
    for script in making.scripts.all() {
        loads.cmd("SCRIPT").arg("LOAD").arg(&script.code);
    }
    let count = loads.len();
    let replies =
        connection.send_packed_commands(&loads, 0, count).await.map_err(|e| describe(&e))?;
    // A server that takes no writes loads no scripts either; reads work all the same, and who needs a script
    // that is not there loads it then.
    let lost =
        |reply: &Value| matches!(reply, Value::ServerError(e) if is_of_the_wrong_server(e.code()));
    match replies.into_iter().find(lost).map(checked) {
        Some(Err(error)) => Err(error.to_string()),
        _ => Ok(connection),
    }
}

/// A reply that is no error. Every error of the server means that nothing was done.
pub(super) fn checked(reply: Value) -> Result<Value, StoreError> {
    match reply {
        Value::ServerError(e) => Err(refusal(e.code(), e.details().unwrap_or_default())),
        reply => Ok(reply),
    }
}

/// What an error of the server says of the store.
pub(super) fn refusal(code: &str, details: &str) -> StoreError {
    let reason = format!("{code} {details}").chars().take(200).collect();
    match code {
        // Plain errors are of what was asked, not of the server: an id that is used up, say.
        "WRONGTYPE" | "ERR" => StoreError::BrokenRun { reason },
        _ => StoreError::Refused { reason },
    }
}

/// Whether the server says that another one has these keys by now, or will have in a moment (Redis Cluster
/// specification, "Redirection and resharding"). Nothing was done.
pub(super) fn is_elsewhere(error: &StoreError) -> bool {
    let StoreError::Refused { reason } = error else { return false };
    ["MOVED ", "ASK ", "TRYAGAIN "].iter().any(|code| reason.starts_with(code))
}

/// Whether the server says that a stream is another's, or that nobody has its slot for now.
pub(super) fn is_not_here(error: &StoreError) -> bool {
    let is_nobodys = |reason: &str| reason.starts_with("CLUSTERDOWN ");
    is_elsewhere(error) || matches!(error, StoreError::Refused { reason } if is_nobodys(reason))
}

/// A reply of another shape than was asked for.
pub(super) fn odd(what: &str) -> StoreError {
    StoreError::Refused { reason: format!("an answer of unexpected shape: {what}") }
}
