//! The driver's library, behind a gate.
//!
//! The bindings panic if the library or one of its functions is missing, so nothing calls them before
//! [`load`] has seen that all is there.

use std::ffi::CStr;
use std::sync::OnceLock;

use cudarc::driver::sys::{self, CUresult};

use super::error::{CudaError, Result};
use super::version::Version;

/// The oldest CUDA whose driver has what is used: tensor maps, and parameters of more than 4 KiB, in which attention's
/// lists of chunks go.
pub(super) const OLDEST: Version = Version(12, 1);

/// All functions of the driver that are called.
const FUNCTIONS: &[&str] = &[
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAddressFree",
    "cuMemAddressReserve",
    "cuMemCreate",
    "cuMemFreeHost",
    "cuMemGetAllocationGranularity",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemMap",
    "cuMemRelease",
    "cuMemSetAccess",
    "cuMemUnmap",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD16Async",
    "cuMemsetD32Async",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamCreateWithPriority",
    "cuStreamDestroy_v2",
    "cuStreamQuery",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuTensorMapEncodeTiled",
];

/// A driver that was initialised.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// The newest CUDA it supports.
    pub version: Version,
    /// How many GPUs it sees.
    pub gpus: u32,
}

/// The driver of this machine, initialised. That there is none is known after the first call.
///
/// # Errors
/// No library, one that lacks functions, a driver that is too old or does not start, or no GPU.
pub fn load() -> Result<Driver> {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    if let Some(driver) = DRIVER.get() {
        return Ok(*driver);
    }
    let driver = start()?;
    Ok(*DRIVER.get_or_init(|| driver))
}

fn start() -> Result<Driver> {
    // SAFETY: loads the library and lets go of it; the driver's own code may run as in any program.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    if let Some(symbol) = FUNCTIONS.iter().find(|name| !has(name)) {
        return Err(CudaError::MissingSymbol { library: "libcuda", symbol });
    }
    let mut version = 0;
    // SAFETY: the function may be called before cuInit, and writes one int.
    check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut version) })?;
    let version = Version((version / 1000) as u32, (version % 1000 / 10) as u32);
    if version < OLDEST {
        return Err(CudaError::DriverTooOld { found: version, needed: OLDEST });
    }
    // SAFETY: no requirements.
    match unsafe { sys::cuInit(0) } {
        CUresult::CUDA_ERROR_NO_DEVICE => return Err(CudaError::NoGpu),
        result => check("cuInit", result)?,
    }
    let mut count = 0;
    // SAFETY: writes one int.
    check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&mut count) })?;
    match count {
        0 => Err(CudaError::NoGpu),
        _ => Ok(Driver { version, gpus: count as u32 }),
    }
}

/// Whether the library has a function of that name.
fn has(name: &str) -> bool {
    // SAFETY: only the address is looked up; called once it is known that the library loads.
    unsafe { sys::culib().get::<*const ()>(name.as_bytes()).is_ok() }
}

/// A function that older drivers lack, or that these bindings do not name.
///
/// # Safety
/// `F` is the type of the function `name`, and [`load`] has succeeded.
pub(super) unsafe fn function<F: Copy>(name: &str) -> Option<F> {
    // SAFETY: as the caller promises.
    unsafe { sys::culib().get::<F>(name.as_bytes()).ok().map(|function| *function) }
}

/// An error that says what `call` returned, unless that is success.
pub(super) fn check(call: &'static str, result: CUresult) -> Result<()> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let text = |ask: unsafe fn(CUresult, *mut *const std::ffi::c_char) -> CUresult| {
        let mut text = std::ptr::null();
        // SAFETY: writes one pointer: null, or to a string that lives as long as the library.
        let known = unsafe { ask(result, &mut text) } == CUresult::CUDA_SUCCESS && !text.is_null();
        // SAFETY: as above.
        known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    let name = text(sys::cuGetErrorName).unwrap_or_else(|| "an error without a name".to_owned());
    let text = text(sys::cuGetErrorString).unwrap_or_default();
    Err(CudaError::Driver { call, code: result as u32, name, text })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn loading_the_driver_gives_one_line_or_at_least_one_gpu_whatever_the_machine() {
        match load() {
            Ok(driver) => assert!(driver.gpus > 0 && driver.version >= OLDEST, "{driver:?}"),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }

    #[test]
    fn the_gate_asks_for_the_functions_that_are_called_and_no_others() {
        let mut called = BTreeSet::from(["cuEventElapsedTime".to_owned()]); // by its name
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                for call in std::fs::read_to_string(path).unwrap().split("sys::cu").skip(1) {
                    let end = call.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
                    called.insert(format!("cu{}", &call[..end]));
                }
            }
        }
        // cuBLASLt is another library.
        called.retain(|name| name != "cu" && name != "culib" && !name.starts_with("cublas"));
        let asked: BTreeSet<String> = FUNCTIONS.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(called, asked);
        assert!(FUNCTIONS.is_sorted_by(|a, b| a < b));
    }
}
