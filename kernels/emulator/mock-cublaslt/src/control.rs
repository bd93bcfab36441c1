//! What tests ask of the mock.
//!
//! The setting `algorithms` is how many the heuristic finds: 1, or 0. `reset` brings that back and counters
//! to 0. Texts are `counters` (of which there is one, `products`), `fault` (the last refusal of a call) and
//! `refusal`.

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use slimpipe_mock_protocol::control::Control;

/// How many algorithms the heuristic finds.
pub static ALGORITHMS: AtomicUsize = AtomicUsize::new(1);
/// Products that were put on streams.
pub static PRODUCTS: AtomicU64 = AtomicU64::new(0);
static FAULT: Mutex<String> = Mutex::new(String::new());

fn fault() -> MutexGuard<'static, String> {
    FAULT.lock().unwrap_or_else(|e| e.into_inner())
}

/// Notes why a call was refused.
pub fn note(what: &str) {
    eprintln!("mock cuBLASLt: {what}");
    *fault() = what.to_owned();
}

fn apply(name: &str, value: &str) -> Result<(), String> {
    match name {
        "reset" => {
            ALGORITHMS.store(1, Ordering::Relaxed);
            PRODUCTS.store(0, Ordering::Relaxed);
            fault().clear();
        }
        "algorithms" => {
            let count = value.parse().map_err(|_| format!("algorithms = {value}: no number"))?;
            ALGORITHMS.store(count, Ordering::Relaxed);
        }
        _ => return Err(format!("no setting {name}")),
    }
    Ok(())
}

fn text(name: &str) -> Option<String> {
    match name {
        "counters" => Some(format!("products {}\n", PRODUCTS.load(Ordering::Relaxed))),
        "fault" => Some(fault().clone()),
        _ => None,
    }
}

static CONTROL: Control = Control::new(apply, text);

/// See [`slimpipe_mock_protocol::control::Set`].
///
/// # Safety
/// Both must be NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slimpipe_mock_cublaslt_set(
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
pub unsafe extern "C" fn slimpipe_mock_cublaslt_get(
    name: *const c_char,
    out: *mut c_char,
    capacity: usize,
) -> usize {
    // SAFETY: promised by the caller.
    unsafe { CONTROL.get(name, out, capacity) }
}
