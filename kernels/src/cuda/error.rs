//! What can go wrong with a GPU, its driver or its compiler.

use super::Version;

/// What can go wrong with a GPU, its driver or its compiler: one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    // -- what the machine lacks --
    /// There is no driver.
    #[error(
        "no NVIDIA driver (libcuda) on this machine; install one for CUDA {} or later, or compute on the CPU",
        super::driver::OLDEST
    )]
    NoDriver,
    /// The driver is older than the kernels need.
    #[error(
        "the NVIDIA driver supports CUDA {found}, and CUDA {needed} is needed; install a newer driver"
    )]
    DriverTooOld {
        /// The newest CUDA it supports.
        found: Version,
        /// What is needed.
        needed: Version,
    },
    /// A library lacks a function.
    #[error(
        "the library {library} has no function {symbol}: it is too old, or not NVIDIA's; install a newer one"
    )]
    MissingSymbol {
        /// The library.
        library: &'static str,
        /// The function.
        symbol: &'static str,
    },
    /// The driver sees no GPU.
    #[error("the NVIDIA driver sees no GPU; look at nvidia-smi and CUDA_VISIBLE_DEVICES")]
    NoGpu,
    /// There are fewer GPUs.
    #[error("there is no GPU {ordinal}: the driver sees {count}, numbered from 0")]
    NoSuchGpu {
        /// The one asked for.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// The GPU lacks what the kernels use.
    #[error(
        "GPU {ordinal} is a {name} of compute capability {capability}; the kernels need {} (H100, H200)",
        super::context::CAPABILITY
    )]
    UnsupportedGpu {
        /// Its number.
        ordinal: u32,
        /// Its name.
        name: String,
        /// Its compute capability.
        capability: Version,
    },

    // -- the driver at work --
    /// No room on the GPU.
    #[error(
        "out of GPU memory: {call} asked for {bytes} bytes; {free} of {total} are free on GPU {ordinal}"
    )]
    OutOfMemory {
        /// The driver's function.
        call: &'static str,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes free.
        free: u64,
        /// Bytes of the GPU.
        total: u64,
        /// Its number.
        ordinal: u32,
    },
    /// A function of the driver failed.
    #[error("{call} failed: {text} ({name}, {code})")]
    Driver {
        /// The function.
        call: &'static str,
        /// The number of the error.
        code: u32,
        /// Its name.
        name: String,
        /// What it means.
        text: String,
    },
    /// A launch whose arguments are not the kernel's parameters.
    #[error("{kernel}: {what}")]
    Launch {
        /// The kernel.
        kernel: &'static str,
        /// What does not fit.
        what: String,
    },
    /// A tensor that no tensor map can describe.
    #[error("tensor map: {0}")]
    TensorMap(String),
    /// A range of addresses that is full.
    #[error("the range of {capacity} bytes reserved on GPU {ordinal} is full")]
    RangeFull {
        /// Its bytes.
        capacity: u64,
        /// The GPU.
        ordinal: u32,
    },
    /// Memory in larger pieces than assumed.
    #[error(
        "the driver gives GPU memory in multiples of {found} bytes, and {assumed} are assumed; report this with the driver's version"
    )]
    Granule {
        /// The driver's.
        found: u64,
        /// What is assumed.
        assumed: u64,
    },

    // -- compiling --
    /// No compiler, and no stored image.
    #[error(
        "NVRTC, which compiles the kernels, was not found ({looked}); install it (pip install nvidia-cuda-nvrtc, or a CUDA toolkit), name it in SLIMPIPE_NVRTC, or name a folder of compiled kernels in SLIMPIPE_KERNEL_PACK"
    )]
    NoCompiler {
        /// What was found instead.
        looked: String,
    },
    /// cuBLASLt was asked for.
    #[error(
        "SLIMPIPE_GEMM asks for cuBLASLt, which was not found ({looked}); install it (pip install nvidia-cublas, or a CUDA toolkit), name it in SLIMPIPE_CUBLASLT, or set SLIMPIPE_GEMM=own"
    )]
    NoCublasLt {
        /// What was found instead.
        looked: String,
    },
    /// Something else was.
    #[error("SLIMPIPE_GEMM is `{named}`; it can be `own` or `cublaslt`")]
    NoSuchProducts {
        /// What it names.
        named: String,
    },
    /// A kernel does not compile.
    #[error("kernel {kernel} does not compile ({what}):\n{log}")]
    Compile {
        /// The kernel and its constants.
        kernel: String,
        /// What NVRTC says in short.
        what: String,
        /// Its log.
        log: String,
    },
    /// A source includes a header that is not embedded.
    #[error("{source_name} includes {header}, which is no embedded header")]
    NoHeader {
        /// The source or header.
        source_name: String,
        /// What it includes.
        header: String,
    },
}

/// Shorthand for a result of this module.
pub type Result<T, E = CudaError> = std::result::Result<T, E>;
