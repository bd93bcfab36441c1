use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Ends the process if a test hangs, which no assertion could tell.
pub struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Watches until dropped.
    pub fn new(test: &'static str) -> Self {
        let (alive, watch) = channel();
        std::thread::spawn(move || {
            if watch.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test} hangs");
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}
