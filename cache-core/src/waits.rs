//! Which load waits for which other, so that loads that wait for each other get an error instead.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

tokio::task_local! {
    /// The load that the current task is in the middle of.
    static CURRENT: Arc<Node>;
}

/// A load in the graph.
#[derive(Default)]
pub(crate) struct Node {
    waits_for: Mutex<Vec<Arc<Self>>>,
}

impl Node {
    /// Runs a load as this node: everything it waits for is noted here. What the load spawns as a
    /// task of its own is not seen.
    pub(crate) async fn scope<F: Future>(self: Arc<Self>, load: F) -> F::Output {
        CURRENT.scope(self, load).await
    }

    /// Notes that the load in progress, if there is one, waits for `other`; `None` if that load waits,
    /// perhaps through more loads, for the one in progress.
    pub(crate) fn wait_for(other: &Arc<Self>) -> Option<Waiting> {
        let Ok(current) = CURRENT.try_with(Arc::clone) else {
            return Some(Waiting(None));
        };
        // The edge goes in before the search, so that of two loads which close a circle at the same
        // moment at least one sees it.
        let waiting = current.link(other);
        (!other.reaches(&current)).then_some(waiting)
    }

    /// Notes that this load waits for `other`.
    pub(crate) fn link(self: &Arc<Self>, other: &Arc<Self>) -> Waiting {
        self.lock().push(Arc::clone(other));
        Waiting(Some((Arc::clone(self), Arc::clone(other))))
    }

    fn reaches(self: &Arc<Self>, target: &Arc<Self>) -> bool {
        let mut seen: Vec<Arc<Self>> = vec![Arc::clone(self)];
        let mut next = 0;
        while let Some(node) = seen.get(next).map(Arc::clone) {
            if Arc::ptr_eq(&node, target) {
                return true;
            }
            for other in node.lock().iter() {
                if !seen.iter().any(|node| Arc::ptr_eq(node, other)) {
                    seen.push(Arc::clone(other));
                }
            }
            next += 1;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Self>>> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The edge of a wait; it goes away with this.
pub(crate) struct Waiting(Option<(Arc<Node>, Arc<Node>)>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((waiter, other)) = &self.0 {
            let mut waits_for = waiter.lock();
            if let Some(at) = waits_for.iter().position(|node| Arc::ptr_eq(node, other)) {
                waits_for.swap_remove(at);
            }
        }
    }
}
