//! One connection to Redis that heals itself. While it is up, calls go through; while it is down they
//! fail at once, and a task redials with jittered pauses. A call that gets no answer takes the connection
//! down: what was asked may have been done, and a new connection is the only way to know where it stands.

use super::dial::{Dialer, describe};
use super::scripts::{LuaScript, Scripts};
use crate::store::StoreError;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

/// Pauses between dials: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A connection that heals itself. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    dialer: Dialer,
    scripts: Arc<Scripts>,
    timeout: Duration,
    /// Whether what is sent may be sent again, once, when the connection turns out to be gone.
    repeats: bool,
    state: Mutex<State>,
    down: Notify,
    /// True once the first dial has ended, either way; sent again with each that ends.
    dialled: watch::Sender<bool>,
}

enum State {
    Up { generation: u64, connection: MultiplexedConnection },
    Down { generation: u64, reason: String },
}

impl Link {
    /// A link that is down until its first dial, which starts at once on `runtime`. One that `repeats` must
    /// be used for nothing that does harm when it is done twice.
    pub(super) fn start(
        name: &'static str,
        dialer: Dialer,
        scripts: Arc<Scripts>,
        timeout: Duration,
        repeats: bool,
        runtime: &Handle,
    ) -> Self {
        let state = State::Down { generation: 0, reason: "not connected yet".to_owned() };
        let shared = Shared {
            name,
            dialer,
            scripts,
            timeout,
            repeats,
            state: Mutex::new(state),
            down: Notify::new(),
            dialled: watch::Sender::new(false),
        };
        let link = Self { shared: Arc::new(shared) };
        // Ends when the runtime does, with the store.
        runtime.spawn(keep_dialling(Arc::clone(&link.shared)));
        link
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
        let (mut generation, mut connection) = self.connection()?;
        let mut sent = connection.send_packed_commands(commands, 0, commands.len()).await;
        if self.shared.repeats
            && let Err(e) = &sent
            && !e.is_timeout()
        {
            // Most likely Redis had closed the connection long ago, which nobody notices before using it.
            let dialled = self.shared.dialled.subscribe();
            self.take_down(generation, describe(e));
            self.wait_for(dialled).await;
            (generation, connection) = self.connection()?;
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
            self.wait_for(dialled).await;
            self.command(redis::cmd("PING")).await?;
        }
        Ok(())
    }

    /// Waits for the end of a dial, either way.
    async fn wait_for(&self, mut dialled: watch::Receiver<bool>) {
        if self.trouble().is_none() {
            // It is up again already.
            return;
        }
        drop(tokio::time::timeout(self.shared.timeout, dialled.changed()).await);
    }

    fn connection(&self) -> Result<(u64, MultiplexedConnection), StoreError> {
        match &*self.shared.state.lock() {
            State::Up { generation, connection } => Ok((*generation, connection.clone())),
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
        for call in &calls {
            commands.add_command(call.clone());
        }
        let replies = self.pipeline(&commands).await?;
        let lost = |reply: &Value| matches!(reply, Value::ServerError(e) if e.code() == "NOSCRIPT");
        let missing: Vec<usize> = (0..replies.len()).filter(|i| lost(&replies[*i])).collect();
        let mut replies: Vec<_> = replies.into_iter().map(checked).collect();
        if missing.is_empty() {
            return Ok(replies);
        }
        let mut again = Pipeline::with_capacity(missing.len() + 1);
        again.cmd("SCRIPT").arg("LOAD").arg(&script.code);
        for index in &missing {
            again.add_command(calls[*index].clone());
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
            log::warn!("lost the {} connection to Redis: {reason}", self.shared.name);
            // Dropping the connection closes it.
            *state = State::Down { generation, reason };
            self.shared.down.notify_one();
        }
    }
}

impl Shared {
    fn still_down(&self, generation: u64, reason: String) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Down { reason: earlier, .. } if *earlier != reason) {
            log::warn!("cannot connect to Redis ({}): {reason}", self.name);
        }
        *state = State::Down { generation, reason };
    }
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
        match connect(&shared).await {
            Ok(connection) => {
                log::info!("connected to Redis ({})", shared.name);
                let generation = generation + 1;
                *shared.state.lock() = State::Up { generation, connection };
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

async fn connect(shared: &Shared) -> Result<MultiplexedConnection, String> {
    let mut connection = shared.dialer.dial(shared.timeout).await?;
    let mut loads = redis::pipe();
    for script in shared.scripts.all() {
        loads.cmd("SCRIPT").arg("LOAD").arg(&script.code);
    }
    let count = loads.len();
    let replies =
        connection.send_packed_commands(&loads, 0, count).await.map_err(|e| describe(&e))?;
    match replies.into_iter().find_map(|reply| checked(reply).err()) {
        Some(error) => Err(error.to_string()),
        None => Ok(connection),
    }
}

/// A reply that is no error. Every error of the server means that nothing was done.
pub(super) fn checked(reply: Value) -> Result<Value, StoreError> {
    match reply {
        Value::ServerError(e) => {
            let reason = format!("{} {}", e.code(), e.details().unwrap_or_default());
            let reason = reason.chars().take(200).collect();
            Err(match e.code() {
                // Plain errors are of what was asked, not of the server: an id that is used up, say.
                "WRONGTYPE" | "ERR" => StoreError::BrokenRun { reason },
                _ => StoreError::Refused { reason },
            })
        }
        reply => Ok(reply),
    }
}

/// A reply of another shape than was asked for.
pub(super) fn odd(what: &str) -> StoreError {
    StoreError::Refused { reason: format!("an answer of unexpected shape: {what}") }
}
