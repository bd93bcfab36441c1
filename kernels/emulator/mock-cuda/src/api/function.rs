//! Attributes of functions.

use std::{
    ffi::c_int,
    sync::{Arc, atomic::Ordering},
};

use cudarc::driver::sys::{CUfunc_cache, CUfunction, CUfunction_attribute, CUresult};
use slimpipe_mock_protocol::handles::Handles;

use crate::{
    abi::{driver_functions, put},
    facts,
    module::Function,
};

/// Functions by handle.
pub static FUNCTIONS: Handles<Function> = Handles::new();

/// The function of a handle.
///
/// # Errors
/// A handle that is none, or was in a module that is gone.
pub fn find(handle: CUfunction) -> Result<Arc<Function>, CUresult> {
    FUNCTIONS.get(handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

driver_functions! {
    fn cuFuncGetAttribute(
        value: *mut c_int, attribute: CUfunction_attribute, function: CUfunction,
    ) {
        use CUfunction_attribute::*;
        let function = find(function)?;
        let kernel = &function.kernel;
        let cluster = kernel.cluster().unwrap_or([0; 3]);
        put(value, match attribute {
            CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK => kernel.max_threads() as c_int,
            CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES => kernel.static_shared() as c_int,
            CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES => kernel.local_bytes() as c_int,
            CU_FUNC_ATTRIBUTE_NUM_REGS => function.registers() as c_int,
            CU_FUNC_ATTRIBUTE_PTX_VERSION | CU_FUNC_ATTRIBUTE_BINARY_VERSION => {
                function.module.version as c_int
            }
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                function.most_dynamic_shared.load(Ordering::Relaxed) as c_int
            }
            CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => -1,
            CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH => cluster[0] as c_int,
            CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT => cluster[1] as c_int,
            CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH => cluster[2] as c_int,
            CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED => {
                c_int::from(function.non_portable_cluster.load(Ordering::Relaxed))
            }
            _ => 0,
        })
    }

    fn cuFuncSetAttribute(
        function: CUfunction, attribute: CUfunction_attribute, value: c_int,
    ) {
        use CUfunction_attribute::*;
        let function = find(function)?;
        match attribute {
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                let static_shared = function.kernel.static_shared();
                let most = facts::SHARED_PER_BLOCK_OPTIN as u32 - static_shared;
                let value = u32::try_from(value).ok().filter(|value| *value <= most);
                let value = value.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
                function.most_dynamic_shared.store(value, Ordering::Relaxed);
                Ok(())
            }
            CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED => {
                function.non_portable_cluster.store(value != 0, Ordering::Relaxed);
                Ok(())
            }
            CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
            | CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE => Ok(()),
            _ => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        }
    }

    fn cuFuncSetCacheConfig(function: CUfunction, _config: CUfunc_cache) {
        find(function).map(|_| ())
    }

    fn cuFuncGetParamInfo(
        function: CUfunction, index: usize, offset: *mut usize, bytes: *mut usize,
    ) {
        let function = find(function)?;
        let param = function.kernel.params().get(index);
        let param = param.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        put(offset, param.offset)?;
        if bytes.is_null() { Ok(()) } else { put(bytes, param.bytes) }
    }
}
