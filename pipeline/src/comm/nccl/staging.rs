//! A buffer through which the host's bytes reach the library, which takes those of a GPU only.

use slimpipe_kernels::cuda::{Context, CudaError, DevicePtr, Pinned, Range, Stream, copy};

/// As many bytes of the GPU and of pinned host memory, made once.
pub(super) struct Staging {
    device: Range,
    host: Pinned,
}

impl Staging {
    /// How many bytes: a granule of the GPU's memory.
    pub(super) const BYTES: usize = Range::GRANULE as usize;

    pub(super) fn new(context: &'static Context) -> Result<Self, CudaError> {
        let mut device = Range::reserve(context, Range::GRANULE)?;
        device.commit(Range::GRANULE)?;
        Ok(Self { device, host: Pinned::new(context, Self::BYTES)? })
    }

    /// Where byte `at` is on the GPU.
    pub(super) fn at(&self, at: usize) -> DevicePtr {
        self.device.start().offset(at as u64)
    }

    /// Copies `bytes` to the GPU, from byte `at`, in the order of `stream`, which has done all that it was
    /// given.
    pub(super) fn upload(
        &mut self,
        stream: &Stream,
        at: usize,
        bytes: &[u8],
    ) -> Result<(), CudaError> {
        assert!(at + bytes.len() <= Self::BYTES, "outside the buffer");
        // SAFETY: inside both buffers (asserted), of which nothing is in use: the stream is idle.
        unsafe {
            let host = self.host.as_ptr().add(at);
            host.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            copy::to_device(stream, host, self.at(at), bytes.len())
        }
    }

    /// Begins to copy `len` bytes from the GPU, from byte `at`; they can be [read](Staging::read) once
    /// `stream` has done it.
    pub(super) fn download(
        &mut self,
        stream: &Stream,
        at: usize,
        len: usize,
    ) -> Result<(), CudaError> {
        assert!(at + len <= Self::BYTES, "outside the buffer");
        // SAFETY: inside both buffers (asserted); the host's is read when the stream was waited for.
        unsafe { copy::to_host(stream, self.at(at), self.host.as_ptr().add(at), len) }
    }

    /// What was copied from the GPU, after the stream was waited for.
    pub(super) fn read(&self, at: usize, len: usize) -> &[u8] {
        assert!(at + len <= Self::BYTES, "outside the buffer");
        // SAFETY: inside the buffer (asserted), which nothing writes to: the stream is idle.
        unsafe { std::slice::from_raw_parts(self.host.as_ptr().add(at), len) }
    }
}
