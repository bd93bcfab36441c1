//! Marks in streams.

use std::ops::Deref;

use cudarc::driver::sys::{self, CUevent, CUevent_flags, CUresult};

use super::context::Context;
use super::driver::{self, check};
use super::error::{CudaError, Result};

/// A mark in a stream, which others wait for. It can be recorded again; whoever waits then waits for the
/// latest.
pub struct Event {
    raw: CUevent,
    context: &'static Context,
}

// SAFETY: an event may be used from any thread; calls on it are ordered by the driver.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// An event that was not recorded; waiting for it is no wait.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn new(context: &'static Context) -> Result<Self> {
        Self::with(context, CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    /// An event of the GPU's pool, to which it returns when it is dropped: for marks that are made all the
    /// time. Whoever was told to wait for it by then still does.
    ///
    /// # Errors
    /// The pool is empty, and the driver refuses to make one more.
    pub fn pooled(context: &'static Context) -> Result<PooledEvent> {
        let free = context.events().lock().pop();
        let event = match free {
            Some(event) => event,
            None => Self::new(context)?,
        };
        Ok(PooledEvent(Some(event)))
    }

    /// As [`Event::new`], for [`Event::elapsed`]; costs the GPU a little more.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn timed(context: &'static Context) -> Result<Self> {
        Self::with(context, CUevent_flags::CU_EVENT_DEFAULT)
    }

    fn with(context: &'static Context, flags: CUevent_flags) -> Result<Self> {
        context.bind()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: writes one pointer; a context is current.
        check("cuEventCreate", unsafe { sys::cuEventCreate(&mut raw, flags as u32) })?;
        Ok(Self { raw, context })
    }

    pub(super) fn raw(&self) -> CUevent {
        self.raw
    }

    /// Blocks this thread until the GPU has passed the mark.
    ///
    /// # Errors
    /// Something that ran on the GPU failed.
    pub fn synchronize(&self) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the handle is alive.
        check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.raw) })
    }

    /// Whether the GPU has passed the mark.
    ///
    /// # Errors
    /// Something that ran on the GPU failed.
    pub fn is_done(&self) -> Result<bool> {
        self.context.bind()?;
        // SAFETY: the handle is alive.
        match unsafe { sys::cuEventQuery(self.raw) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            result => check("cuEventQuery", result).map(|()| true),
        }
    }

    /// Milliseconds from `start` to this mark; both are [timed](Event::timed) and passed.
    ///
    /// # Errors
    /// They are not.
    pub fn elapsed(&self, start: &Self) -> Result<f32> {
        self.context.bind()?;
        type Elapsed = unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> CUresult;
        // The bindings name only a second version of the function, which drivers before 12.8 lack.
        // SAFETY: its type; an event exists, so the driver was loaded.
        let elapsed = unsafe { driver::function::<Elapsed>("cuEventElapsedTime") };
        let (library, symbol) = ("libcuda", "cuEventElapsedTime");
        let elapsed = elapsed.ok_or(CudaError::MissingSymbol { library, symbol })?;
        let mut milliseconds = 0.0;
        // SAFETY: both handles are alive; writes one number.
        check(symbol, unsafe { elapsed(&mut milliseconds, start.raw, self.raw) })?;
        Ok(milliseconds)
    }
}

/// An [`Event::pooled`].
pub struct PooledEvent(Option<Event>);

impl Deref for PooledEvent {
    type Target = Event;

    fn deref(&self) -> &Event {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for PooledEvent {
    fn drop(&mut self) {
        if let Some(event) = self.0.take() {
            event.context.events().lock().push(event);
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.context.bind();
        // SAFETY: made by `with` and destroyed once; the driver keeps it until the GPU has passed it.
        let _ = unsafe { sys::cuEventDestroy_v2(self.raw) };
    }
}
