//! Version, errors, groups.

use std::ffi::{c_char, c_int};

use cudarc::nccl::sys::{ncclComm_t, ncclResult_t};

use crate::{
    abi::{DONE, nccl_functions, put},
    comm::COMMS,
    failure::{keep, last},
    group, settings,
};

nccl_functions! {
    fn ncclGetVersion(version: *mut c_int) {
        put(version, settings::with(|s| s.version))
    }

    fn ncclGroupStart() {
        group::start();
        DONE
    }

    fn ncclGroupEnd() {
        group::end()
    }
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(result: ncclResult_t) -> *const c_char {
    use ncclResult_t::*;
    let text = match result {
        ncclSuccess => "no error",
        ncclUnhandledCudaError => "unhandled cuda error",
        ncclSystemError => "unhandled system error",
        ncclInternalError => "internal error",
        ncclInvalidArgument => "invalid argument",
        ncclInvalidUsage => "invalid usage",
        ncclRemoteError => "remote process exited or there was a network error",
        ncclInProgress => "NCCL operation in progress",
        ncclTimeout => "a timeout",
        ncclNumResults => "no result",
    };
    keep(text).as_ptr()
}

/// The failure of the communicator, or else the last one of the process.
#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(comm: ncclComm_t) -> *const c_char {
    let own = COMMS.get(comm).and_then(|comm| comm.failure()).map(|failure| failure.text);
    keep(&own.unwrap_or_else(last)).as_ptr()
}

const _: unsafe fn(ncclResult_t) -> *const c_char = cudarc::nccl::sys::ncclGetErrorString;
const _: unsafe fn(ncclComm_t) -> *const c_char = cudarc::nccl::sys::ncclGetLastError;
