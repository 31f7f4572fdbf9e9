//! One link a thread: a connection that lives on the thread which uses it costs no other thread's waking, to
//! send or to answer. A thread that ends takes its connection with it; one that is stuck holds up only its
//! own.

use super::link::{Link, Making, Use};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::thread::{self, ThreadId};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

/// The links of all threads for one use.
pub(super) struct Links {
    purpose: Use,
    making: Making,
    /// Where connections live that are no single thread's.
    elsewhere: Handle,
    /// By thread; that of all others last.
    links: Mutex<HashMap<Option<ThreadId>, KeptUp>>,
}

/// A link, and the task that keeps it up.
type KeptUp = (Link, JoinHandle<()>);

impl Links {
    pub(super) fn new(purpose: Use, making: Making, elsewhere: Handle) -> Self {
        Self { purpose, making, elsewhere, links: Mutex::default() }
    }

    /// This thread's link; made with the first call. Threads without a runtime of their own share one.
    pub(super) fn here(&self) -> Link {
        let mut links = self.links.lock();
        let (key, runtime) = match own_runtime() {
            Some(runtime) => (Some(thread::current().id()), runtime),
            None => (None, self.elsewhere.clone()),
        };
        if let Some((link, task)) = links.get(&key)
            && !task.is_finished()
        {
            return link.clone();
        }
        links.retain(|_, (_, task)| !task.is_finished());
        let (link, task) = Link::start(self.purpose, self.making.clone(), &runtime);
        links.insert(key, (link.clone(), task));
        link
    }
}

/// The runtime that lives on this thread alone, and ends with it.
pub(super) fn own_runtime() -> Option<Handle> {
    let own = |handle: &Handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread;
    Handle::try_current().ok().filter(own)
}

impl Drop for Links {
    fn drop(&mut self) {
        self.links.lock().values().for_each(|(_, task)| task.abort());
    }
}
