//! How a process talks to a mock: three C functions beside those of the library it imitates.
//!
//! Everything said is text: a setting's name and value in, a named text out. Counters are lines of a
//! name, a space and a number.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_int},
    sync::Mutex,
};

use crate::guard::guarded;

/// Changes a setting or asks for an action: name and value, NUL-terminated. Answers 0, or 1 if the
/// mock refused; then the text `refusal` says why.
pub type Set = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;

/// Copies at most the given number of bytes of a named text to the given place; answers the text's
/// whole length, or `usize::MAX` if there is no such text.
pub type Get = unsafe extern "C" fn(*const c_char, *mut c_char, usize) -> usize;

/// Name of the mock driver's [`Set`].
pub const CUDA_SET: &str = "slimpipe_mock_cuda_set";
/// Name of the mock driver's [`Get`].
pub const CUDA_GET: &str = "slimpipe_mock_cuda_get";
/// Name of the mock NCCL's [`Set`].
pub const NCCL_SET: &str = "slimpipe_mock_nccl_set";
/// Name of the mock NCCL's [`Get`].
pub const NCCL_GET: &str = "slimpipe_mock_nccl_get";

/// Name of the mock cuBLASLt's [`Set`].
pub const CUBLASLT_SET: &str = "slimpipe_mock_cublaslt_set";
/// Name of the mock cuBLASLt's [`Get`].
pub const CUBLASLT_GET: &str = "slimpipe_mock_cublaslt_get";

/// Counters as lines of text.
pub fn write_counters(counters: &BTreeMap<String, u64>) -> String {
    counters.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

/// Reads what [`write_counters`] wrote; a line that is none is left out.
pub fn read_counters(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// What a mock lets tests change and read; its [`Set`] and [`Get`] do what this does.
pub struct Control {
    apply: fn(&str, &str) -> Result<(), String>,
    text: fn(&str) -> Option<String>,
    /// Why the last setting was refused: the text `refusal`.
    refusal: Mutex<String>,
}

impl Control {
    /// One whose settings `apply` changes, and whose texts but for `refusal` `text` knows.
    pub const fn new(
        apply: fn(&str, &str) -> Result<(), String>,
        text: fn(&str) -> Option<String>,
    ) -> Control {
        Control { apply, text, refusal: Mutex::new(String::new()) }
    }

    /// What a [`Set`] does.
    ///
    /// # Safety
    /// Both must be NUL-terminated.
    pub unsafe fn set(&self, name: *const c_char, value: *const c_char) -> c_int {
        // SAFETY: promised by the caller.
        let done = guarded(|| unsafe { (self.apply)(take(name)?, take(value)?) });
        match done.unwrap_or_else(Err) {
            Ok(()) => 0,
            Err(refusal) => {
                *self.refusal.lock().unwrap_or_else(|e| e.into_inner()) = refusal;
                1
            }
        }
    }

    /// What a [`Get`] does.
    ///
    /// # Safety
    /// `name` must be NUL-terminated, `out` have room for `capacity` bytes.
    pub unsafe fn get(&self, name: *const c_char, out: *mut c_char, capacity: usize) -> usize {
        let text = |name: &str| match name {
            "refusal" => Some(self.refusal.lock().unwrap_or_else(|e| e.into_inner()).clone()),
            _ => (self.text)(name),
        };
        // SAFETY: promised by the caller.
        guarded(|| unsafe { give(text(take(name).unwrap_or_default()), out, capacity) })
            .unwrap_or(usize::MAX)
    }
}

/// The answer of a [`Get`].
///
/// # Safety
/// `out` must have room for `capacity` bytes.
unsafe fn give(text: Option<String>, out: *mut c_char, capacity: usize) -> usize {
    let Some(text) = text else { return usize::MAX };
    // SAFETY: no more than the room that the caller promises.
    unsafe { out.copy_from_nonoverlapping(text.as_ptr().cast(), text.len().min(capacity)) };
    text.len()
}

/// A NUL-terminated name or value as text.
///
/// # Safety
/// `text` must be NUL-terminated and live as long as the answer is used.
pub unsafe fn take<'a>(text: *const c_char) -> Result<&'a str, String> {
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| "a text that is no UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_they_are_written() {
        let counters = BTreeMap::from([("copies".to_owned(), 3), ("launches.a b".to_owned(), 1)]);
        assert_eq!(read_counters(&write_counters(&counters)), counters);
    }
}
