//! Things that live on the thread which uses them, each with a task of its own there. A thread that ends takes its
//! own with it; one that is stuck holds up only its own.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::thread::{self, ThreadId};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

/// A thing with the task that keeps it going.
type Kept<T> = (T, JoinHandle<()>);

/// One thing a thread, and one for all threads that have no runtime of their own.
pub(super) struct PerThread<T> {
    most: usize,
    /// Where the one for all others lives.
    elsewhere: Handle,
    kept: Mutex<HashMap<Option<ThreadId>, Kept<T>>>,
}

impl<T: Clone> PerThread<T> {
    /// With `most` of them, further threads share the one for all others.
    pub(super) fn new(most: usize, elsewhere: Handle) -> Self {
        Self { most, elsewhere, kept: Mutex::default() }
    }

    /// This thread's own, if it was made and still goes.
    pub(super) fn own(&self) -> Option<T> {
        let kept = self.kept.lock();
        let (thing, task) = kept.get(&Some(thread::current().id()))?;
        (!task.is_finished()).then(|| thing.clone())
    }

    /// The one to use on this thread; made on its runtime with the first call.
    pub(super) fn here(&self, make: impl FnOnce(&Handle) -> Kept<T>) -> T {
        if let Some(own) = self.own() {
            return own;
        }
        let mut kept = self.kept.lock();
        kept.retain(|_, (_, task)| !task.is_finished());
        let (key, runtime) = match own_runtime().filter(|_| kept.len() < self.most) {
            Some(runtime) => (Some(thread::current().id()), runtime),
            None => (None, self.elsewhere.clone()),
        };
        kept.entry(key).or_insert_with(|| make(&runtime)).0.clone()
    }
}

/// The runtime that lives on this thread alone, and ends with it.
fn own_runtime() -> Option<Handle> {
    let own = |handle: &Handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread;
    Handle::try_current().ok().filter(own)
}

impl<T> Drop for PerThread<T> {
    fn drop(&mut self) {
        self.kept.lock().values().for_each(|(_, task)| task.abort());
    }
}
