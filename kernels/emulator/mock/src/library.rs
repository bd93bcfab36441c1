//! A mock that was opened.

use std::{
    ffi::{CString, c_char},
    fmt::Display,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use libloading::os::unix::{Library as Open, RTLD_LOCAL, RTLD_NOW};
use slimpipe_mock_protocol::control::{Get, Set};

use crate::counters::Counters;

/// A mock of this process. It stays open until the process ends.
#[derive(Debug)]
pub struct Library {
    set: Set,
    get: Get,
    alone: Mutex<()>,
}

/// Keeps other tests of the process off a mock. When it goes, the mock is as it was in the
/// beginning.
#[derive(Debug)]
pub struct Alone<'a> {
    library: &'a Library,
    _lock: MutexGuard<'a, ()>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.library.set("reset", "");
    }
}

impl Library {
    pub(crate) fn open(path: &Path, set: &str, get: &str) -> Result<Library, String> {
        let failed = |e: libloading::Error| format!("{}: {e}", path.display());
        // SAFETY: the mock has no initialisers that could do harm, and stays open for good, so that
        // the functions stay where they are. They have the types of the protocol.
        unsafe {
            let library = Open::open(Some(path), RTLD_NOW | RTLD_LOCAL).map_err(failed)?;
            let set = *library.get::<Set>(set).map_err(failed)?;
            let get = *library.get::<Get>(get).map_err(failed)?;
            std::mem::forget(library);
            Ok(Library { set, get, alone: Mutex::new(()) })
        }
    }

    /// Waits until no other test has the mock, and begins with it afresh: settings as the
    /// environment has them, counters at 0, nothing that hangs or has failed. Contexts, and memory
    /// that nobody freed, stay.
    pub fn alone(&self) -> Alone<'_> {
        let lock = self.alone.lock().unwrap_or_else(|e| e.into_inner());
        self.set("reset", "");
        Alone { library: self, _lock: lock }
    }

    /// Changes a setting or asks for an action. Their names are those of the mock's own
    /// documentation.
    ///
    /// # Panics
    /// If the mock refuses, with the reason.
    pub fn set(&self, name: &str, value: impl Display) {
        let text = |s: String| CString::new(s).expect("a setting without NUL");
        let (c_name, value) = (text(name.to_owned()), text(value.to_string()));
        // SAFETY: both are NUL-terminated.
        let refused = unsafe { (self.set)(c_name.as_ptr(), value.as_ptr()) } != 0;
        assert!(!refused, "the mock refused {name}: {}", self.text("refusal"));
    }

    /// Lets operations go on that hang by a planted fault.
    pub fn release(&self) {
        self.set("release", "");
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        Counters::read(&self.text("counters"))
    }

    /// The first fault, if there was one: what happened and where.
    pub fn fault(&self) -> Option<String> {
        Some(self.text("fault")).filter(|text| !text.is_empty())
    }

    /// A text of the mock.
    ///
    /// # Panics
    /// If it has none of that name.
    pub fn text(&self, name: &str) -> String {
        let c_name = CString::new(name).expect("a name without NUL");
        let mut bytes = Vec::new();
        loop {
            let out = bytes.as_mut_ptr() as *mut c_char;
            // SAFETY: the name is NUL-terminated and `out` has room for as much as is said.
            let length = unsafe { (self.get)(c_name.as_ptr(), out, bytes.len()) };
            assert_ne!(length, usize::MAX, "the mock has no text called {name}");
            if length <= bytes.len() {
                bytes.truncate(length);
                return String::from_utf8_lossy(&bytes).into_owned();
            }
            bytes.resize(length, 0);
        }
    }
}
