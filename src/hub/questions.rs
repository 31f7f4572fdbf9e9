//! A question asked once for all who have it at the same time: after a lost connection a whole crowd asks how
//! one run stands.
//!
//! An answer must not be older than its question: who has just been told that an event is stored is not to
//! hear of the run without it. So nobody joins a question that has been put already. Those who come while
//! it is under way share the next one.

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

type Answering<A> = Shared<BoxFuture<'static, A>>;

/// The questions about each key that wait, or are under way.
pub(super) struct Questions<K, A>(Arc<Mutex<State<K, A>>>);

struct State<K, A> {
    next: u64,
    /// The latest question about each key.
    latest: HashMap<K, Question<A>>,
}

struct Question<A> {
    number: u64,
    /// Whether it has been put, so that nobody may join any more.
    put: bool,
    answering: Answering<A>,
}

impl<K, A> Default for Questions<K, A> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { next: 0, latest: HashMap::new() })))
    }
}

impl<K, A> Questions<K, A>
where
    K: Clone + Eq + Hash + Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    /// An answer to what `put` asks, asked after this call.
    pub(super) async fn ask(
        &self,
        key: K,
        put: impl FnOnce() -> BoxFuture<'static, A> + Send + 'static,
    ) -> A {
        let (answering, first) = self.join(key, put);
        let answer = answering.await;
        drop(first);
        answer
    }

    /// The question to wait for; whoever is its first gets what ends it.
    fn join(
        &self,
        key: K,
        put: impl FnOnce() -> BoxFuture<'static, A> + Send + 'static,
    ) -> (Answering<A>, Option<First<K, A>>) {
        let mut state = self.0.lock();
        let before = match state.latest.get(&key) {
            Some(latest) if !latest.put => return (latest.answering.clone(), None),
            Some(latest) => Some(latest.answering.clone()),
            None => None,
        };
        state.next += 1;
        let number = state.next;
        let first = First { questions: Arc::clone(&self.0), key: key.clone(), number };
        let (questions, of) = (Arc::clone(&self.0), key.clone());
        let answering = async move {
            if let Some(before) = before {
                drop(before.await);
            }
            if let Some(question) = questions.lock().get(&of, number) {
                question.put = true;
            }
            put().await
        };
        let answering = answering.boxed().shared();
        let question = Question { number, put: false, answering: answering.clone() };
        state.latest.insert(key, question);
        (answering, Some(first))
    }
}

impl<K: Eq + Hash, A> State<K, A> {
    fn get(&mut self, key: &K, number: u64) -> Option<&mut Question<A>> {
        self.latest.get_mut(key).filter(|question| question.number == number)
    }
}

/// Whoever asked first. When it has its answer, or goes away, nobody joins any more; those who wait still
/// get theirs.
struct First<K: Eq + Hash, A> {
    questions: Arc<Mutex<State<K, A>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, A> Drop for First<K, A> {
    fn drop(&mut self) {
        let mut state = self.questions.lock();
        if state.get(&self.key, self.number).is_some() {
            state.latest.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::oneshot;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// What a question answers once it is told to.
    fn told() -> (oneshot::Sender<u32>, impl FnOnce() -> BoxFuture<'static, u32> + Send) {
        let (tell, told) = oneshot::channel();
        (tell, move || told.map(|answer| answer.unwrap_or(0)).boxed())
    }

    fn never() -> BoxFuture<'static, u32> {
        panic!("it shares a question that was not put yet")
    }

    #[test]
    fn nobody_joins_a_question_that_was_put_already() {
        let questions = Questions::default();
        let ((tell_first, first), (tell_second, second)) = (told(), told());
        let mut first = pin!(questions.ask("a", first));
        assert!(poll(first.as_mut()).is_pending());
        let mut later = pin!(questions.ask("a", second));
        let mut shares = pin!(questions.ask("a", never));
        assert!(poll(later.as_mut()).is_pending() && poll(shares.as_mut()).is_pending());
        let (tell_other, other) = told();
        let mut other = pin!(questions.ask("b", other));
        assert!(poll(other.as_mut()).is_pending());
        tell_other.send(9).unwrap();
        assert_eq!(poll(other.as_mut()), Poll::Ready(9), "another key waits for nobody");
        tell_first.send(1).unwrap();
        assert!(poll(shares.as_mut()).is_pending());
        assert_eq!(poll(first.as_mut()), Poll::Ready(1));
        tell_second.send(2).unwrap();
        assert_eq!(poll(shares.as_mut()), Poll::Ready(2));
        assert_eq!(poll(later.as_mut()), Poll::Ready(2));
        assert!(questions.0.lock().latest.is_empty());
    }

    #[test]
    fn one_who_goes_away_leaves_the_others_their_answer() {
        let questions = Questions::default();
        let (tell, asked) = told();
        let mut shares = {
            let mut first = Box::pin(questions.ask("a", asked));
            assert!(poll(first.as_mut()).is_pending());
            let (_, second) = told();
            let mut second = Box::pin(questions.ask("a", second));
            assert!(poll(second.as_mut()).is_pending());
            let mut shares = Box::pin(questions.ask("a", never));
            assert!(poll(shares.as_mut()).is_pending());
            shares
        };
        tell.send(1).unwrap();
        assert_eq!(poll(shares.as_mut()), Poll::Ready(0));
        assert!(questions.0.lock().latest.is_empty());
    }
}
