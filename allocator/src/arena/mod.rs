//! Placement in a region, as safe arithmetic on offsets: no memory, no pointers.
//!
//! Every arena answers two questions: where a block goes, and how far the region must be committed
//! (its high-water mark). Offsets and sizes are multiples of [`ALIGN`].

mod general;
mod pool;
mod slots;

pub use general::General;
pub use pool::Pool;
pub use slots::Slots;

/// Alignment of every block, one cache line and one AVX-512 register.
pub const ALIGN: u64 = 64;

/// `bytes` rounded up to [`ALIGN`]; at least one line, so that every block has its own address.
pub fn align(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(ALIGN)
}
