//! Runs a test on the mock CUDA driver, the mock NCCL and the mock cuBLASLt, through an unmodified cudarc.
//!
//! ```no_run
//! let mock = slimpipe_mock::driver();
//! let _alone = mock.alone();
//! mock.set("order", "late");
//! // ... cudarc::driver::CudaContext::new(0) and so on ...
//! assert_eq!(mock.counters().synchronisations(), 0);
//! ```
//!
//! The first call of [`driver`] or [`nccl`] opens the mock by its path. Its soname is that of the
//! real library, so what cudarc opens later by that name is the mock, whether or not the machine has
//! a driver. This holds for the whole process: a test binary decides for all its tests. A child
//! process is given the mocks by [`preload`].
//!
//! # Settings of the driver
//!
//! A child process reads them from its environment: `order` is `SLIMPIPE_MOCK_CUDA_ORDER`.
//!
//! | name | value |
//! |---|---|
//! | `devices` | how many there are; 4 |
//! | `capability` | compute capability; `9.0` |
//! | `multiprocessors` | of each device; 132, or few so that kernels whose blocks stay take several turns on small problems |
//! | `memory` | bytes of each device, as `8G` |
//! | `driver_version` | `13000` |
//! | `order` | when operations on streams begin: `eager`, `random:SEED:MICROSECONDS` (after a delay), `late:MILLISECONDS` (when somebody waits for them, or that much later) |
//! | `policy` | how the emulator schedules kernels: `eager`, `random:SEED`, `latest:SEED` |
//! | `threads` | threads that run the blocks of a kernel; 1 |
//! | `fail_allocation` | `N` or `FUNCTION:N`: that allocation of device memory from now finds none left |
//! | `fail_launch` | `N` or `KERNEL:N`: that launch from now fails its context |
//! | `hang` | `N` or `OPERATION:N`: that operation from now never ends; operations are `copy`, `fill`, `free`, `record`, `wait`, `host_function`, kernels and NCCL's functions by name, `ncclGroup` for several at once |
//! | `release` | lets go of what hangs |
//! | `reset`, `reset_counters` | everything as in the beginning; counters at 0 |
//!
//! # Settings of NCCL
//!
//! `send` is `SLIMPIPE_MOCK_NCCL_SEND`, and so on.
//!
//! | name | value |
//! |---|---|
//! | `version` | `23007` |
//! | `send` | when a send is done: `buffered` (at once), `rendezvous` (when its receive has begun) |
//! | `order` | `eager`, or `random:SEED:MICROSECONDS` to delay messages |
//! | `share_devices` | whether several ranks may use one device: `false`, unless `NCCL_MULTI_RANK_GPU_ENABLE=1` |
//! | `deferred` | whether calls on communicators that do not block answer `ncclInProgress`; `false` |
//! | `fault` | `die:RANK:N`, `exit:RANK:N`, `hang:RANK:N`, `error:RANK:N` at that operation of the rank from now; `absent:RANK` |
//! | `reset`, `reset_counters` | as with the driver |
//!
//! After `die` and `exit` the others get `ncclRemoteError`. An abort tells nobody: other ranks wait
//! on, as with NCCL within a host.
//!
//! # Settings of cuBLASLt
//!
//! `algorithms`: how many are found for a product, 1 or 0.

mod counters;
mod find;
mod library;

use std::{ffi::OsStr, process::Command, sync::OnceLock};

pub use crate::{
    counters::Counters,
    library::{Alone, Library},
};
use slimpipe_mock_protocol::control::{
    CUBLASLT_GET, CUBLASLT_SET, CUDA_GET, CUDA_SET, NCCL_GET, NCCL_SET,
};
pub use slimpipe_mock_protocol::order::Order;

/// File name of the mock driver.
const CUDA: &str = "libslimpipe_mock_cuda.so";
/// File name of the mock cuBLASLt.
const CUBLASLT: &str = "libslimpipe_mock_cublaslt.so";
/// File name of the mock NCCL.
const NCCL: &str = "libslimpipe_mock_nccl.so";

/// The mock driver. Opens it if this is the first call.
///
/// # Panics
/// If its library cannot be found or opened; the message says where it was looked for.
pub fn driver() -> &'static Library {
    static DRIVER: OnceLock<Library> = OnceLock::new();
    DRIVER.get_or_init(|| open(CUDA, CUDA_SET, CUDA_GET))
}

/// The mock driver, opened if this is the first call; `None` if `SLIMPIPE_TEST_GPU` is `real`, for tests that can
/// run on the machine's own GPU too.
pub fn driver_unless_real() -> Option<&'static Library> {
    let is_real = std::env::var_os("SLIMPIPE_TEST_GPU").is_some_and(|gpu| gpu == "real");
    (!is_real).then(driver)
}

/// The mock NCCL, which works on streams of the mock driver. Opens both if this is the first call.
///
/// # Panics
/// As [`driver`].
pub fn nccl() -> &'static Library {
    static NCCL_LIBRARY: OnceLock<Library> = OnceLock::new();
    driver();
    NCCL_LIBRARY.get_or_init(|| open(NCCL, NCCL_SET, NCCL_GET))
}

/// The mock cuBLASLt, which works on streams of the mock driver. Opens both if this is the first call.
///
/// # Panics
/// As [`driver`].
pub fn cublaslt() -> &'static Library {
    static CUBLASLT_LIBRARY: OnceLock<Library> = OnceLock::new();
    driver();
    CUBLASLT_LIBRARY.get_or_init(|| open(CUBLASLT, CUBLASLT_SET, CUBLASLT_GET))
}

fn open(file: &str, set: &str, get: &str) -> Library {
    Library::open(&find::library(file), set, get).unwrap_or_else(|e| panic!("{e}"))
}

/// Has a child process run on the mocks: they are loaded before the program begins, and
/// `SLIMPIPE_NCCL` names the mock NCCL, since slimpipe looks for `libnccl.so.2` first. Settings go by
/// environment variables.
pub fn preload(command: &mut Command) -> &mut Command {
    let (cuda, nccl) = (find::library(CUDA), find::library(NCCL));
    let list = [cuda.as_os_str(), nccl.as_os_str()].join(OsStr::new(":"));
    command.env("LD_PRELOAD", list).env("SLIMPIPE_NCCL", nccl)
}
