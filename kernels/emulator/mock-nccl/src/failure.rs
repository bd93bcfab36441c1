//! What went wrong, as NCCL tells it: a code, and a text for `ncclGetLastError`.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString},
    sync::Mutex,
};

use cudarc::nccl::sys::ncclResult_t;
use slimpipe_mock_protocol::door::Refusal;

/// Why a call or an operation failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// NCCL's code.
    pub code: ncclResult_t,
    /// What happened, which ranks are concerned.
    pub text: String,
}

impl Failure {
    /// A call with an argument that cannot be.
    pub fn argument(text: impl Into<String>) -> Failure {
        Failure { code: ncclResult_t::ncclInvalidArgument, text: text.into() }
    }

    /// A call that does not fit what other calls or ranks do.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { code: ncclResult_t::ncclInvalidUsage, text: text.into() }
    }

    /// Another rank is gone.
    pub fn remote(text: impl Into<String>) -> Failure {
        Failure { code: ncclResult_t::ncclRemoteError, text: text.into() }
    }

    /// The system refuses.
    pub fn system(text: impl Into<String>) -> Failure {
        Failure { code: ncclResult_t::ncclSystemError, text: text.into() }
    }

    /// The driver refuses.
    pub fn driver(text: impl Into<String>) -> Failure {
        Failure { code: ncclResult_t::ncclUnhandledCudaError, text: text.into() }
    }
}

impl From<Refusal> for Failure {
    fn from(Refusal(text): Refusal) -> Failure {
        Failure::driver(text)
    }
}

/// The last failure of the process.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Notes a failure for `ncclGetLastError`.
pub fn note(failure: &Failure) {
    *LAST.lock().unwrap_or_else(|e| e.into_inner()) = failure.text.clone();
}

/// Forgets the last failure.
pub fn forget() {
    LAST.lock().unwrap_or_else(|e| e.into_inner()).clear();
}

/// The text of the last failure.
pub fn last() -> String {
    LAST.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

/// A text that lives for good, since callers keep pointers to it. Each text is kept once.
pub fn keep(text: &str) -> &'static CStr {
    static TEXTS: Mutex<BTreeSet<&'static CStr>> = Mutex::new(BTreeSet::new());
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    let mut texts = TEXTS.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(kept) = texts.get(text.as_c_str()) {
        return kept;
    }
    let kept: &'static CStr = Box::leak(text.into_boxed_c_str());
    texts.insert(kept);
    kept
}
