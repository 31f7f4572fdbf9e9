//! The thread that owns the database: takes commands, commits what has gathered together, and opens the
//! database anew after a failure.

use super::super::appended::Appended;
use super::super::followers::Followers;
use super::super::{
    Page, RangeRequest, RunAppend, RunState, RunsCursor, RunsPage, StoreError, now_ms,
};
use super::engine::{Engine, Settings};
use super::inbox::Inbox;
use crate::config::Sync;
use crate::event::{RunId, RunStatus};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;
/// What became of each append.
type AppendReply = Reply<Vec<Appended>>;

/// What the worker can be asked.
pub(super) enum Command {
    Append(Vec<RunAppend>, AppendReply),
    Range(RunId, RangeRequest, Reply<Page>),
    Run(RunId, Reply<RunState>),
    Runs {
        after: Option<RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
        reply: Reply<RunsPage>,
    },
    SetExpiry(RunId, Duration, Reply<RunState>),
    Delete(RunId, Reply<bool>),
    Probe(Reply<()>),
    Sweep(Reply<()>),
}

/// How long the disk may lag behind with `sync = "everysec"`.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// From here on a call is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);
/// How long to wait before the database is opened again after a failure.
const REOPEN_AFTER: Duration = Duration::from_millis(250);

pub(super) struct Worker {
    settings: Settings,
    inbox: Inbox,
    engine: Option<Engine>,
    reopen_at: Instant,
    followers: Arc<Followers>,
    trouble: Arc<Mutex<Option<String>>>,
    /// Since when committed events wait for a sync.
    unsynced: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        settings: Settings,
        inbox: Receiver<Command>,
        engine: Engine,
        followers: Arc<Followers>,
        trouble: Arc<Mutex<Option<String>>>,
    ) -> Self {
        let reopen_at = Instant::now();
        let inbox = Inbox::new(inbox);
        Self {
            settings,
            inbox,
            engine: Some(engine),
            reopen_at,
            followers,
            trouble,
            unsynced: None,
        }
    }

    /// Works until nobody can send commands any more.
    pub(super) fn work(mut self) {
        loop {
            let until_sync = |since: Instant| SYNC_EVERY.saturating_sub(since.elapsed());
            match self.inbox.next(self.unsynced.map(until_sync)) {
                Ok(commands) => self.handle(commands),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= SYNC_EVERY) {
                self.sync();
            }
        }
        self.sync();
    }

    /// Commits the appends first, together; then the rest in order. A reader sees what was acknowledged
    /// before it asked either way.
    fn handle(&mut self, commands: Vec<Command>) {
        let (mut appends, mut rest) = (Vec::new(), Vec::new());
        for command in commands {
            match command {
                Command::Append(runs, reply) => appends.push((runs, reply)),
                other => rest.push(other),
            }
        }
        if !appends.is_empty() {
            self.append(appends);
        }
        for command in rest {
            self.answer(command);
        }
    }

    fn append(&mut self, appends: Vec<(Vec<RunAppend>, AppendReply)>) {
        let counts: Vec<usize> = appends.iter().map(|(runs, _)| runs.len()).collect();
        let (runs, replies): (Vec<_>, Vec<_>) = appends.into_iter().unzip();
        let runs: Vec<RunAppend> = runs.into_iter().flatten().collect();
        let began = Instant::now();
        match self.with(|engine| engine.append(&runs, now_ms())) {
            Ok(done) => {
                self.inbox.committed(replies.len(), began.elapsed());
                self.written();
                let (mut runs, mut done) = (runs.as_slice(), done.into_iter());
                for (count, reply) in counts.into_iter().zip(replies) {
                    let (its_runs, others) = runs.split_at(count);
                    runs = others;
                    // Whoever asked tells the followers; if nobody waits any more, what was appended is appended.
                    if let Err(Ok(done)) = reply.send(Ok(done.by_ref().take(count).collect())) {
                        self.followers.tell_all(its_runs, &done);
                    }
                }
            }
            Err(error) => {
                for reply in replies {
                    drop(reply.send(Err(error.clone())));
                }
            }
        }
    }

    fn answer(&mut self, command: Command) {
        let now = now_ms();
        match command {
            Command::Append(runs, reply) => self.append(vec![(runs, reply)]),
            Command::Range(run, request, reply) => {
                drop(reply.send(self.with(|engine| engine.range(&run, request, now))));
            }
            Command::Run(run, reply) => {
                drop(reply.send(self.with(|engine| Ok(engine.run(&run, now)))));
            }
            Command::Runs { after, limit, status, reply } => {
                let page = self.with(|engine| Ok(engine.runs(after.as_ref(), limit, status, now)));
                drop(reply.send(page));
            }
            Command::SetExpiry(run, after, reply) => {
                drop(reply.send(self.with(|engine| engine.set_expiry(&run, after, now))));
                self.written();
            }
            Command::Delete(run, reply) => {
                drop(reply.send(self.with(|engine| engine.delete(&run, now))));
                // Its tails are not woken: they find out in a moment, after the hub has told its readers why.
                self.written();
            }
            Command::Probe(reply) => {
                let probed = self.with(|engine| engine.probe(now)).and_then(|same| {
                    let reason = "the probe read back something else".to_owned();
                    if same { Ok(()) } else { Err(StoreError::Refused { reason }) }
                });
                drop(reply.send(probed));
            }
            Command::Sweep(reply) => drop(reply.send(self.with(|engine| engine.sweep(now)))),
        }
    }

    /// Something was committed that the disk is to be told of within a second.
    fn written(&mut self) {
        if self.settings.config.sync == Sync::Everysec {
            self.unsynced.get_or_insert_with(Instant::now);
        }
    }

    fn sync(&mut self) {
        self.unsynced = None;
        if self.engine.is_some() {
            drop(self.with(|engine| engine.sync()));
        }
    }

    /// Uses the database, opening it first where it is closed. After a failure it is closed: what is in
    /// memory, and what the database believes to be on the disk, may both be wrong.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> fjall::Result<T>,
    ) -> Result<T, StoreError> {
        let engine = match &mut self.engine {
            Some(engine) => engine,
            closed => {
                if Instant::now() < self.reopen_at {
                    let reason = self.trouble.lock().clone().unwrap_or_default();
                    return Err(StoreError::Unreachable { reason });
                }
                self.reopen_at = Instant::now() + REOPEN_AFTER;
                match Engine::open(&self.settings) {
                    Ok(engine) => {
                        log::warn!("the embedded store is open again");
                        *self.trouble.lock() = None;
                        closed.insert(engine)
                    }
                    Err(e) => {
                        let reason = format!("cannot reopen the embedded store: {e}");
                        *self.trouble.lock() = Some(reason.clone());
                        return Err(StoreError::Unreachable { reason });
                    }
                }
            }
        };
        let began = Instant::now();
        let done = work(engine);
        let took = began.elapsed();
        if took >= SLOW {
            log::warn!("the embedded store was held up for {took:?}, by its disk most likely");
        }
        done.map_err(|e| {
            log::error!("the embedded store failed and is reopened: {e}");
            let reason = e.to_string();
            *self.trouble.lock() = Some(reason.clone());
            self.engine = None;
            self.reopen_at = Instant::now() + REOPEN_AFTER;
            StoreError::NoAnswer { reason }
        })
    }
}
