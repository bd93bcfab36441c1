//! Queues of work on a GPU.

use std::sync::Arc;

use cudarc::driver::sys::{self, CUresult, CUstream, CUstream_flags};

use parking_lot::Mutex;

use super::context::Context;
use super::driver::check;
use super::error::Result;
use super::event::Event;
use super::{DevicePtr, Range};

/// Bytes of addresses for what kernels leave for each other; memory behind them comes as it is needed.
const SCRATCH: u64 = 1 << 30;

/// A queue of work on a GPU: copies and kernels run one after the other, beside those of other streams.
/// Cloning copies the handle.
#[derive(Clone)]
pub struct Stream(Arc<Inner>);

struct Inner {
    raw: CUstream,
    context: &'static Context,
    scratch: Mutex<Option<Range>>,
}

// SAFETY: a stream may be used from any thread; calls on it are ordered by the driver.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// Whose work goes first where the GPU has no room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Computation.
    Normal,
    /// Transfers that others wait for.
    High,
}

impl Stream {
    /// A stream that no other waits for.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn new(context: &'static Context, priority: Priority) -> Result<Self> {
        context.bind()?;
        let flags = CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // Lower numbers go first; those beyond what the GPU has are taken as its first or last.
        let priority = if priority == Priority::High { -1 } else { 0 };
        let mut raw = std::ptr::null_mut();
        // SAFETY: writes one pointer; a context is current.
        let made = unsafe { sys::cuStreamCreateWithPriority(&mut raw, flags, priority) };
        check("cuStreamCreateWithPriority", made)?;
        Ok(Self(Arc::new(Inner { raw, context, scratch: Mutex::new(None) })))
    }

    /// The GPU it works on.
    pub fn context(&self) -> &'static Context {
        self.0.context
    }

    /// The driver's handle, for libraries that enqueue work; good as long as this value.
    pub fn raw(&self) -> CUstream {
        self.0.raw
    }

    /// Whether both are the same stream.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// `bytes` bytes for kernels that the caller enqueues now and that leave something for each other. The next
    /// call gives the same memory again, so that what is in it is lost; kernels of one stream run one after the
    /// other. Memory is taken from the driver only when more is asked for than ever before.
    ///
    /// # Errors
    /// The GPU's memory is full, or more is asked for than there ever is.
    pub fn scratch(&self, bytes: u64) -> Result<DevicePtr> {
        let mut scratch = self.0.scratch.lock();
        let range = match &mut *scratch {
            Some(range) => range,
            none => none.insert(Range::reserve(self.0.context, SCRATCH)?),
        };
        if range.committed() < bytes {
            range.commit(bytes)?;
        }
        Ok(range.start())
    }

    /// Marks in `event` what the stream was given so far.
    ///
    /// # Errors
    /// The driver refuses, or something that ran before failed.
    pub fn record(&self, event: &Event) -> Result<()> {
        self.0.context.bind()?;
        // SAFETY: both handles are alive.
        check("cuEventRecord", unsafe { sys::cuEventRecord(event.raw(), self.0.raw) })
    }

    /// Lets what the stream is given from now on wait for what `event` last marked.
    ///
    /// # Errors
    /// As [`Stream::record`].
    pub fn wait(&self, event: &Event) -> Result<()> {
        self.0.context.bind()?;
        // SAFETY: both handles are alive.
        check("cuStreamWaitEvent", unsafe { sys::cuStreamWaitEvent(self.0.raw, event.raw(), 0) })
    }

    /// Blocks this thread until the stream has done what it was given.
    ///
    /// # Errors
    /// Something that ran on the GPU failed.
    pub fn synchronize(&self) -> Result<()> {
        self.0.context.bind()?;
        // SAFETY: the handle is alive.
        check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.0.raw) })
    }

    /// Whether the stream has done what it was given.
    ///
    /// # Errors
    /// Something that ran on the GPU failed.
    pub fn is_done(&self) -> Result<bool> {
        self.0.context.bind()?;
        // SAFETY: the handle is alive.
        match unsafe { sys::cuStreamQuery(self.0.raw) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            result => check("cuStreamQuery", result).map(|()| true),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Errors are those of work it was given, and nobody is left to be told.
        let _ = self.context.bind();
        if self.scratch.get_mut().is_some() {
            // SAFETY: the handle is alive. Kernels must not lose the memory under them.
            let _ = unsafe { sys::cuStreamSynchronize(self.raw) };
        }
        // SAFETY: made by `new` and destroyed once; what it was given still runs to its end.
        let _ = unsafe { sys::cuStreamDestroy_v2(self.raw) };
    }
}
