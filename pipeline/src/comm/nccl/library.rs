//! The library's functions.
//!
//! They are looked up here and not by the bindings, which know the library by one name only and panic
//! without it. The bindings' types are used.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use cudarc::nccl::sys::{
    cudaStream_t, ncclComm_t, ncclConfig_t, ncclDataType_t, ncclRedOp_t, ncclUniqueId,
};
use slimpipe_kernels::cuda::compile::locate::{self, Wanted};

use crate::comm::CommError;

/// The oldest version with all that is used: communicators that do not block, and splits of them.
const OLDEST: [u32; 3] = [2, 18, 1];

/// What a function returns: a number, for a newer library may know more of them than the bindings.
pub(super) type Code = u32;
pub(super) const SUCCESS: Code = 0;
pub(super) const IN_PROGRESS: Code = 7;

macro_rules! functions {
    ($($field:ident = $name:literal: fn($($argument:ty),*);)*) => {
        /// NCCL, loaded. Each function is the library's of that name.
        pub struct Library {
            version: [u32; 3],
            error_string: unsafe extern "C" fn(Code) -> *const c_char,
            last_error: unsafe extern "C" fn(ncclComm_t) -> *const c_char,
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> Code,)*
            /// The functions are good as long as this.
            _library: libloading::Library,
        }

        impl Library {
            fn functions(library: libloading::Library, version: [u32; 3]) -> Result<Self, String> {
                let missing = |name: &str| format!("it has no function {name}");
                // SAFETY: the functions' types are those of NVIDIA's header, as the bindings have them.
                unsafe {
                    Ok(Self {
                        version,
                        error_string: *library
                            .get(b"ncclGetErrorString\0")
                            .map_err(|_| missing("ncclGetErrorString"))?,
                        last_error: *library
                            .get(b"ncclGetLastError\0")
                            .map_err(|_| missing("ncclGetLastError"))?,
                        $($field: *library
                            .get(concat!($name, "\0").as_bytes())
                            .map_err(|_| missing($name))?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    get_unique_id = "ncclGetUniqueId": fn(*mut ncclUniqueId);
    init = "ncclCommInitRankConfig": fn(*mut ncclComm_t, c_int, ncclUniqueId, c_int, *mut ncclConfig_t);
    split = "ncclCommSplit": fn(ncclComm_t, c_int, c_int, *mut ncclComm_t, *mut ncclConfig_t);
    async_error = "ncclCommGetAsyncError": fn(ncclComm_t, *mut Code);
    finalize = "ncclCommFinalize": fn(ncclComm_t);
    destroy = "ncclCommDestroy": fn(ncclComm_t);
    abort = "ncclCommAbort": fn(ncclComm_t);
    group_start = "ncclGroupStart": fn();
    group_end = "ncclGroupEnd": fn();
    send = "ncclSend": fn(*const c_void, usize, ncclDataType_t, c_int, ncclComm_t, cudaStream_t);
    recv = "ncclRecv": fn(*mut c_void, usize, ncclDataType_t, c_int, ncclComm_t, cudaStream_t);
    all_reduce = "ncclAllReduce":
        fn(*const c_void, *mut c_void, usize, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t);
    reduce = "ncclReduce":
        fn(*const c_void, *mut c_void, usize, ncclDataType_t, ncclRedOp_t, c_int, ncclComm_t, cudaStream_t);
    broadcast = "ncclBroadcast":
        fn(*const c_void, *mut c_void, usize, ncclDataType_t, c_int, ncclComm_t, cudaStream_t);
    all_gather = "ncclAllGather":
        fn(*const c_void, *mut c_void, usize, ncclDataType_t, ncclComm_t, cudaStream_t);
    reduce_scatter = "ncclReduceScatter":
        fn(*const c_void, *mut c_void, usize, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t);
}

impl Library {
    /// The library of this machine, loaded once.
    ///
    /// # Errors
    /// There is none, or none that is new enough.
    pub fn load() -> Result<&'static Self, CommError> {
        static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
        let open = || locate::first(Wanted::Nccl, Self::open);
        let library = LIBRARY.get_or_init(open).as_ref();
        library.map_err(|what| CommError::NoNccl { what: what.clone() })
    }

    fn open(path: &std::path::Path) -> Result<Self, String> {
        // SAFETY: NVIDIA's library; its initialisation has no requirements.
        let library =
            unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
        let mut number = 0;
        {
            type GetVersion = unsafe extern "C" fn(*mut c_int) -> Code;
            // SAFETY: the function's type; it writes one integer.
            let get = unsafe { library.get::<GetVersion>(b"ncclGetVersion\0") };
            let get = get.map_err(|_| "it has no function ncclGetVersion".to_owned())?;
            // SAFETY: as above.
            unsafe { get(&mut number) };
        }
        let number = number.max(0) as u32;
        let version = [number / 10_000, number / 100 % 100, number % 100];
        if version < OLDEST {
            let text = |[major, minor, patch]: [u32; 3]| format!("{major}.{minor}.{patch}");
            let (found, needed) = (text(version), text(OLDEST));
            return Err(format!("it is NCCL {found}, and {needed} or newer is needed"));
        }
        Self::functions(library, version)
    }

    /// Major, minor, patch.
    pub fn version(&self) -> [u32; 3] {
        self.version
    }

    /// What the library says about `result`, of `comm` or of none (null).
    pub(super) fn explain(&self, result: Code, comm: ncclComm_t) -> String {
        let text = |text: *const c_char| match text.is_null() {
            true => String::new(),
            // SAFETY: the library's strings end with zero, and live until its next call here.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned(),
        };
        // SAFETY: both take any result and any communicator that lives.
        let (kind, last) =
            unsafe { (text((self.error_string)(result)), text((self.last_error)(comm))) };
        if last.is_empty() { kind } else { format!("{kind}: {last}") }
    }

    /// An id for a new communicator. With `NCCL_COMM_ID` set, all processes get the same.
    ///
    /// # Errors
    /// The library finds no network to listen on.
    pub fn unique_id(&self) -> Result<ncclUniqueId, CommError> {
        let mut id = ncclUniqueId { internal: [0; 128] };
        // SAFETY: writes the id.
        match unsafe { (self.get_unique_id)(&mut id) } {
            SUCCESS => Ok(id),
            result => {
                let what = self.explain(result, std::ptr::null_mut());
                Err(CommError::NoNccl { what: format!("it gives no id: {what}") })
            }
        }
    }
}
