//! Functions that cudarc's wrappers can call and the mock does not imitate: each says so on stderr
//! and answers `CUDA_ERROR_NOT_SUPPORTED`. What cudarc only declares is not exported at all; there
//! cudarc itself names the missing symbol.

/// Exports functions that answer `CUDA_ERROR_NOT_SUPPORTED`. They take no arguments: in C's calling
/// conventions the caller removes what it passed.
macro_rules! unsupported {
    ($($name:ident),* $(,)?) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> cudarc::driver::sys::CUresult {
            $crate::abi::answer(stringify!($name), || {
                eprintln!("mock CUDA driver: {} is not imitated", stringify!($name));
                Err(cudarc::driver::sys::CUresult::CUDA_ERROR_NOT_SUPPORTED)
            })
        }
        // The function exists under this name.
        const _: *const () = cudarc::driver::sys::$name as *const ();
    )*};
}

unsupported! {
    cuCtxCreate_v4,
    cuCtxDestroy_v2,
    cuCtxDisablePeerAccess,
    cuCtxEnablePeerAccess,
    cuDestroyExternalMemory,
    cuExternalMemoryGetMappedBuffer,
    cuGraphClone,
    cuGraphDestroy,
    cuGraphExecDestroy,
    cuGraphInstantiateWithFlags,
    cuGraphLaunch,
    cuGraphUpload,
    cuImportExternalMemory,
    cuLaunchCooperativeKernel,
    cuMemAdvise_v2,
    cuMemAllocManaged,
    cuMemExportToShareableHandle,
    cuMemGetAllocationPropertiesFromHandle,
    cuMemImportFromShareableHandle,
    cuMemPrefetchAsync_v2,
    cuMemcpy2DAsync_v2,
    cuMulticastCreate,
    cuPointerGetAttributes,
    cuProfilerStart,
    cuProfilerStop,
    cuStreamAttachMemAsync,
    cuStreamBeginCapture_v2,
    cuStreamEndCapture,
}
