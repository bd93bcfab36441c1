//! Host memory that the GPU copies to and from by itself.

use std::ffi::c_void;
use std::ptr::NonNull;

use cudarc::driver::sys;

use super::context::Context;
use super::driver::check;
use super::error::{CudaError, Result};

/// Host memory whose pages stay where they are, so that copies run beside computation. Its first contents
/// are unspecified.
pub struct Pinned {
    start: NonNull<u8>,
    bytes: usize,
    context: &'static Context,
}

// SAFETY: plain memory owned by this value.
unsafe impl Send for Pinned {}
// SAFETY: access to the bytes is by pointer, and the business of whoever holds one.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// `bytes` bytes for copies from and to any GPU. It takes time, and pages from the whole machine.
    ///
    /// # Errors
    /// The system has no such memory left.
    pub fn new(context: &'static Context, bytes: usize) -> Result<Self> {
        /// So that all GPUs' copies are fast.
        const PORTABLE: u32 = 1;
        context.bind()?;
        let mut start = std::ptr::null_mut();
        // SAFETY: writes one pointer; a context is current.
        let got = unsafe { sys::cuMemHostAlloc(&mut start, bytes.max(1), PORTABLE) };
        check("cuMemHostAlloc", got)?;
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| CudaError::Driver {
            call: "cuMemHostAlloc",
            code: 0,
            name: "no address".to_owned(),
            text: format!("the driver gave no address for {bytes} bytes"),
        })?;
        Ok(Self { start, bytes, context })
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.context.bind();
        // SAFETY: had once, freed once; copies are over, for whoever enqueues one keeps this value until then.
        let _ = unsafe { sys::cuMemFreeHost(self.start.as_ptr().cast::<c_void>()) };
    }
}
