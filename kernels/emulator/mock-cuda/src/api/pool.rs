//! Memory pools.

use std::ffi::c_void;

use cudarc::driver::sys::{
    CUdeviceptr, CUmemLocationType, CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUresult,
    CUstream,
};

use super::{device::ordinal, memory::allocate_from, stream};
use crate::{
    abi::{driver_functions, put},
    memory::pool::{POOLS, Pool, own},
};
use std::sync::Arc;

fn find(pool: CUmemoryPool) -> Result<Arc<Pool>, CUresult> {
    POOLS.get(pool).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
}

/// Whether an attribute's value is 64 bits wide; the others are 32.
fn is_wide(attribute: CUmemPool_attribute) -> bool {
    attribute as u32 >= CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as u32
}

driver_functions! {
    fn cuMemPoolCreate(pool: *mut CUmemoryPool, properties: *const CUmemPoolProps) {
        let properties = properties.as_ref().ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        if properties.location.type_ != CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE {
            return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED);
        }
        put(pool, POOLS.add(Pool::new(ordinal(properties.location.id)?)))
    }

    fn cuMemPoolDestroy(pool: CUmemoryPool) {
        if own(find(pool)?.device) == pool {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        POOLS.remove(pool);
        Ok(())
    }

    /// Nothing is kept back, so there is nothing to give up.
    fn cuMemPoolTrimTo(pool: CUmemoryPool, _keep: usize) {
        find(pool).map(|_| ())
    }

    fn cuMemPoolGetAttribute(
        pool: CUmemoryPool,
        attribute: CUmemPool_attribute,
        value: *mut c_void,
    ) {
        let current = find(pool)?.attribute(attribute);
        if is_wide(attribute) {
            put(value.cast::<u64>(), current)
        } else {
            put(value.cast::<u32>(), current as u32)
        }
    }

    fn cuMemPoolSetAttribute(
        pool: CUmemoryPool,
        attribute: CUmemPool_attribute,
        value: *mut c_void,
    ) {
        let pool = find(pool)?;
        if value.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let wide = is_wide(attribute);
        pool.set_attribute(
            attribute,
            if wide { value.cast::<u64>().read() } else { u64::from(value.cast::<u32>().read()) },
        )
    }

    fn cuMemAllocFromPoolAsync(
        address: *mut CUdeviceptr,
        bytes: usize,
        pool: CUmemoryPool,
        stream: CUstream,
    ) {
        let (context, _) = stream::find(stream)?;
        put(address, allocate_from(&context, find(pool)?, bytes)?)
    }
}
