//! The thread that looks at this process's communicators and ends them all when one fails.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::shared::Shared;
use crate::comm::CommError;

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(20);

static WATCHED: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// Watches a communicator until it is dropped.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn watch(group: &Arc<Shared>) -> Result<(), CommError> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    WATCHED.lock().push(Arc::downgrade(group));
    let start = || {
        let thread = std::thread::Builder::new().name("nccl-watchdog".to_owned());
        thread.spawn(look).map(|_| ()).map_err(|error| error.to_string())
    };
    let started = STARTED.get_or_init(start).clone();
    started.map_err(|reason| CommError::Spawn { rank: group.rank(), reason })
}

fn look() {
    loop {
        std::thread::sleep(PAUSE);
        if let Some(failure) = living().iter().find_map(|group| group.look()) {
            fail_all(&failure);
        }
    }
}

fn living() -> Vec<Arc<Shared>> {
    let mut watched = WATCHED.lock();
    watched.retain(|group| group.strong_count() > 0);
    watched.iter().filter_map(Weak::upgrade).collect()
}

/// Ends all communicators of this process: what waits for them on a stream ends, and every later call
/// gives `failure`.
pub(super) fn fail_all(failure: &CommError) {
    let groups = living();
    // At once: aborting one waits for what was enqueued on it, which may be behind another's on a stream.
    std::thread::scope(|scope| {
        for group in &groups {
            let abort = move || group.fail(failure);
            if std::thread::Builder::new().spawn_scoped(scope, abort).is_err() {
                group.fail(failure);
            }
        }
    });
}
