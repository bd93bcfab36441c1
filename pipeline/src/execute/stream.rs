//! Communication that goes on beside the program, in order, on a thread with a communicator of its own; on
//! a GPU the thread only enqueues it on the rank's communication stream.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::{Result, Span, Work};
use crate::comm::{CommError, Communicator};

type Job = Box<dyn FnOnce(&mut dyn Communicator) -> Result<()> + Send>;

/// A queue of jobs, which run one after the other.
pub(super) struct Stream {
    jobs: Option<Sender<(Work, Job)>>,
    done: Receiver<Result<Span>>,
    /// Jobs that were not waited for.
    pending: usize,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// A stream that speaks through `comm`, of rank `rank` of all; `origin` is the zero of timelines.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(super) fn new(
        mut comm: Box<dyn Communicator>,
        rank: u32,
        origin: Instant,
    ) -> Result<Self, CommError> {
        let (jobs, queue) = channel::<(Work, Job)>();
        let (finished, done) = channel();
        let run = move || {
            for (work, job) in queue {
                let start = origin.elapsed();
                let result = job(&mut *comm);
                // Of what comes after a failed job, the other ranks' part would be another one.
                let failed = result.is_err();
                let span = result.map(|()| Span { work, start, end: origin.elapsed(), held: 0 });
                if finished.send(span).is_err() || failed {
                    return;
                }
            }
        };
        let thread = Builder::new().name(format!("rank-{rank} data")).spawn(run);
        let thread =
            thread.map_err(|error| CommError::Spawn { rank, reason: error.to_string() })?;
        Ok(Self { jobs: Some(jobs), done, pending: 0, thread: Some(thread) })
    }

    /// Adds a job, which is recorded as `work`. Never waits.
    pub(super) fn run(
        &mut self,
        work: Work,
        job: impl FnOnce(&mut dyn Communicator) -> Result<()> + Send + 'static,
    ) {
        if let Some(jobs) = &self.jobs {
            // If the thread is gone, a job has failed, which whoever waits is told.
            let _ = jobs.send((work, Box::new(job)));
            self.pending += 1;
        }
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_idle(&self) -> bool {
        self.pending == 0
    }

    /// Waits for all jobs; says when they ran.
    ///
    /// # Errors
    /// That of the first job that failed; those after it did not run.
    pub(super) fn wait(&mut self) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        while self.pending > 0 {
            match self.done.recv() {
                Ok(span) => spans.push(span?),
                Err(_) => self.join(),
            }
            self.pending -= 1;
        }
        Ok(spans)
    }

    /// Ends the thread, which has nothing more to do; its panic goes on here.
    fn join(&mut self) {
        self.jobs = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Stream {
    /// A rank that breaks off may leave a job behind that waits for other ranks: it ends when they
    /// learn of the failure, which is after this rank has given up all it has.
    fn drop(&mut self) {
        if self.pending == 0 && !std::thread::panicking() {
            self.join();
        }
    }
}
