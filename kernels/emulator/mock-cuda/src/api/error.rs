//! Names and descriptions of errors.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_char},
    sync::{LazyLock, Mutex},
};

use cudarc::driver::sys::CUresult;

use crate::abi::{driver_functions, put};

driver_functions! {
    fn cuGetErrorName(error: CUresult, text: *mut *const c_char) {
        put(text, name(error).as_ptr())
    }

    fn cuGetErrorString(error: CUresult, text: *mut *const c_char) {
        put(text, description(error).as_ptr())
    }
}

/// The name of an error, kept for good, since callers keep the pointer.
fn name(error: CUresult) -> &'static CStr {
    static NAMES: LazyLock<Mutex<HashMap<u32, &'static CStr>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock().unwrap_or_else(|e| e.into_inner());
    names.entry(error as u32).or_insert_with(|| {
        let name = CString::new(format!("{error:?}")).unwrap_or_default();
        Box::leak(name.into_boxed_c_str())
    })
}

fn description(error: CUresult) -> &'static CStr {
    use CUresult::*;
    match error {
        CUDA_SUCCESS => c"no error",
        CUDA_ERROR_INVALID_VALUE => c"invalid argument",
        CUDA_ERROR_OUT_OF_MEMORY => c"out of memory",
        CUDA_ERROR_NOT_INITIALIZED => c"initialization error",
        CUDA_ERROR_NO_DEVICE => c"no CUDA-capable device is detected",
        CUDA_ERROR_INVALID_DEVICE => c"invalid device ordinal",
        CUDA_ERROR_INVALID_IMAGE => c"device kernel image is invalid",
        CUDA_ERROR_INVALID_CONTEXT => c"invalid device context",
        CUDA_ERROR_NO_BINARY_FOR_GPU => c"no kernel image is available for this device",
        CUDA_ERROR_INVALID_PTX => c"a PTX compilation failed",
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            c"the PTX was compiled by a newer toolchain than this driver takes"
        }
        CUDA_ERROR_INVALID_HANDLE => c"invalid resource handle",
        CUDA_ERROR_NOT_FOUND => c"named symbol not found",
        CUDA_ERROR_NOT_READY => c"device not ready",
        CUDA_ERROR_ILLEGAL_ADDRESS => c"an illegal memory access was encountered",
        CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => c"too many resources requested for launch",
        CUDA_ERROR_MISALIGNED_ADDRESS => c"misaligned address",
        CUDA_ERROR_LAUNCH_FAILED => c"unspecified launch failure",
        CUDA_ERROR_NOT_PERMITTED => c"operation not permitted",
        CUDA_ERROR_NOT_SUPPORTED => c"operation not supported",
        CUDA_ERROR_CONTEXT_IS_DESTROYED => c"context is destroyed",
        CUDA_ERROR_INVALID_CLUSTER_SIZE => c"invalid cluster size",
        CUDA_ERROR_UNKNOWN => c"unknown error",
        other => name(other),
    }
}
