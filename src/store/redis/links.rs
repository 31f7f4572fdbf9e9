//! One link a thread: a connection that lives on the thread which uses it costs no other thread's waking, to
//! send or to answer. A thread that ends takes its connection with it; one that is stuck holds up only its
//! own.

use super::link::{Link, Making, Use};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::thread::{self, ThreadId};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// The links of all threads for one use.
pub(super) struct Links {
    purpose: Use,
    making: Making,
    /// Where connections live that are asked for outside of any runtime.
    elsewhere: Handle,
    links: Mutex<HashMap<ThreadId, (Link, JoinHandle<()>)>>,
}

impl Links {
    pub(super) fn new(purpose: Use, making: Making, elsewhere: Handle) -> Self {
        Self { purpose, making, elsewhere, links: Mutex::default() }
    }

    /// This thread's link; made with the first call.
    pub(super) fn here(&self) -> Link {
        let (mut links, here) = (self.links.lock(), thread::current().id());
        if let Some((link, task)) = links.get(&here)
            && !task.is_finished()
        {
            return link.clone();
        }
        links.retain(|_, (_, task)| !task.is_finished());
        let runtime = Handle::try_current().unwrap_or_else(|_| self.elsewhere.clone());
        let (link, task) = Link::start(self.purpose, self.making.clone(), &runtime);
        links.insert(here, (link.clone(), task));
        link
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.links.lock().values().for_each(|(_, task)| task.abort());
    }
}
