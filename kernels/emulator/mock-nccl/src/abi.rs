//! The border to C: what every exported function has around its body.

use cudarc::nccl::sys::ncclResult_t;
use slimpipe_mock_protocol::guard::guarded;

use crate::failure::{Failure, note};

/// What the body of a function gives: a success of some kind, or what is wrong.
pub type Answer = Result<ncclResult_t, Failure>;

/// It is done.
pub const DONE: Answer = Ok(ncclResult_t::ncclSuccess);

/// It has begun; `ncclCommGetAsyncError` tells when it is done.
pub const BEGUN: Answer = Ok(ncclResult_t::ncclInProgress);

/// The result of a function of NCCL. A panic is a defect of the mock: it is told and becomes an
/// error.
pub fn answer(name: &str, body: impl FnOnce() -> Answer) -> ncclResult_t {
    let panicked = |panic| {
        let code = ncclResult_t::ncclInternalError;
        let text = format!("the mock failed inside: {panic}");
        eprintln!("mock NCCL: {name}: {text}");
        Err(Failure { code, text })
    };
    guarded(body).unwrap_or_else(panicked).unwrap_or_else(|failure| {
        let code = failure.code;
        note(&Failure { text: format!("{name}: {}", failure.text), ..failure });
        code
    })
}

/// Writes a result where the caller wants it.
///
/// # Errors
/// A null pointer.
///
/// # Safety
/// A pointer that is not null must be good for writing a `T`.
pub unsafe fn put<T>(place: *mut T, value: T) -> Answer {
    if place.is_null() {
        return Err(Failure::argument("a null pointer for a result"));
    }
    // SAFETY: promised by the caller.
    unsafe { place.write(value) };
    DONE
}

/// Exports functions of NCCL. Bodies are `Answer`s; each signature is checked against the one that
/// cudarc calls.
macro_rules! nccl_functions {
    ($($(#[$attribute:meta])*
       fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$attribute])*
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> cudarc::nccl::sys::ncclResult_t {
            $crate::abi::answer(stringify!($name), || {
                // SAFETY: a caller of NCCL vouches for the pointers that it passes.
                #[allow(unused_unsafe)]
                unsafe { $body }
            })
        }
        const _: unsafe fn($($type),*) -> cudarc::nccl::sys::ncclResult_t =
            cudarc::nccl::sys::$name;
    )*};
}

pub(crate) use nccl_functions;
