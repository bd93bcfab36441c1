//! The library's functions, looked up where `doctor` finds it: the bindings know it by one name and panic
//! without it. Their types are used.

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t, cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t, cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t,
    cudaDataType, cudaStream_t,
};

use crate::cuda::compile::locate::{self, Wanted};
use crate::cuda::error::{CudaError, Result};

/// What a function returns: a number, for another version may know more of them than the bindings.
pub type Code = u32;

macro_rules! functions {
    ($($field:ident = $name:literal: fn($($argument:ty),* $(,)?);)*) => {
        /// cuBLASLt, loaded. Each function is the library's of that name.
        pub struct Library {
            $(pub $field: unsafe extern "C" fn($($argument),*) -> Code,)*
            /// The functions are good as long as this.
            _library: libloading::Library,
        }

        impl Library {
            fn functions(library: libloading::Library) -> std::result::Result<Self, String> {
                // SAFETY: the functions' types are those of NVIDIA's header, as the bindings have them.
                unsafe {
                    Ok(Self {
                        $($field: *library
                            .get(concat!($name, "\0").as_bytes())
                            .map_err(|_| concat!("it has no function ", $name))?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    create = "cublasLtCreate": fn(*mut cublasLtHandle_t);
    matmul = "cublasLtMatmul": fn(
        cublasLtHandle_t, cublasLtMatmulDesc_t, *const c_void,
        *const c_void, cublasLtMatrixLayout_t, *const c_void, cublasLtMatrixLayout_t, *const c_void,
        *const c_void, cublasLtMatrixLayout_t, *mut c_void, cublasLtMatrixLayout_t,
        *const cublasLtMatmulAlgo_t, *mut c_void, usize, cudaStream_t,
    );
    heuristic = "cublasLtMatmulAlgoGetHeuristic": fn(
        cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
        cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, c_int,
        *mut cublasLtMatmulHeuristicResult_t, *mut c_int,
    );
    product_create = "cublasLtMatmulDescCreate":
        fn(*mut cublasLtMatmulDesc_t, cublasComputeType_t, cudaDataType);
    product_set = "cublasLtMatmulDescSetAttribute":
        fn(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, *const c_void, usize);
    layout_create = "cublasLtMatrixLayoutCreate":
        fn(*mut cublasLtMatrixLayout_t, cudaDataType, u64, u64, i64);
    layout_set = "cublasLtMatrixLayoutSetAttribute":
        fn(cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, *const c_void, usize);
    preference_create = "cublasLtMatmulPreferenceCreate": fn(*mut cublasLtMatmulPreference_t);
    preference_set = "cublasLtMatmulPreferenceSetAttribute":
        fn(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, *const c_void, usize);
    preference_destroy = "cublasLtMatmulPreferenceDestroy": fn(cublasLtMatmulPreference_t);
}

impl Library {
    fn open(path: &Path) -> std::result::Result<Self, String> {
        // SAFETY: NVIDIA's library; its initialisation has no requirements.
        let library =
            unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
        Self::functions(library)
    }

    /// The library of this machine, loaded once.
    ///
    /// # Errors
    /// There is none, or it lacks a function; the text says what was looked for.
    pub fn load() -> std::result::Result<&'static Self, String> {
        static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();
        let open = || locate::first(Wanted::CublasLt, Self::open);
        LIBRARY.get_or_init(open).as_ref().map_err(String::clone)
    }
}

/// The result of a call.
///
/// # Errors
/// It is not success.
pub fn check(call: &'static str, code: Code) -> Result<()> {
    let (name, text) = match code {
        0 => return Ok(()),
        1 => {
            ("CUBLAS_STATUS_NOT_INITIALIZED", "cuBLASLt cannot begin: no driver, or no memory left")
        }
        3 => ("CUBLAS_STATUS_ALLOC_FAILED", "no memory left for cuBLASLt"),
        7 => ("CUBLAS_STATUS_INVALID_VALUE", "an argument is impossible"),
        8 => ("CUBLAS_STATUS_ARCH_MISMATCH", "the GPU is too old for it"),
        13 => ("CUBLAS_STATUS_EXECUTION_FAILED", "the GPU could not run the product"),
        15 => ("CUBLAS_STATUS_NOT_SUPPORTED", "no algorithm does it"),
        _ => ("CUBLAS_STATUS", "SLIMPIPE_GEMM=own computes products without cuBLASLt"),
    };
    Err(CudaError::Driver { call, code, name: name.to_owned(), text: text.to_owned() })
}
