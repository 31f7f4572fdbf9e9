//! One link a thread: a connection that lives on the thread which uses it costs no other thread's waking, to
//! send or to answer.

use super::link::{Link, Making, Use};
use super::per_thread::PerThread;
use tokio::runtime::Handle;

/// The links of all threads for one use.
pub(super) struct Links {
    purpose: Use,
    making: Making,
    links: PerThread<Link>,
}

impl Links {
    pub(super) fn new(purpose: Use, making: Making, elsewhere: Handle) -> Self {
        Self { purpose, making, links: PerThread::new(usize::MAX, elsewhere) }
    }

    /// This thread's link.
    pub(super) fn here(&self) -> Link {
        self.links.here(|runtime| Link::start(self.purpose, self.making.clone(), runtime))
    }
}
