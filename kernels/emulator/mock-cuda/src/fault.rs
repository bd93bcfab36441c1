//! Why a context has failed.

use cudarc::driver::sys::CUresult;

/// The first thing that went wrong on a device. All later calls in its context answer `code`.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What the driver's functions answer from then on.
    pub code: CUresult,
    /// What happened and where; the driver does not tell, the mock does.
    pub text: String,
}

impl Fault {
    /// An access to memory that is not there.
    pub fn illegal_address(text: impl Into<String>) -> Fault {
        Fault { code: CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, text: text.into() }
    }

    /// A kernel that came to a bad end.
    pub fn launch_failed(text: impl Into<String>) -> Fault {
        Fault { code: CUresult::CUDA_ERROR_LAUNCH_FAILED, text: text.into() }
    }
}
