//! Loading images and finding functions in them.

use std::{
    ffi::{CStr, c_char, c_uint, c_void},
    sync::{Arc, Mutex},
};

use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUjit_option, CUmodule, CUresult};
use slimpipe_mock_protocol::handles::Handles;

use super::function::FUNCTIONS;
use crate::{
    abi::{Answer, driver_functions, put},
    context,
    counters::{Count, count},
    module::{Module, Refused},
};

/// Modules by handle.
static MODULES: Handles<Module> = Handles::new();

/// What was wrong with the last image that was not loaded.
pub static LOG: Mutex<String> = Mutex::new(String::new());

fn find(handle: CUmodule) -> Result<Arc<Module>, CUresult> {
    MODULES.get(handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

/// Beginnings of images that are machine code: ELF, and fat binaries in both byte orders' order of
/// the driver's.
const MACHINE_CODE: [[u8; 4]; 2] = [*b"\x7fELF", [0x50, 0xED, 0x55, 0xBA]];

/// Loads an image.
///
/// # Safety
/// It must be PTX that ends in NUL, or machine code of at least 4 bytes.
unsafe fn load(image: *const c_void) -> Result<CUmodule, Refused> {
    let refused = |code, text: &str| Refused { code, text: text.into() };
    let context = context::current().map_err(|code| refused(code, "no sound context"))?;
    if image.is_null() {
        return Err(refused(CUresult::CUDA_ERROR_INVALID_VALUE, "no image"));
    }
    // SAFETY: promised by the caller; text that is shorter ends in NUL before.
    let image = unsafe { CStr::from_ptr(image.cast()) }.to_bytes();
    if MACHINE_CODE.iter().any(|magic| image.starts_with(magic)) {
        let text = "machine code, which the mock cannot run: load PTX (SLIMPIPE_KERNEL_IMAGE=ptx)";
        return Err(refused(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, text));
    }
    let text = std::str::from_utf8(image)
        .map_err(|_| refused(CUresult::CUDA_ERROR_INVALID_IMAGE, "neither PTX nor machine code"))?;
    let module = Module::load(context, text)?;
    count(Count::ModuleLoad);
    Ok(MODULES.add(Arc::new(module)))
}

/// Loads an image and tells why not, if not.
///
/// # Safety
/// As [`load`]; the place must be null or good for writing.
unsafe fn load_to(place: *mut CUmodule, image: *const c_void) -> Answer {
    // SAFETY: promised by the caller.
    match unsafe { load(image) } {
        // SAFETY: promised by the caller.
        Ok(module) => unsafe { put(place, module) },
        Err(Refused { code, text }) => {
            eprintln!("mock CUDA driver: a module was not loaded: {text}");
            *LOG.lock().unwrap_or_else(|e| e.into_inner()) = text;
            Err(code)
        }
    }
}

driver_functions! {
    fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) {
        load_to(module, image)
    }

    /// Of the options the error log is honoured.
    fn cuModuleLoadDataEx(
        module: *mut CUmodule,
        image: *const c_void,
        number: c_uint,
        options: *mut CUjit_option,
        values: *mut *mut c_void,
    ) {
        let done = load_to(module, image);
        if done.is_err() {
            let option = |wanted| (0..number as usize).find(|i| *options.add(*i) == wanted);
            let buffer = option(CUjit_option::CU_JIT_ERROR_LOG_BUFFER);
            let room = option(CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
            if let (Some(buffer), Some(room)) = (buffer, room) {
                let log = LOG.lock().unwrap_or_else(|e| e.into_inner()).clone();
                let length = log.len().min((*values.add(room) as usize).saturating_sub(1));
                let buffer = (*values.add(buffer)).cast::<u8>();
                buffer.copy_from_nonoverlapping(log.as_ptr(), length);
                buffer.add(length).write(0);
                *values.add(room) = length as *mut c_void;
            }
        }
        done
    }

    fn cuModuleLoad(module: *mut CUmodule, path: *const c_char) {
        let path = CStr::from_ptr(path).to_string_lossy();
        let mut image =
            std::fs::read(&*path).map_err(|_| CUresult::CUDA_ERROR_FILE_NOT_FOUND)?;
        image.push(0);
        load_to(module, image.as_ptr().cast())
    }

    /// Handles of its functions are stale afterwards; launches that were made still run.
    fn cuModuleUnload(module: CUmodule) {
        let module = MODULES.remove(module).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        for handle in module.handles.lock().unwrap_or_else(|e| e.into_inner()).values() {
            FUNCTIONS.remove(*handle as CUfunction);
        }
        Ok(())
    }

    fn cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char) {
        let module = find(module)?;
        let name = CStr::from_ptr(name).to_string_lossy().into_owned();
        let mut handles = module.handles.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = handles.get(&name) {
            return put(function, *known as CUfunction);
        }
        let found = module.function(&name).ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?;
        let handle: CUfunction = FUNCTIONS.add(Arc::new(found));
        handles.insert(name, handle as usize);
        put(function, handle)
    }

    /// Variables of modules are not imitated: kernels that have any can use them, programs cannot.
    fn cuModuleGetGlobal_v2(
        _address: *mut CUdeviceptr,
        _bytes: *mut usize,
        module: CUmodule,
        name: *const c_char,
    ) {
        find(module)?;
        let name = CStr::from_ptr(name).to_string_lossy();
        eprintln!("mock CUDA driver: cuModuleGetGlobal({name}) is not imitated");
        Err(CUresult::CUDA_ERROR_NOT_SUPPORTED)
    }
}
