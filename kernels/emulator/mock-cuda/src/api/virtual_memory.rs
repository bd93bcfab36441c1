//! Virtual memory management: reserve, create, map, give access.

use std::ffi::{c_ulonglong, c_void};

use cudarc::driver::sys::{
    CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationGranularity_flags,
    CUmemAllocationProp, CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation,
    CUmemLocationType, CUresult,
};

use super::{device::ordinal, initialise::check_initialised};
use crate::{
    abi::{driver_functions, put},
    memory::{space, virtual_range},
};

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

/// The device of a location; memory elsewhere is not imitated.
fn device_of(location: &CUmemLocation) -> Result<usize, CUresult> {
    match location.type_ {
        CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE => ordinal(location.id),
        _ => Err(CUresult::CUDA_ERROR_NOT_SUPPORTED),
    }
}

/// The device that pinned memory of these properties lies on.
///
/// # Safety
/// The pointer must be null or good for reading.
unsafe fn device_for(properties: *const CUmemAllocationProp) -> Result<usize, CUresult> {
    // SAFETY: promised by the caller.
    let properties = unsafe { properties.as_ref() }.ok_or(INVALID)?;
    if properties.type_ != CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED {
        return Err(INVALID);
    }
    device_of(&properties.location)
}

driver_functions! {
    fn cuMemGetAllocationGranularity(
        granularity: *mut usize,
        properties: *const CUmemAllocationProp,
        _option: CUmemAllocationGranularity_flags,
    ) {
        check_initialised()?;
        device_for(properties)?;
        put(granularity, virtual_range::GRANULARITY)
    }

    fn cuMemAddressReserve(
        address: *mut CUdeviceptr,
        bytes: usize,
        alignment: usize,
        _wish: CUdeviceptr,
        flags: c_ulonglong,
    ) {
        check_initialised()?;
        if flags != 0 {
            return Err(INVALID);
        }
        put(address, virtual_range::reserve(bytes, alignment)?)
    }

    fn cuMemAddressFree(address: CUdeviceptr, bytes: usize) {
        virtual_range::unreserve(address, bytes)
    }

    fn cuMemCreate(
        handle: *mut CUmemGenericAllocationHandle,
        bytes: usize,
        properties: *const CUmemAllocationProp,
        flags: c_ulonglong,
    ) {
        check_initialised()?;
        if flags != 0 {
            return Err(INVALID);
        }
        put(handle, virtual_range::create(device_for(properties)?, bytes)?)
    }

    fn cuMemRelease(handle: CUmemGenericAllocationHandle) {
        virtual_range::release(handle)
    }

    fn cuMemMap(
        address: CUdeviceptr,
        bytes: usize,
        offset: usize,
        handle: CUmemGenericAllocationHandle,
        flags: c_ulonglong,
    ) {
        if flags != 0 {
            return Err(INVALID);
        }
        virtual_range::map(address, bytes, offset, handle)
    }

    fn cuMemUnmap(address: CUdeviceptr, bytes: usize) {
        virtual_range::unmap(address, bytes)
    }

    fn cuMemSetAccess(
        address: CUdeviceptr,
        bytes: usize,
        grants: *const CUmemAccessDesc,
        count: usize,
    ) {
        if grants.is_null() {
            return Err(INVALID);
        }
        for grant in std::slice::from_raw_parts(grants, count) {
            let allowed = match grant.flags {
                CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_NONE => false,
                CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE => true,
                _ => return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED),
            };
            virtual_range::set_access(address, bytes, device_of(&grant.location)?, allowed)?;
        }
        Ok(())
    }

    fn cuMemGetAccess(
        flags: *mut c_ulonglong,
        location: *const CUmemLocation,
        address: CUdeviceptr,
    ) {
        let device = device_of(location.as_ref().ok_or(INVALID)?)?;
        let (_, mapping) = space::find(address).ok_or(INVALID)?;
        let access = if mapping.access.allows(device) {
            CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        } else {
            CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_NONE
        };
        put(flags, access as c_ulonglong)
    }

    fn cuMemRetainAllocationHandle(
        handle: *mut CUmemGenericAllocationHandle,
        address: *mut c_void,
    ) {
        put(handle, virtual_range::handle_of(address as CUdeviceptr)?)
    }
}
