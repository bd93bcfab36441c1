//! Operations that never end, until a test lets them.

use std::sync::{Condvar, Mutex};

/// How often hanging operations were released.
static RELEASES: Mutex<u64> = Mutex::new(0);
static RELEASED: Condvar = Condvar::new();

/// Keeps the calling thread until the next release.
pub fn until_released() {
    let mut releases = RELEASES.lock().unwrap_or_else(|e| e.into_inner());
    let before = *releases;
    while *releases == before {
        releases = RELEASED.wait(releases).unwrap_or_else(|e| e.into_inner());
    }
}

/// Lets all go that hang now.
pub fn release() {
    *RELEASES.lock().unwrap_or_else(|e| e.into_inner()) += 1;
    RELEASED.notify_all();
}
