//! What tests ask of the mock, and the door through which the mock NCCL works on streams.
//!
//! Settings are those of [`settings`]. Besides, `reset` brings back what the environment says, sets
//! counters to 0, releases what hangs and makes contexts sound that have failed; `reset_counters` and `release` do
//! their parts of that. Texts are `counters`, `fault` (the first fault of a context, empty if there
//! is none), `log` (what was wrong with the last module) and `refusal`.

use std::ffi::{c_char, c_int, c_void};

use cudarc::driver::sys::{CUresult, CUstream};
use slimpipe_mock_protocol::{
    control::{Control, take, write_counters},
    driver::{Body, Enqueue, Read, Write},
};

use crate::{
    abi::answer,
    api::{module::LOG, stream},
    context, counters,
    fault::Fault,
    hang,
    memory::{space, transfer},
    settings::{self, MOST_DEVICES},
};

fn apply(name: &str, value: &str) -> Result<(), String> {
    match name {
        "reset" => {
            hang::release();
            settings::reset();
            context::forget_faults();
            counters::reset();
            LOG.lock().unwrap_or_else(|e| e.into_inner()).clear();
        }
        "reset_counters" => counters::reset(),
        "release" => hang::release(),
        _ => return settings::set(name, value),
    }
    Ok(())
}

fn text(name: &str) -> Option<String> {
    match name {
        "counters" => Some(write_counters(&counters::all())),
        "fault" => Some(context::first_fault()),
        "log" => Some(LOG.lock().unwrap_or_else(|e| e.into_inner()).clone()),
        _ => None,
    }
}

static CONTROL: Control = Control::new(apply, text);

/// See [`slimpipe_mock_protocol::control::Set`].
///
/// # Safety
/// Both must be NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slimpipe_mock_cuda_set(
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    // SAFETY: promised by the caller.
    unsafe { CONTROL.set(name, value) }
}

/// See [`slimpipe_mock_protocol::control::Get`].
///
/// # Safety
/// `name` must be NUL-terminated, `out` have room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slimpipe_mock_cuda_get(
    name: *const c_char,
    out: *mut c_char,
    capacity: usize,
) -> usize {
    // SAFETY: promised by the caller.
    unsafe { CONTROL.get(name, out, capacity) }
}

/// What an operation of another library carries along, and the duty to call it.
struct Foreign {
    body: Body,
    data: *mut c_void,
}

// SAFETY: the data is only handed to the body, once, on the stream's thread; that is what `Enqueue`
// asks of whoever passes it.
unsafe impl Send for Foreign {}

impl Foreign {
    fn run(self, alive: bool) {
        // SAFETY: called once, as promised.
        unsafe { (self.body)(self.data, c_int::from(alive)) }
    }
}

/// See [`slimpipe_mock_protocol::driver::Enqueue`].
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slimpipe_mock_cuda_enqueue(
    stream: *mut c_void,
    name: *const c_char,
    body: Body,
    data: *mut c_void,
) -> c_int {
    let enqueued = answer("slimpipe_mock_cuda_enqueue", || {
        let (context, stream) = stream::find(stream as CUstream)?;
        // SAFETY: promised by the caller.
        let name = unsafe { take(name) }.map_err(|_| CUresult::CUDA_ERROR_INVALID_VALUE)?;
        let foreign = Foreign { body, data };
        let run = move |alive| {
            foreign.run(alive);
            Ok(())
        };
        context.submit(&stream, name.to_owned(), Vec::new(), Box::new(run));
        Ok(())
    });
    enqueued as c_int
}

/// Notes the fault of an access from outside in the context whose memory was meant.
fn note(address: u64, done: Result<(), Fault>) -> c_int {
    let Err(fault) = done else { return 0 };
    let code = fault.code as c_int;
    let device = space::find(address).and_then(|(_, mapping)| mapping.device());
    let meant = match device {
        Some(device) => context::active(device),
        None => context::peek_current(),
    };
    match meant.or_else(|| (0..MOST_DEVICES).find_map(context::active)) {
        Some(context) => context.fail(fault),
        None => eprintln!("mock CUDA driver: {}", fault.text),
    }
    code
}

/// See [`slimpipe_mock_protocol::driver::Read`].
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slimpipe_mock_cuda_read(
    source: u64,
    target: *mut c_void,
    bytes: usize,
) -> c_int {
    // SAFETY: promised by the caller.
    note(source, unsafe { transfer::read(target.cast(), source, bytes) })
}

/// See [`slimpipe_mock_protocol::driver::Write`].
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slimpipe_mock_cuda_write(
    target: u64,
    source: *const c_void,
    bytes: usize,
) -> c_int {
    // SAFETY: promised by the caller.
    note(target, unsafe { transfer::write(target, source.cast(), bytes) })
}

/// The exported functions have the types that the mock NCCL expects.
const _: (Enqueue, Read, Write) =
    (slimpipe_mock_cuda_enqueue, slimpipe_mock_cuda_read, slimpipe_mock_cuda_write);
