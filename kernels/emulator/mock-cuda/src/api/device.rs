//! Devices.

use std::ffi::{c_char, c_int};

use cudarc::driver::sys::{CUdevice, CUdevice_attribute, CUmemoryPool, CUresult, CUuuid};

use super::initialise::check_initialised;
use crate::{
    abi::{driver_functions, put},
    facts,
    memory::pool::{self, POOLS},
    settings,
};

/// The ordinal of a device.
///
/// # Errors
/// `CUDA_ERROR_INVALID_DEVICE` if there is no such device.
pub fn ordinal(device: CUdevice) -> Result<usize, CUresult> {
    check_initialised()?;
    let exists = |ordinal: &usize| *ordinal < settings::with(|s| s.devices);
    usize::try_from(device).ok().filter(exists).ok_or(CUresult::CUDA_ERROR_INVALID_DEVICE)
}

driver_functions! {
    fn cuDeviceGetCount(count: *mut c_int) {
        check_initialised()?;
        put(count, settings::with(|s| s.devices) as c_int)
    }

    fn cuDeviceGet(device: *mut CUdevice, number: c_int) {
        put(device, ordinal(number)? as CUdevice)
    }

    fn cuDeviceGetName(name: *mut c_char, room: c_int, device: CUdevice) {
        ordinal(device)?;
        let bytes = facts::NAME.as_bytes();
        let length = bytes.len().min(usize::try_from(room - 1).unwrap_or(0));
        put(name, 0)?;
        name.copy_from_nonoverlapping(bytes.as_ptr().cast(), length);
        put(name.add(length), 0)
    }

    fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice) {
        let bytes = facts::uuid(ordinal(device)?).map(|byte| byte as c_char);
        put(uuid, CUuuid { bytes })
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice) {
        ordinal(device)?;
        put(bytes, settings::with(|s| s.memory))
    }

    fn cuDeviceGetAttribute(value: *mut c_int, attribute: CUdevice_attribute, device: CUdevice) {
        put(value, facts::attribute(attribute, ordinal(device)?))
    }

    fn cuDeviceCanAccessPeer(can: *mut c_int, device: CUdevice, peer: CUdevice) {
        put(can, c_int::from(ordinal(device)? != ordinal(peer)?))
    }

    fn cuDeviceGetPCIBusId(name: *mut c_char, room: c_int, device: CUdevice) {
        let text = format!("0000:{:02x}:00.0\0", 16 + ordinal(device)?);
        if usize::try_from(room).unwrap_or(0) < text.len() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        put(name, 0)?;
        name.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        Ok(())
    }

    fn cuDeviceGetDefaultMemPool(pool: *mut CUmemoryPool, device: CUdevice) {
        put(pool, pool::own(ordinal(device)?))
    }

    fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, device: CUdevice) {
        put(pool, pool::current(ordinal(device)?))
    }

    fn cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool) {
        let device = ordinal(device)?;
        let of_device = POOLS.get(pool).is_some_and(|pool| pool.device == device);
        if !of_device {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        pool::set_current(device, pool);
        Ok(())
    }
}
