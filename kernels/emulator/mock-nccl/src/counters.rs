//! How often what was done.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, MutexGuard},
};

static COUNTERS: LazyLock<Mutex<BTreeMap<String, u64>>> = LazyLock::new(Mutex::default);

fn counters() -> MutexGuard<'static, BTreeMap<String, u64>> {
    COUNTERS.lock().unwrap_or_else(|e| e.into_inner())
}

/// Counts an operation, by the name of its function, and the bytes of its own buffer.
pub fn count(name: &str, bytes: usize) {
    let mut counters = counters();
    *counters.entry(name.to_owned()).or_default() += 1;
    *counters.entry(format!("{name}.bytes")).or_default() += bytes as u64;
}

/// All counters by name.
pub fn all() -> BTreeMap<String, u64> {
    counters().clone()
}

/// Sets all counters to 0.
pub fn reset() {
    counters().clear();
}
