//! Pinned host memory. Its address is the same for the host and for every device.

use std::ffi::c_void;

use cudarc::driver::sys::CUresult;

use super::{
    pages::Pages,
    space::{self, Access, Mapping, Origin},
};
use crate::counters::{Count, count};

/// Allocates pinned memory.
///
/// # Errors
/// `CUDA_ERROR_OUT_OF_MEMORY`; `CUDA_ERROR_INVALID_VALUE` for no bytes.
pub fn allocate(bytes: usize) -> Result<*mut c_void, CUresult> {
    if bytes == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let pages = Pages::new(None, bytes)?;
    count(Count::HostAllocation);
    let host = pages.address();
    let (origin, access) = (Origin::Pinned(pages), Access::ALL);
    space::map(host as u64, Mapping { bytes, host, origin, access });
    Ok(host as *mut c_void)
}

/// Frees what [`allocate`] gave.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` if it is no such memory.
pub fn free(address: *mut c_void) -> Result<(), CUresult> {
    if !space::unmap(address as u64, |m| matches!(m.origin, Origin::Pinned(_)), drop) {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    count(Count::HostFree);
    Ok(())
}

/// Pins memory of the program's own.
///
/// # Errors
/// `CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED` if some of it is pinned.
pub fn register(address: *mut c_void, bytes: usize) -> Result<(), CUresult> {
    if address.is_null() || bytes == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    if space::overlaps(address as u64, bytes) {
        return Err(CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    }
    count(Count::HostAllocation);
    let (origin, access) = (Origin::Registered, Access::ALL);
    let host = address as usize;
    space::map(host as u64, Mapping { bytes, host, origin, access });
    Ok(())
}

/// Undoes [`register`].
///
/// # Errors
/// `CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED` if nothing registered begins at `address`.
pub fn unregister(address: *mut c_void) -> Result<(), CUresult> {
    if !space::unmap(address as u64, |m| matches!(m.origin, Origin::Registered), drop) {
        return Err(CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    }
    count(Count::HostFree);
    Ok(())
}
