//! Pinned host memory.

use std::ffi::{c_uint, c_void};

use cudarc::driver::sys::{CUdeviceptr, CUresult};

use crate::{
    abi::{Answer, driver_functions, put},
    context,
    counters::{Count, count},
    memory::{host, space},
};

/// Waits for all work of the context, as the driver does before pinned memory goes.
fn wait_for_users() -> Answer {
    count(Count::ImplicitSynchronisation);
    context::current()?.synchronise()
}

/// Whether an address lies in pinned memory.
fn is_pinned(address: *mut c_void) -> bool {
    space::find(address as u64).is_some_and(|(_, mapping)| mapping.device().is_none())
}

driver_functions! {
    fn cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, _flags: c_uint) {
        context::current()?;
        put(address, host::allocate(bytes)?)
    }

    fn cuMemAllocHost_v2(address: *mut *mut c_void, bytes: usize) {
        context::current()?;
        put(address, host::allocate(bytes)?)
    }

    fn cuMemFreeHost(address: *mut c_void) {
        wait_for_users()?;
        host::free(address)
    }

    fn cuMemHostRegister_v2(address: *mut c_void, bytes: usize, _flags: c_uint) {
        context::current()?;
        host::register(address, bytes)
    }

    fn cuMemHostUnregister(address: *mut c_void) {
        wait_for_users()?;
        host::unregister(address)
    }

    fn cuMemHostGetDevicePointer_v2(device: *mut CUdeviceptr, address: *mut c_void, flags: c_uint) {
        context::current()?;
        if flags != 0 || !is_pinned(address) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        put(device, address as CUdeviceptr)
    }

    fn cuMemHostGetFlags(flags: *mut c_uint, address: *mut c_void) {
        context::current()?;
        if !is_pinned(address) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP, as with unified addressing.
        put(flags, 3)
    }
}
