//! What tests ask of the mock.
//!
//! Settings are those of [`settings`]. Besides, `reset` brings back what the environment says and
//! sets counters to 0; `reset_counters` does the latter alone. Texts are `counters`, `fault` (the
//! last failure) and `refusal`.

use std::{
    ffi::{c_char, c_int},
    sync::Mutex,
};

use slimpipe_mock_protocol::{
    control::{give, take, write_counters},
    guard::guarded,
};

use crate::{counters, failure, settings};

/// Why the last setting was refused.
static REFUSAL: Mutex<String> = Mutex::new(String::new());

fn apply(name: &str, value: &str) -> Result<(), String> {
    match name {
        "reset" => {
            settings::reset();
            counters::reset();
            failure::forget();
        }
        "reset_counters" => counters::reset(),
        _ => return settings::set(name, value),
    }
    Ok(())
}

fn text(name: &str) -> Option<String> {
    match name {
        "counters" => Some(write_counters(&counters::all())),
        "fault" => Some(failure::last()),
        "refusal" => Some(REFUSAL.lock().unwrap_or_else(|e| e.into_inner()).clone()),
        _ => None,
    }
}

/// See [`slimpipe_mock_protocol::control::Set`].
///
/// # Safety
/// Both must be NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slimpipe_mock_nccl_set(
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    // SAFETY: promised by the caller.
    let done = guarded(|| unsafe { apply(take(name)?, take(value)?) });
    match done.unwrap_or_else(Err) {
        Ok(()) => 0,
        Err(refusal) => {
            *REFUSAL.lock().unwrap_or_else(|e| e.into_inner()) = refusal;
            1
        }
    }
}

/// See [`slimpipe_mock_protocol::control::Get`].
///
/// # Safety
/// `name` must be NUL-terminated, `out` have room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slimpipe_mock_nccl_get(
    name: *const c_char,
    out: *mut c_char,
    capacity: usize,
) -> usize {
    // SAFETY: promised by the caller.
    guarded(|| unsafe { give(text(take(name).unwrap_or_default()), out, capacity) })
        .unwrap_or(usize::MAX)
}
