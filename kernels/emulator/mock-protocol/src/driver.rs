//! What other mocks ask of the mock driver, by name, as the real libraries find their driver.

use std::ffi::{c_char, c_int, c_void};

/// The body of an operation on a stream: called exactly once, on the stream's thread. The number is
/// 0 if the operation must not run because the context has failed; then `data` is only to be freed.
pub type Body = unsafe extern "C" fn(data: *mut c_void, runs: c_int);

/// Puts an operation on a stream of the current context: stream, name (NUL-terminated), body, its
/// data. Answers a driver's result; if that is not 0 the body has not been and will not be called.
pub type Enqueue = unsafe extern "C" fn(*mut c_void, *const c_char, Body, *mut c_void) -> c_int;

/// Copies bytes from a device's memory to host memory: device address, host address, bytes. A bad
/// address is a fault of its context, as a kernel's would be; the answer is then not 0.
pub type Read = unsafe extern "C" fn(u64, *mut c_void, usize) -> c_int;

/// Copies bytes from host memory to a device's memory: device address, host address, bytes.
/// Otherwise like [`Read`].
pub type Write = unsafe extern "C" fn(u64, *const c_void, usize) -> c_int;

/// Name of the function of type [`Enqueue`].
pub const ENQUEUE: &str = "slimpipe_mock_cuda_enqueue";
/// Name of the function of type [`Read`].
pub const READ: &str = "slimpipe_mock_cuda_read";
/// Name of the function of type [`Write`].
pub const WRITE: &str = "slimpipe_mock_cuda_write";
