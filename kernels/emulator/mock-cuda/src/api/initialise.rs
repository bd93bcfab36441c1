//! Initialisation, version, entry points by name.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    sync::atomic::{AtomicBool, Ordering},
};

use cudarc::driver::sys::{CUdriverProcAddressQueryResult, CUresult, cuuint64_t};

use crate::{
    abi::{Answer, driver_functions, put},
    settings,
};

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// An error unless `cuInit` was called.
///
/// # Errors
/// `CUDA_ERROR_NOT_INITIALIZED`.
pub fn check_initialised() -> Answer {
    let initialised = INITIALISED.load(Ordering::Acquire);
    if initialised { Ok(()) } else { Err(CUresult::CUDA_ERROR_NOT_INITIALIZED) }
}

driver_functions! {
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        settings::check().map_err(|wrong| {
            eprintln!("mock CUDA driver: {wrong}");
            CUresult::CUDA_ERROR_INVALID_VALUE
        })?;
        if settings::with(|s| s.devices) == 0 {
            return Err(CUresult::CUDA_ERROR_NO_DEVICE);
        }
        INITIALISED.store(true, Ordering::Release);
        Ok(())
    }

    fn cuDriverGetVersion(version: *mut c_int) {
        put(version, settings::with(|s| s.driver_version))
    }

    fn cuGetProcAddress_v2(
        symbol: *const c_char,
        function: *mut *mut c_void,
        _version: c_int,
        _flags: cuuint64_t,
        status: *mut CUdriverProcAddressQueryResult,
    ) {
        use CUdriverProcAddressQueryResult::*;
        let found = entry_point(CStr::from_ptr(symbol));
        if !status.is_null() {
            status.write(match found {
                Some(_) => CU_GET_PROC_ADDRESS_SUCCESS,
                None => CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND,
            });
        }
        put(function, found.ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?)
    }
}

/// The newest version of an exported function: callers ask for `cuMemAlloc` and mean
/// `cuMemAlloc_v2`.
fn entry_point(symbol: &CStr) -> Option<*mut c_void> {
    let mut library = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: dladdr fills the structure for an address of a loaded library, as this one is.
    let library = unsafe {
        (libc::dladdr(entry_point as *const c_void, library.as_mut_ptr()) != 0)
            .then(|| library.assume_init())?
    };
    // SAFETY: the name is that of a loaded library; NOLOAD only counts one more use of it.
    let handle = unsafe { libc::dlopen(library.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return None;
    }
    ["_v4", "_v3", "_v2", ""].iter().find_map(|version| {
        let name = [symbol.to_bytes(), version.as_bytes(), &[0]].concat();
        // SAFETY: the name ends in NUL and the handle is open.
        let found = unsafe { libc::dlsym(handle, name.as_ptr().cast()) };
        (!found.is_null()).then_some(found)
    })
}
