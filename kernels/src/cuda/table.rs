//! Tables for kernels, written by a kernel whose parameters they are. A copy would need host memory that
//! outlives it.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::launch::{Grid, Parameter};
use super::{DevicePtr, Stream};

static SOURCE: Source = source!("sm90_any_table.cu");

/// Words that one launch writes.
const MOST: usize = 3968;

/// `struct Args` of the kernel.
#[repr(C)]
struct Args {
    to: DevicePtr,
    count: i32,
    words: [u64; MOST],
}

// SAFETY: `struct Args` of the kernel.
unsafe impl Parameter for Args {}

fn variant() -> Variant {
    Variant::new(&SOURCE, "table")
}

/// Writes `words` to `to`; kernels that the stream runs later may use them, tensor maps among them.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// There is room for them in memory that the stream may use.
pub(super) unsafe fn write(stream: &Stream, to: DevicePtr, words: &[u64]) -> Result<()> {
    let kernel = stream.context().kernel(&variant())?;
    for (i, part) in words.chunks(MOST).enumerate() {
        let to = to.offset((i * MOST * size_of::<u64>()) as u64);
        let mut args = Args { to, count: part.len() as i32, words: [0; MOST] };
        args.words[..part.len()].copy_from_slice(part);
        // SAFETY: as the caller promises.
        unsafe { kernel.launch(stream, Grid::line(1, 256), &[&args])? };
    }
    Ok(())
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    vec![variant()]
}
