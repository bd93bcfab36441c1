//! The border to C: what every exported function has around its body.

use std::cell::Cell;

use cudarc::driver::sys::CUresult;
use slimpipe_mock_protocol::guard::guarded;

/// What the body of a driver function gives: the code of an error, if any.
pub type Answer = Result<(), CUresult>;

thread_local! {
    /// Whether this thread runs a host function, which must not call the driver.
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Runs a function that a program put on a stream.
pub fn as_host_function(run: impl FnOnce()) {
    IN_HOST_FUNCTION.set(true);
    run();
    IN_HOST_FUNCTION.set(false);
}

/// The result of a driver function. A panic is a defect of the mock: it is told and becomes an error.
pub fn answer(name: &str, body: impl FnOnce() -> Answer) -> CUresult {
    if IN_HOST_FUNCTION.get() {
        eprintln!("mock CUDA driver: {name} was called from a host function on a stream");
        return CUresult::CUDA_ERROR_NOT_PERMITTED;
    }
    match guarded(body) {
        Ok(Ok(())) => CUresult::CUDA_SUCCESS,
        Ok(Err(code)) => code,
        Err(panic) => {
            eprintln!("mock CUDA driver: {name} failed inside: {panic}");
            CUresult::CUDA_ERROR_UNKNOWN
        }
    }
}

/// Writes a result where the caller wants it.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for a null pointer.
///
/// # Safety
/// A pointer that is not null must be good for writing a `T`.
pub unsafe fn put<T>(place: *mut T, value: T) -> Answer {
    if place.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: promised by the caller.
    unsafe { place.write(value) };
    Ok(())
}

/// Exports functions of the driver. Bodies are `Answer`s; each signature is checked against the one
/// that cudarc calls.
macro_rules! driver_functions {
    ($($(#[$attribute:meta])*
       fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$attribute])*
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> cudarc::driver::sys::CUresult {
            $crate::abi::answer(stringify!($name), || {
                // SAFETY: a caller of the driver vouches for the pointers that it passes.
                #[allow(unused_unsafe)]
                unsafe { $body }
            })
        }
        const _: unsafe fn($($type),*) -> cudarc::driver::sys::CUresult =
            cudarc::driver::sys::$name;
    )*};
}

pub(crate) use driver_functions;
