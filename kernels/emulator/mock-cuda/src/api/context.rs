//! Contexts.

use std::ffi::{c_int, c_uint};

use cudarc::driver::sys::{CUcontext, CUdevice, CUfunc_cache, CUlimit, CUresult};

use super::{device::ordinal, initialise::check_initialised};
use crate::{
    abi::{driver_functions, put},
    context::{self, CONTEXTS, Context, peek_current},
    counters::{Count, count},
    facts,
};
use std::sync::Arc;

/// The context of a handle, failed or not.
fn find(handle: CUcontext) -> Result<Arc<Context>, CUresult> {
    CONTEXTS.get(handle).ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)
}

driver_functions! {
    fn cuDevicePrimaryCtxRetain(handle: *mut CUcontext, device: CUdevice) {
        put(handle, context::retain(ordinal(device)?).handle())
    }

    fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) {
        context::release(ordinal(device)?)
    }

    fn cuDevicePrimaryCtxReset_v2(device: CUdevice) {
        context::reset(ordinal(device)?);
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, _flags: c_uint) {
        ordinal(device)?;
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(device: CUdevice, flags: *mut c_uint, active: *mut c_int) {
        put(active, c_int::from(context::active(ordinal(device)?).is_some()))?;
        put(flags, 0)
    }

    fn cuCtxSetCurrent(handle: CUcontext) {
        check_initialised()?;
        context::set_current(if handle.is_null() { None } else { Some(find(handle)?) });
        Ok(())
    }

    fn cuCtxGetCurrent(handle: *mut CUcontext) {
        check_initialised()?;
        put(handle, peek_current().map_or(std::ptr::null_mut(), |context| context.handle()))
    }

    fn cuCtxPushCurrent_v2(handle: CUcontext) {
        context::push_current(find(handle)?);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(handle: *mut CUcontext) {
        let context = context::pop_current().ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
        if !handle.is_null() {
            handle.write(context.handle());
        }
        Ok(())
    }

    fn cuCtxGetDevice(device: *mut CUdevice) {
        let context = peek_current().ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
        put(device, context.device as CUdevice)
    }

    fn cuCtxSynchronize() {
        count(Count::ContextSynchronisation);
        context::current()?.synchronise()
    }

    fn cuCtxSetFlags(_flags: c_uint) {
        context::current().map(|_| ())
    }

    fn cuCtxGetFlags(flags: *mut c_uint) {
        context::current()?;
        put(flags, 0)
    }

    fn cuCtxGetApiVersion(handle: CUcontext, version: *mut c_uint) {
        find(handle)?;
        put(version, 13000)
    }

    fn cuCtxGetStreamPriorityRange(lowest: *mut c_int, highest: *mut c_int) {
        context::current()?;
        put(lowest, facts::PRIORITIES.0)?;
        put(highest, facts::PRIORITIES.1)
    }

    fn cuCtxGetLimit(value: *mut usize, limit: CUlimit) {
        context::current()?;
        put(value, match limit {
            CUlimit::CU_LIMIT_STACK_SIZE => 1024,
            CUlimit::CU_LIMIT_PRINTF_FIFO_SIZE => 7 << 20,
            CUlimit::CU_LIMIT_MALLOC_HEAP_SIZE => 8 << 20,
            _ => return Err(CUresult::CUDA_ERROR_UNSUPPORTED_LIMIT),
        })
    }

    fn cuCtxSetLimit(limit: CUlimit, _value: usize) {
        context::current()?;
        match limit {
            CUlimit::CU_LIMIT_STACK_SIZE
            | CUlimit::CU_LIMIT_PRINTF_FIFO_SIZE
            | CUlimit::CU_LIMIT_MALLOC_HEAP_SIZE => Ok(()),
            _ => Err(CUresult::CUDA_ERROR_UNSUPPORTED_LIMIT),
        }
    }

    fn cuCtxGetCacheConfig(config: *mut CUfunc_cache) {
        context::current()?;
        put(config, CUfunc_cache::CU_FUNC_CACHE_PREFER_NONE)
    }

    fn cuCtxSetCacheConfig(_config: CUfunc_cache) {
        context::current().map(|_| ())
    }
}
