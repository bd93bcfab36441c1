//! What tests ask of the mock.
//!
//! Settings are those of [`settings`]. Besides, `reset` brings back what the environment says and
//! sets counters to 0; `reset_counters` does the latter alone. Texts are `counters`, `fault` (the
//! last failure) and `refusal`.

use std::ffi::{c_char, c_int};

use slimpipe_mock_protocol::control::{Control, write_counters};

use crate::{counters, failure, settings};

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
        _ => None,
    }
}

static CONTROL: Control = Control::new(apply, text);

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
    unsafe { CONTROL.set(name, value) }
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
    unsafe { CONTROL.get(name, out, capacity) }
}
