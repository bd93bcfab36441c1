//! The thread that copies.

use std::io::{Error, Result};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::{Completion, CopyQueue, Move, SecondMemory, Way};

struct Job {
    way: Way,
    moves: Vec<Move>,
    ticket: Arc<Ticket>,
}

// SAFETY: the addresses are of plain memory without affinity to a thread; that they are valid and
// nobody else uses them is promised to `enqueue`.
unsafe impl Send for Job {}

/// A copy in progress.
#[derive(Default)]
struct Ticket {
    result: Mutex<Option<Result<()>>>,
    done: Condvar,
}

impl Ticket {
    fn finish(&self, result: Result<()>) {
        *self.result.lock() = Some(result);
        self.done.notify_all();
    }
}

impl Completion for Ticket {
    fn wait(&self) {
        let mut result = self.result.lock();
        self.done.wait_while(&mut result, |result| result.is_none());
    }

    fn result(&self) -> Result<()> {
        let mut result = self.result.lock();
        self.done.wait_while(&mut result, |result| result.is_none());
        result.replace(Ok(())).unwrap_or(Ok(()))
    }
}

/// A thread that copies to and from a second memory.
pub(crate) struct Worker {
    memory: Arc<dyn SecondMemory>,
    /// None when it is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(rank: u32, memory: Arc<dyn SecondMemory>) -> Result<Self> {
        let (sender, receiver) = channel();
        let copied = memory.clone();
        let thread = std::thread::Builder::new()
            .name(format!("offload-{rank}"))
            .spawn(move || run(&receiver, copied.as_ref()))?;
        Ok(Self { memory, jobs: Some(sender), thread: Some(thread) })
    }
}

impl CopyQueue for Worker {
    fn name(&self) -> String {
        self.memory.name()
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        self.memory.grow(bytes)
    }

    unsafe fn enqueue(&self, way: Way, moves: Vec<Move>) -> Arc<dyn Completion> {
        let ticket = Arc::new(Ticket::default());
        let job = Job { way, moves, ticket: ticket.clone() };
        if self.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            ticket.finish(Err(Error::other("the thread that copies has ended")));
        }
        ticket
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it has panicked at worst, and told whoever waited
        }
    }
}

fn run(jobs: &Receiver<Job>, memory: &dyn SecondMemory) {
    for Job { way, moves, ticket } in jobs {
        let guard = Unfinished(&ticket);
        let result = moves.iter().try_for_each(|&Move { address, at, bytes }| {
            // SAFETY: promised to `enqueue`.
            unsafe {
                match way {
                    Way::Out => memory.store(at, address, bytes),
                    Way::In => memory.load(at, address, bytes),
                }
            }
        });
        std::mem::forget(guard);
        ticket.finish(result);
    }
}

/// Ends a copy that panicked, so that nobody waits for it forever.
struct Unfinished<'a>(&'a Ticket);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.finish(Err(Error::other("the thread that copies has panicked")));
    }
}
