//! The thread that copies.

use std::io::{Error, Result};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::SecondMemory;

/// Where bytes go.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// To the second memory.
    Out,
    /// Back.
    In,
}

/// Bytes to be copied between an address and a place in the second memory.
pub(crate) struct Move {
    pub address: NonNull<u8>,
    pub at: u64,
    pub bytes: u64,
}

struct Job {
    way: Way,
    moves: Vec<Move>,
    ticket: Arc<Ticket>,
}

// SAFETY: the addresses are of plain memory without affinity to a thread; that they are valid and
// nobody else uses them is promised to `submit`.
unsafe impl Send for Job {}

/// A copy in progress.
#[derive(Default)]
pub(crate) struct Ticket {
    result: Mutex<Option<Result<()>>>,
    done: Condvar,
}

impl Ticket {
    /// Waits for the end of the copy.
    pub(crate) fn wait(&self) {
        let mut result = self.result.lock();
        self.done.wait_while(&mut result, |result| result.is_none());
    }

    /// Waits, and says how it went.
    pub(crate) fn result(&self) -> Result<()> {
        let mut result = self.result.lock();
        self.done.wait_while(&mut result, |result| result.is_none());
        result.replace(Ok(())).unwrap_or(Ok(()))
    }

    fn finish(&self, result: Result<()>) {
        *self.result.lock() = Some(result);
        self.done.notify_all();
    }
}

pub(crate) struct Worker {
    /// None when it is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(rank: u32, memory: Arc<dyn SecondMemory>) -> Result<Self> {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("offload-{rank}"))
            .spawn(move || run(&receiver, memory.as_ref()))?;
        Ok(Self { jobs: Some(sender), thread: Some(thread) })
    }

    /// Copies `moves` behind what was submitted before.
    ///
    /// # Safety
    /// Until the ticket is done, the addresses are valid, and nobody writes to them, nor reads if they are
    /// copied to.
    pub(crate) unsafe fn submit(&self, way: Way, moves: Vec<Move>) -> Arc<Ticket> {
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
            // SAFETY: promised to `submit`.
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
