//! The embedded store: durable on disk through `fjall`, nothing else to install.
//!
//! One thread owns the database ([`worker`]); everybody else sends it commands. Whatever has gathered
//! while it was busy is committed together, with one sync of the disk. After a failed write or sync the
//! database is closed and opened again from what is on the disk, never trusted further.

mod codec;
mod engine;
mod inbox;
mod keys;
mod worker;

use super::follow::follow;
use super::followers::Followers;
use super::{
    Answer, LogStore, Page, PublishOutcome, RangeRequest, RunAppend, RunState, RunsCursor,
    RunsPage, StoreError, StoreRules, StoreStatus, Tail,
};
use crate::config::EmbeddedConfig;
use crate::event::{EventId, RunId, RunStatus};
use engine::Engine;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use worker::Command;

/// How long a call may take. A disk that stalls holds up the thread, not whoever asks it.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// The data folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data folder {path} is in use by another hub; stop it or choose another with --data-dir", path = .0.display())]
    InUse(PathBuf),
    /// It cannot be made or read.
    #[error("cannot open the data folder {path}: {reason}", path = path.display())]
    Failed {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The embedded store. Clones share it; the last one to go closes it.
#[derive(Debug, Clone)]
pub struct EmbeddedStore {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    commands: Mutex<Option<Sender<Command>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
    followers: Arc<Followers>,
    path: PathBuf,
    trouble: Arc<Mutex<Option<String>>>,
}

impl EmbeddedStore {
    /// Opens or makes the store in a folder.
    pub fn open(
        path: &Path,
        rules: StoreRules,
        config: &EmbeddedConfig,
    ) -> Result<Self, OpenError> {
        let failed = |reason: String| OpenError::Failed { path: path.into(), reason };
        make_private_folder(path).map_err(|e| failed(e.to_string()))?;
        let settings = engine::Settings { path: path.join("store"), rules, config: config.clone() };
        let engine = Engine::open(&settings).map_err(|e| match e {
            fjall::Error::Locked => OpenError::InUse(path.into()),
            other => failed(other.to_string()),
        })?;
        let (followers, trouble) = (Arc::new(Followers::default()), Arc::new(Mutex::new(None)));
        let (commands, inbox) = std::sync::mpsc::channel();
        let worker = worker::Worker::new(
            settings,
            inbox,
            engine,
            Arc::clone(&followers),
            Arc::clone(&trouble),
        );
        let worker = std::thread::Builder::new()
            .name("runhub-store".to_owned())
            .spawn(move || worker.work())
            .map_err(|e| failed(e.to_string()))?;
        let handle = Handle {
            commands: Mutex::new(Some(commands)),
            worker: Mutex::new(Some(worker)),
            followers,
            path: path.into(),
            trouble,
        };
        Ok(Self { handle: Arc::new(handle) })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::NoAnswer { reason: "the store's thread has ended".to_owned() };
        let sent = self.handle.commands.lock().as_ref().map(|c| c.send(command(reply)));
        match sent {
            Some(Ok(())) => match tokio::time::timeout(ANSWER_LIMIT, answer).await {
                Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
                Err(_) => {
                    Err(StoreError::NoAnswer { reason: "its disk does not answer".to_owned() })
                }
            },
            _ => Err(gone()),
        }
    }
}

/// Makes the folder so that only its owner can read it; one that is there keeps its rights.
fn make_private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Without a sender the worker ends after what it was sent, and closes the database.
        drop(self.commands.lock().take());
        if let Some(worker) = self.worker.lock().take()
            && worker.join().is_err()
        {
            log::error!("the embedded store's thread panicked");
        }
    }
}

impl LogStore for EmbeddedStore {
    fn append<'a>(
        &'a self,
        appends: &'a [RunAppend],
    ) -> BoxFuture<'a, Vec<Result<Vec<PublishOutcome>, StoreError>>> {
        Box::pin(async move {
            let sent = appends.to_vec();
            match self.ask(|reply| Command::Append(sent, reply)).await {
                Ok(done) => {
                    // Here, because who follows a run is mostly on the thread of whoever appends to it.
                    self.handle.followers.tell_all(appends, &done);
                    done.into_iter().map(|appended| Ok(appended.outcomes)).collect()
                }
                Err(e) => vec![Err(e); appends.len()],
            }
        })
    }

    fn range<'a>(&'a self, run: &'a RunId, request: RangeRequest) -> Answer<'a, Page> {
        Box::pin(self.ask(move |reply| Command::Range(run.clone(), request, reply)))
    }

    fn run<'a>(&'a self, run: &'a RunId) -> Answer<'a, RunState> {
        Box::pin(self.ask(move |reply| Command::Run(run.clone(), reply)))
    }

    fn runs<'a>(
        &'a self,
        after: Option<&'a RunsCursor>,
        limit: usize,
        status: Option<RunStatus>,
    ) -> Answer<'a, RunsPage> {
        let after = after.cloned();
        Box::pin(self.ask(move |reply| Command::Runs { after, limit, status, reply }))
    }

    fn set_expiry<'a>(&'a self, run: &'a RunId, after: Duration) -> Answer<'a, RunState> {
        Box::pin(self.ask(move |reply| Command::SetExpiry(run.clone(), after, reply)))
    }

    fn delete<'a>(&'a self, run: &'a RunId) -> Answer<'a, bool> {
        Box::pin(self.ask(move |reply| Command::Delete(run.clone(), reply)))
    }

    fn tail(&self, run: &RunId, after: EventId) -> Tail {
        follow(self.clone(), &self.handle.followers, run, after)
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(self.ask(Command::Probe))
    }

    fn sweep(&self) -> Answer<'_, ()> {
        Box::pin(self.ask(Command::Sweep))
    }

    fn status(&self) -> StoreStatus {
        let (place, trouble) =
            (self.handle.path.display().to_string(), self.handle.trouble.lock().clone());
        StoreStatus { kind: "embedded", place, trouble }
    }
}
