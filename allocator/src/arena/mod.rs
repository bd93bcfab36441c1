//! Placement in a region, as safe arithmetic on offsets: no memory, no pointers.
//!
//! Every arena answers two questions: where a block goes, and how far the region must be committed
//! for it (its end). Offsets and sizes are multiples of [`ALIGN`].
//!
//! | arena | serves | finds a place by |
//! |---|---|---|
//! | [`Cells`] | slots and K/V: what units hold from forward to backward | popping a list |
//! | [`Frame`] | transient memory | doing what the plan says |
//! | [`BestFit`] | everything whose sizes and lifetimes nobody planned | searching |

mod best_fit;
mod cells;
mod frame;

pub use best_fit::BestFit;
pub use cells::Cells;
pub use frame::Frame;

/// Alignment of every block, one cache line and one AVX-512 register.
pub const ALIGN: u64 = 64;

/// `bytes` rounded up to [`ALIGN`]; at least one line, so that every block has its own address.
pub fn align(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(ALIGN)
}
