//! GPU memory for ranks, and ways there and back.

mod offload;
mod staging;

pub use offload::PinnedMemory;
pub(crate) use staging::Staging;

use std::io::{Error, Result};
use std::ptr::NonNull;

use slimpipe_allocator::Space;
use slimpipe_allocator::source::{RANGE, Range, Source};
use slimpipe_kernels::cuda::{self, DevicePtr, Stream, copy};

/// The memory of a GPU, for one rank: what it frees, it may use again at once, for all its work is on one
/// stream. Other streams must have been waited for by then.
#[derive(Clone)]
pub struct GpuSource {
    compute: Stream,
}

impl GpuSource {
    /// Memory of the GPU of `compute`, used in the order of that stream.
    pub fn new(compute: Stream) -> Self {
        Self { compute }
    }
}

impl Source for GpuSource {
    fn space(&self) -> Space {
        Space::Device(self.compute.context().ordinal())
    }

    fn name(&self) -> &'static str {
        "the NVIDIA driver"
    }

    fn granule(&self) -> u64 {
        cuda::Range::GRANULE
    }

    /// Giving memory back waits for the whole GPU, which no training step should.
    fn keeps(&self) -> u64 {
        u64::MAX
    }

    fn reserve(&self) -> Result<Box<dyn Range>> {
        let range = cuda::Range::reserve(self.compute.context(), RANGE).map_err(Error::other)?;
        let start = address(range.start())?;
        Ok(Box::new(GpuRange { range, start }))
    }

    unsafe fn fill(&self, at: NonNull<u8>, byte: u8, bytes: u64) {
        let at = DevicePtr(at.as_ptr().addr() as u64);
        // A GPU that refuses this refuses all that follows, and says so there.
        // SAFETY: as the caller promises; the stream is the one in whose order the memory is used.
        let _ = unsafe { copy::fill(&self.compute, at, byte, bytes as usize) };
    }
}

/// A device's address as the allocator keeps it: a number, which nobody follows here.
fn address(pointer: DevicePtr) -> Result<NonNull<u8>> {
    let address = std::ptr::without_provenance_mut(pointer.0 as usize);
    NonNull::new(address).ok_or_else(|| Error::other("the driver reserved address zero"))
}

struct GpuRange {
    range: cuda::Range,
    start: NonNull<u8>,
}

// SAFETY: the address is a number here; the range may be used from any thread.
unsafe impl Send for GpuRange {}

impl Range for GpuRange {
    fn start(&self) -> NonNull<u8> {
        self.start
    }

    fn committed(&self) -> u64 {
        self.range.committed()
    }

    fn commit(&mut self, bytes: u64) -> Result<()> {
        self.range.commit(bytes).map_err(Error::other)
    }

    fn release(&mut self, bytes: u64) {
        // Memory that cannot be given back stays committed, and is reported as such.
        let _ = self.range.release(bytes);
    }
}
