//! A second memory: where units' activations wait, so that the first one need not hold them.
//!
//! With [`MemoryBuilder::offload`](crate::MemoryBuilder::offload) each plan splits its slot in a resident
//! part and one that travels, whole tensors that come closest to a ratio of the slot's bytes. Keys and values
//! do not travel: later slices read them. [`Unit::offload`](crate::Unit::offload) starts to copy what
//! forward saved in the travelling part; when the copy is complete its cells serve other units.
//! [`Unit::prefetch`](crate::Unit::prefetch) takes cells again, maybe others, and starts to copy back. Until
//! that is complete, using one of the tensors is an error that names it: an address is looked up at every
//! use.
//!
//! Copies are made by a thread of their own, or by a device's copy engine, in the order in which they were
//! asked for. That only moves bytes; what lies where changes when the rank's thread says so, between
//! operations ([`Unit::settle`](crate::Unit::settle)).

mod file;
mod worker;

pub use file::FileMemory;
pub(crate) use worker::Worker;

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::arena::Cells;

/// Memory that activations can be copied to and from: a file, or a host's memory beside a GPU's.
///
/// It is a range of bytes from 0 that grows. Copies come from one thread and growth from another, maybe
/// at the same time; bytes that are being copied are not copied again meanwhile.
pub trait SecondMemory: Send + Sync {
    /// What it is, for errors: "a file in /tmp".
    fn name(&self) -> String;

    /// Makes the first `bytes` bytes usable; what was there stays.
    ///
    /// # Errors
    /// There is no room.
    fn grow(&self, bytes: u64) -> io::Result<()>;

    /// Copies `bytes` bytes from `from` to byte `at`.
    ///
    /// # Errors
    /// The bytes cannot be written.
    ///
    /// # Safety
    /// `from` is valid for reads of `bytes` bytes that nobody writes meanwhile.
    unsafe fn store(&self, at: u64, from: NonNull<u8>, bytes: u64) -> io::Result<()>;

    /// Copies `bytes` bytes from byte `at` to `to`.
    ///
    /// # Errors
    /// The bytes cannot be read.
    ///
    /// # Safety
    /// `to` is valid for writes of `bytes` bytes that nobody else uses meanwhile.
    unsafe fn load(&self, at: u64, to: NonNull<u8>, bytes: u64) -> io::Result<()>;
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the second memory.
    Out,
    /// Back.
    In,
}

/// Bytes to be copied between an address and a place in the second memory.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Where they are, or will be.
    pub address: NonNull<u8>,
    /// The first byte in the second memory.
    pub at: u64,
    /// How many.
    pub bytes: u64,
}

/// A second memory that copies by itself, in the order in which it is asked.
pub trait CopyQueue: Send + Sync {
    /// What it is, for errors: "pinned memory of the host".
    fn name(&self) -> String;

    /// Makes the first `bytes` bytes usable; what was there stays.
    ///
    /// # Errors
    /// There is no room.
    fn grow(&self, bytes: u64) -> io::Result<()>;

    /// Starts to copy, behind what was asked for before and behind all work on the addresses that was begun
    /// before.
    ///
    /// # Safety
    /// Until somebody has waited for the copy, the addresses are valid, and nobody writes to them, nor reads
    /// if they are copied to.
    unsafe fn enqueue(&self, way: Way, moves: Vec<Move>) -> Arc<dyn Completion>;
}

/// The end of a copy.
pub trait Completion: Send + Sync {
    /// Lets all work on the addresses that begins after this call come after the copy.
    fn wait(&self);

    /// How the copy went, as far as that is known; called after [`Completion::wait`].
    ///
    /// # Errors
    /// The bytes could not be moved.
    fn result(&self) -> io::Result<()>;
}

/// Areas of a second memory, one per unit that is away, and what copies.
pub(crate) struct Offload {
    pub ratio: f64,
    areas: Cells,
    queue: Box<dyn CopyQueue>,
}

impl Offload {
    pub(crate) fn new(ratio: f64, queue: Box<dyn CopyQueue>) -> Self {
        Self { ratio, areas: Cells::default(), queue }
    }

    pub(crate) fn name(&self) -> String {
        self.queue.name()
    }

    /// Takes an area of `bytes` bytes.
    pub(crate) fn take(&mut self, bytes: u64) -> io::Result<u64> {
        self.queue.grow(self.areas.end_with([(&bytes, &1)]))?;
        Ok(self.areas.take(bytes))
    }

    pub(crate) fn give(&mut self, area: u64, bytes: u64) {
        self.areas.give(area, bytes);
    }

    /// Starts to copy.
    ///
    /// # Safety
    /// As for [`CopyQueue::enqueue`].
    pub(crate) unsafe fn copy(&self, way: Way, moves: Vec<Move>) -> Arc<dyn Completion> {
        // SAFETY: as the caller promises.
        unsafe { self.queue.enqueue(way, moves) }
    }
}
