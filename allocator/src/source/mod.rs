//! Where bytes come from: ranges of addresses, reserved once and backed by memory as they fill.
//!
//! A region can then grow without moving, and "reserved" is what the process really holds. This crate has
//! one source, the [`Host`]'s memory; a GPU's comes from a crate that knows GPUs.

mod host;

pub use host::Host;

use std::io::Result;
use std::ptr::NonNull;

/// Addresses that one region may come to use.
pub const RANGE: u64 = 256 << 30;

/// What follows an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// This process.
    Host,
    /// The device of that number. In the process its addresses are numbers, not to be followed.
    Device(u32),
}

/// A kind of memory.
pub trait Source: Send + Sync {
    /// What follows its addresses.
    fn space(&self) -> Space;

    /// Who gives and refuses it, for errors: "the operating system".
    fn name(&self) -> &'static str;

    /// It is committed in multiples of this many bytes.
    fn granule(&self) -> u64;

    /// Committed bytes that an empty overflow region keeps: how much is cheaper to hold than to give back
    /// and to ask for again.
    fn keeps(&self) -> u64;

    /// Reserves a range, of [`RANGE`] bytes if possible, with nothing committed.
    ///
    /// # Errors
    /// There are no addresses left.
    fn reserve(&self) -> Result<Box<dyn Range>>;

    /// Sets bytes, in the order in which the memory is used.
    ///
    /// # Safety
    /// `bytes` bytes from `at` are committed, and nobody else uses them.
    unsafe fn fill(&self, at: NonNull<u8>, byte: u8, bytes: u64);
}

/// A reserved range of addresses, committed from its start up to some byte.
pub trait Range: Send {
    /// The first address, a multiple of 256 that never changes.
    fn start(&self) -> NonNull<u8>;

    /// Bytes that are committed.
    fn committed(&self) -> u64;

    /// Commits at least the first `bytes` bytes. What is in new ones is unspecified.
    ///
    /// # Errors
    /// The range is full, or there is no memory; what was committed stays.
    fn commit(&mut self, bytes: u64) -> Result<()>;

    /// Gives back what lies beyond the first `bytes` bytes, as far as it can; the caller holds nothing live
    /// there.
    fn release(&mut self, bytes: u64);
}

/// The address of byte `offset` of a range, which must not lie beyond the committed bytes.
pub(crate) fn at(range: &dyn Range, offset: u64) -> NonNull<u8> {
    debug_assert!(offset <= range.committed());
    range.start().map_addr(|start| start.saturating_add(offset as usize))
}
