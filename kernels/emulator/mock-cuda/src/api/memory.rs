//! Device memory allocated as a whole, and what can be asked about addresses.

use std::ffi::c_void;

use cudarc::driver::sys::{
    CUcontext, CUdeviceptr, CUmemorytype, CUpointer_attribute, CUresult, CUstream,
};

use super::stream;
use crate::{
    abi::{Answer, driver_functions, put},
    context::{self, Context},
    counters::{Count, count},
    memory::{
        device, pages,
        pool::{self, POOLS, Pool},
        space,
    },
};
use std::sync::Arc;

/// Allocates for use on a stream. If memory is short, what other operations will free is waited
/// for, as the driver does.
pub(super) fn allocate_from(
    context: &Context,
    pool: Arc<Pool>,
    bytes: usize,
) -> Result<CUdeviceptr, CUresult> {
    let try_it = || device::allocate("cuMemAllocAsync", pool.device, bytes, Some(pool.clone()));
    match try_it() {
        Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => {
            count(Count::ImplicitSynchronisation);
            context.synchronise()?;
            try_it()
        }
        done => done,
    }
}

driver_functions! {
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let device = context::current()?.device;
        put(free, pages::free(device))?;
        put(total, crate::settings::with(|s| s.memory))
    }

    fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) {
        let device = context::current()?.device;
        put(address, device::allocate("cuMemAlloc", device, bytes, None)?)
    }

    /// Waits for all work of the context first.
    fn cuMemFree_v2(address: CUdeviceptr) {
        let context = context::current()?;
        if address == 0 {
            return Ok(());
        }
        count(Count::ImplicitSynchronisation);
        context.synchronise()?;
        device::free(address)
    }

    fn cuMemAllocAsync(address: *mut CUdeviceptr, bytes: usize, stream: CUstream) {
        let (context, _) = stream::find(stream)?;
        let pool = POOLS.get(pool::current(context.device));
        let pool = pool.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        put(address, allocate_from(&context, pool, bytes)?)
    }

    fn cuMemFreeAsync(address: CUdeviceptr, stream: CUstream) {
        let (context, stream) = stream::find(stream)?;
        if address == 0 {
            return Ok(());
        }
        if !matches!(space::find(address), Some((base, _)) if base == address) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let body = move |alive| {
            if alive && device::free(address).is_err() {
                let text = format!("cuMemFreeAsync of {address:#x}, which was freed before");
                return Err(crate::fault::Fault::illegal_address(text));
            }
            Ok(())
        };
        context.submit(&stream, "free", Vec::new(), Box::new(body));
        Ok(())
    }

    fn cuMemGetAddressRange_v2(base: *mut CUdeviceptr, bytes: *mut usize, address: CUdeviceptr) {
        let (start, mapping) = space::find(address).ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?;
        if !base.is_null() {
            base.write(start);
        }
        if !bytes.is_null() {
            bytes.write(mapping.bytes);
        }
        Ok(())
    }

    fn cuPointerGetAttribute(
        data: *mut c_void,
        attribute: CUpointer_attribute,
        address: CUdeviceptr,
    ) {
        attribute_of(data, attribute, address)
    }
}

/// Writes an attribute of an address, of the type that the attribute has.
///
/// # Safety
/// `data` must have room for that type.
unsafe fn attribute_of(
    data: *mut c_void,
    attribute: CUpointer_attribute,
    address: CUdeviceptr,
) -> Answer {
    use CUpointer_attribute::*;
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    let (base, mapping) = space::find(address).ok_or(invalid)?;
    let device = mapping.device();
    // SAFETY: promised by the caller.
    unsafe {
        match attribute {
            CU_POINTER_ATTRIBUTE_CONTEXT => {
                let context = device.and_then(context::active).map(|context| context.handle());
                put(data.cast::<CUcontext>(), context.unwrap_or(std::ptr::null_mut()))
            }
            CU_POINTER_ATTRIBUTE_MEMORY_TYPE => {
                let kind = match device {
                    Some(_) => CUmemorytype::CU_MEMORYTYPE_DEVICE,
                    None => CUmemorytype::CU_MEMORYTYPE_HOST,
                };
                put(data.cast::<u32>(), kind as u32)
            }
            CU_POINTER_ATTRIBUTE_DEVICE_POINTER => put(data.cast::<CUdeviceptr>(), address),
            CU_POINTER_ATTRIBUTE_HOST_POINTER if device.is_none() => {
                put(data.cast::<*mut c_void>(), address as *mut c_void)
            }
            CU_POINTER_ATTRIBUTE_IS_MANAGED => put(data.cast::<bool>(), false),
            CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL => {
                put(data.cast::<i32>(), device.map_or(-1, |device| device as i32))
            }
            CU_POINTER_ATTRIBUTE_RANGE_START_ADDR => put(data.cast::<CUdeviceptr>(), base),
            CU_POINTER_ATTRIBUTE_RANGE_SIZE => put(data.cast::<usize>(), mapping.bytes),
            CU_POINTER_ATTRIBUTE_MAPPED => put(data.cast::<bool>(), true),
            _ => Err(invalid),
        }
    }
}
