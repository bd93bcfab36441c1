//! Copies.
//!
//! A copy from or to pinned memory is asynchronous: bytes are read and written when the stream comes
//! to it. Pageable memory is read before the call returns, and written before it returns, as the
//! driver does by staging.

use std::{
    ffi::c_void,
    sync::{Arc, Mutex},
};

use cudarc::driver::sys::{CUcontext, CUdeviceptr, CUresult, CUstream};

use super::stream;
use crate::{
    abi::{Answer, driver_functions},
    context::{CONTEXTS, Context},
    counters::{Count, count, count_bytes},
    memory::{device::FIRST_ADDRESS, space, transfer, virtual_range::is_reserved},
    stream::Stream,
};

/// The stream that calls without a stream work on.
const DEFAULT: CUstream = std::ptr::null_mut();

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Device(usize),
    Pinned,
    Pageable,
}

/// Where `address..address + bytes` lies. Reserved addresses without memory count as the device's
/// whose turn it is: the copy will find out.
fn place(address: u64, bytes: usize, device: usize) -> Result<Place, CUresult> {
    match space::find(address) {
        Some((base, mapping)) => match mapping.device() {
            Some(device) => Ok(Place::Device(device)),
            None if address + bytes as u64 <= base + mapping.bytes as u64 => Ok(Place::Pinned),
            None => Ok(Place::Pageable),
        },
        None if is_reserved(address) => Ok(Place::Device(device)),
        None if address == 0 || address >= FIRST_ADDRESS => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        None => Ok(Place::Pageable),
    }
}

/// A copy between any two places.
struct Copy {
    target: u64,
    source: u64,
    bytes: usize,
    context: Arc<Context>,
    stream: Arc<Stream>,
}

impl Copy {
    fn new(target: u64, source: u64, bytes: usize, stream: CUstream) -> Result<Copy, CUresult> {
        let (context, stream) = stream::find(stream)?;
        Ok(Copy { target, source, bytes, context, stream })
    }

    /// Puts the copy on its stream; waits for it if it must.
    ///
    /// # Safety
    /// Pageable memory must be good for the copy until the call returns, pinned memory until the
    /// copy is done.
    unsafe fn submit(&self, expected: &[(bool, bool)]) -> Answer {
        if self.bytes == 0 {
            return Ok(());
        }
        let from = place(self.source, self.bytes, self.context.device)?;
        let to = place(self.target, self.bytes, self.context.device)?;
        let of_device = |place| matches!(place, Place::Device(_));
        if !expected.contains(&(of_device(from), of_device(to))) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let (what, bytes_of_it) = match (from, to) {
            (Place::Device(from), Place::Device(to)) if from == to => {
                (Count::CopyOnDevice, Count::CopyOnDeviceBytes)
            }
            (Place::Device(_), Place::Device(_)) => {
                (Count::CopyBetweenDevices, Count::CopyBetweenDevicesBytes)
            }
            (Place::Device(_), _) => (Count::CopyToHost, Count::CopyToHostBytes),
            _ => (Count::CopyToDevice, Count::CopyToDeviceBytes),
        };
        count_bytes(what, bytes_of_it, self.bytes);
        // SAFETY: promised by the caller.
        unsafe {
            match (from, to) {
                (Place::Pageable, Place::Pageable) => {
                    std::ptr::copy(self.source as *const u8, self.target as *mut u8, self.bytes);
                    Ok(())
                }
                (Place::Pageable, _) => self.read_pageable(),
                (_, Place::Pageable) => self.write_pageable(),
                _ => self.between_known_places(),
            }
        }
    }

    fn put(&self, body: crate::stream::Body) -> crate::stream::Moment {
        self.context.submit(&self.stream, "copy", Vec::new(), body)
    }

    fn between_known_places(&self) -> Answer {
        let (target, source, bytes) = (self.target, self.source, self.bytes);
        self.put(Box::new(
            move |alive| {
                if alive { transfer::copy(target, source, bytes) } else { Ok(()) }
            },
        ));
        Ok(())
    }

    /// # Safety
    /// The source must be readable now.
    unsafe fn read_pageable(&self) -> Answer {
        // SAFETY: promised by the caller.
        let staged =
            unsafe { std::slice::from_raw_parts(self.source as *const u8, self.bytes) }.to_vec();
        let target = self.target;
        self.put(Box::new(move |alive| {
            if !alive {
                return Ok(());
            }
            // SAFETY: the staged bytes are as many as are copied.
            unsafe { transfer::write(target, staged.as_ptr(), staged.len()) }
        }));
        Ok(())
    }

    /// # Safety
    /// The target must be writable until this returns.
    unsafe fn write_pageable(&self) -> Answer {
        count(Count::ImplicitSynchronisation);
        // The wait ends early when the context fails; the target may then be gone, so whoever comes
        // second finds the permission to write withdrawn.
        let wanted = Arc::new(Mutex::new(true));
        let permission = wanted.clone();
        let (target, source, bytes) = (self.target as usize, self.source, self.bytes);
        let moment = self.put(Box::new(move |alive| {
            let wanted = permission.lock().unwrap_or_else(|e| e.into_inner());
            if !alive || !*wanted {
                return Ok(());
            }
            // SAFETY: the caller waits, which the permission shows.
            unsafe { transfer::read(target as *mut u8, source, bytes) }
        }));
        moment.wait_on_host();
        *wanted.lock().unwrap_or_else(|e| e.into_inner()) = false;
        self.context.check()
    }

    /// Waits for the copy.
    fn wait(&self) -> Answer {
        count(Count::ImplicitSynchronisation);
        self.stream.now().wait_on_host();
        self.context.check()
    }
}

/// From host to device.
const TO_DEVICE: &[(bool, bool)] = &[(false, true)];
/// From device to host.
const TO_HOST: &[(bool, bool)] = &[(true, false)];
/// From device to device. With unified addresses the driver takes pinned memory too.
const ON_DEVICE: &[(bool, bool)] = &[(true, true)];
/// From anywhere to anywhere.
const ANY: &[(bool, bool)] = &[(true, true), (true, false), (false, true), (false, false)];

driver_functions! {
    fn cuMemcpyHtoDAsync_v2(
        target: CUdeviceptr, source: *const c_void, bytes: usize, stream: CUstream,
    ) {
        Copy::new(target, source as u64, bytes, stream)?.submit(TO_DEVICE)
    }

    fn cuMemcpyDtoHAsync_v2(
        target: *mut c_void, source: CUdeviceptr, bytes: usize, stream: CUstream,
    ) {
        Copy::new(target as u64, source, bytes, stream)?.submit(TO_HOST)
    }

    fn cuMemcpyDtoDAsync_v2(
        target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream,
    ) {
        Copy::new(target, source, bytes, stream)?.submit(ON_DEVICE)
    }

    fn cuMemcpyAsync(target: CUdeviceptr, source: CUdeviceptr, bytes: usize, stream: CUstream) {
        Copy::new(target, source, bytes, stream)?.submit(ANY)
    }

    fn cuMemcpyHtoD_v2(target: CUdeviceptr, source: *const c_void, bytes: usize) {
        let copy = Copy::new(target, source as u64, bytes, DEFAULT)?;
        copy.submit(TO_DEVICE)?;
        copy.wait()
    }

    fn cuMemcpyDtoH_v2(target: *mut c_void, source: CUdeviceptr, bytes: usize) {
        let copy = Copy::new(target as u64, source, bytes, DEFAULT)?;
        copy.submit(TO_HOST)?;
        copy.wait()
    }

    /// Not waited for: the driver does not either.
    fn cuMemcpyDtoD_v2(target: CUdeviceptr, source: CUdeviceptr, bytes: usize) {
        Copy::new(target, source, bytes, DEFAULT)?.submit(ON_DEVICE)
    }

    fn cuMemcpy(target: CUdeviceptr, source: CUdeviceptr, bytes: usize) {
        let copy = Copy::new(target, source, bytes, DEFAULT)?;
        copy.submit(ANY)?;
        copy.wait()
    }

    fn cuMemcpyPeerAsync(
        target: CUdeviceptr,
        target_context: CUcontext,
        source: CUdeviceptr,
        source_context: CUcontext,
        bytes: usize,
        stream: CUstream,
    ) {
        for context in [target_context, source_context] {
            CONTEXTS.get(context).ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?.check()?;
        }
        Copy::new(target, source, bytes, stream)?.submit(ON_DEVICE)
    }
}
