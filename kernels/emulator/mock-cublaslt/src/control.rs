//! What tests ask of the mock.
//!
//! The setting `algorithms` is how many the heuristic finds: 1, or 0. `reset` brings that back and counters
//! to 0. Texts are `counters` (of which there is one, `products`), `fault` (the last refusal of a call) and
//! `refusal`.

use std::ffi::{c_char, c_int};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use slimpipe_mock_protocol::control::{give, take};
use slimpipe_mock_protocol::guard::guarded;

/// How many algorithms the heuristic finds.
pub static ALGORITHMS: AtomicUsize = AtomicUsize::new(1);
/// Products that were put on streams.
pub static PRODUCTS: AtomicU64 = AtomicU64::new(0);
static FAULT: Mutex<String> = Mutex::new(String::new());
static REFUSAL: Mutex<String> = Mutex::new(String::new());

fn text_of(place: &Mutex<String>) -> String {
    place.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

fn put(place: &Mutex<String>, text: &str) {
    text.clone_into(&mut place.lock().unwrap_or_else(|e| e.into_inner()));
}

/// Notes why a call was refused.
pub fn note(fault: &str) {
    eprintln!("mock cuBLASLt: {fault}");
    put(&FAULT, fault);
}

fn apply(name: &str, value: &str) -> Result<(), String> {
    match name {
        "reset" => {
            ALGORITHMS.store(1, Ordering::Relaxed);
            PRODUCTS.store(0, Ordering::Relaxed);
            put(&FAULT, "");
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
        "fault" => Some(text_of(&FAULT)),
        "refusal" => Some(text_of(&REFUSAL)),
        _ => None,
    }
}

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
    let done = guarded(|| unsafe { apply(take(name)?, take(value)?) });
    match done.unwrap_or_else(Err) {
        Ok(()) => 0,
        Err(refusal) => {
            put(&REFUSAL, &refusal);
            1
        }
    }
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
    guarded(|| unsafe { give(text(take(name).unwrap_or_default()), out, capacity) })
        .unwrap_or(usize::MAX)
}
