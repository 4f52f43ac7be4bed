//! SQLite for async callers.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::failure::{Failure, Result};

/// Threads with a connection each that take jobs from one queue: SQLite blocks, async tasks must not.
pub(crate) struct Pool {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// A question that knows whom to answer.
type Job = Box<dyn FnOnce(&Connection) + Send>;

impl Pool {
    /// As many threads as there are connections.
    pub(crate) fn start(connections: Vec<Connection>) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let work = |connection: Connection| {
            let queue = Arc::clone(&queue);
            let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            thread::spawn(move || {
                while let Ok(job) = next() {
                    job(&connection);
                }
            })
        };
        Self {
            jobs: Some(jobs),
            threads: connections.into_iter().map(work).collect(),
        }
    }

    /// The answer to a question that one of the connections is asked.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody listens any more when the caller has gone away.
            let _ = reply.send(question(connection));
        });
        let gone = || Failure::new("the database", "its thread has ended");
        self.jobs
            .as_ref()
            .ok_or_else(gone)?
            .send(job)
            .map_err(|_| gone())?;
        answer
            .await
            .map_err(|_| gone())?
            .map_err(|e| Failure::new("SQLite", e))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
