//! The queues of work a rank has on a GPU.
//!
//! A rank enters its streams once; operations ask for [`current`]. Threads that entered none share those of
//! the process.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use slimpipe_allocator::Memory;
use slimpipe_kernels::cuda::stream::Priority;
use slimpipe_kernels::cuda::{Context, DevicePtr, Stream};

use crate::Result;
use crate::cuda::{GpuSource, Staging};

/// One rank's streams on one GPU. Cloning copies the handle.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    compute: Stream,
    transfer_in: Stream,
    transfer_out: Stream,
    communication: Stream,
    staging: Staging,
    /// Serves tensors that are made on the GPU while no memory of it is entered.
    memory: OnceLock<Memory>,
}

impl Streams {
    /// Streams on GPU `ordinal`.
    ///
    /// # Errors
    /// There is no such GPU, or it cannot be used.
    pub fn new(ordinal: u32) -> Result<Self> {
        let context = Context::of(ordinal)?;
        let transfer = || Stream::new(context, Priority::High);
        Ok(Self(Arc::new(Inner {
            compute: Stream::new(context, Priority::Normal)?,
            transfer_in: transfer()?,
            transfer_out: transfer()?,
            communication: transfer()?,
            staging: Staging::default(),
            memory: OnceLock::new(),
        })))
    }

    /// The GPU.
    pub fn context(&self) -> &'static Context {
        self.0.compute.context()
    }

    /// Where kernels run, one after the other. Memory is used in the order of this stream.
    pub fn compute(&self) -> &Stream {
        &self.0.compute
    }

    /// Copies from the host that run beside computation.
    pub fn transfer_in(&self) -> &Stream {
        &self.0.transfer_in
    }

    /// Copies to the host that run beside computation.
    pub fn transfer_out(&self) -> &Stream {
        &self.0.transfer_out
    }

    /// Messages and collectives.
    pub fn communication(&self) -> &Stream {
        &self.0.communication
    }

    /// The GPU's memory in the order of the compute stream: for a rank's [`Memory`].
    pub fn source(&self) -> GpuSource {
        GpuSource::new(self.compute().clone())
    }

    /// The memory of tensors that are made on the GPU while no memory of it is entered.
    pub(crate) fn memory(&self) -> Memory {
        self.0.memory.get_or_init(|| Memory::shared().source(self.source()).build()).clone()
    }

    /// Copies from memory that may change right after, in the order of the compute stream.
    ///
    /// # Safety
    /// As many bytes are valid at `to`, and nobody but the compute stream uses them.
    pub(crate) unsafe fn upload(&self, bytes: &[u8], to: DevicePtr) -> Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.0.staging.upload(self.compute(), bytes, to) }
    }

    /// Copies to memory of the host what the compute stream has written, and waits for that.
    ///
    /// # Safety
    /// As many bytes are valid at `from`.
    pub(crate) unsafe fn download(&self, from: DevicePtr, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.0.staging.download(self.compute(), from, bytes) }
    }

    /// Makes these streams current on this thread while the guard lives.
    pub fn enter(&self) -> StreamGuard {
        let previous = STREAMS.with(|current| current.replace(Some(self.clone())));
        StreamGuard { previous, not_send: PhantomData }
    }
}

thread_local! {
    static STREAMS: RefCell<Option<Streams>> = const { RefCell::new(None) };
}

/// Restores the thread's previous streams when dropped.
#[must_use = "the streams are current only while the guard lives"]
pub struct StreamGuard {
    previous: Option<Streams>,
    not_send: PhantomData<*const ()>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        STREAMS.with(|current| *current.borrow_mut() = self.previous.take());
    }
}

/// Makes new streams on GPU `ordinal` current on this thread.
///
/// # Errors
/// There is no such GPU, or it cannot be used.
pub fn enter(ordinal: u32) -> Result<StreamGuard> {
    Ok(Streams::new(ordinal)?.enter())
}

/// The streams of this thread on GPU `ordinal`; those of the process where none on it were entered.
///
/// # Errors
/// There is no such GPU, or it cannot be used.
pub fn current(ordinal: u32) -> Result<Streams> {
    let entered = STREAMS.with(|current| current.borrow().clone());
    if let Some(streams) = entered.filter(|streams| streams.context().ordinal() == ordinal) {
        return Ok(streams);
    }
    static SHARED: Mutex<Vec<Streams>> = Mutex::new(Vec::new());
    let mut shared = SHARED.lock();
    if let Some(streams) = shared.iter().find(|s| s.context().ordinal() == ordinal) {
        return Ok(streams.clone());
    }
    shared.push(Streams::new(ordinal)?);
    Ok(shared[shared.len() - 1].clone())
}
