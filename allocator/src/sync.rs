//! What threads share, so that loom can stand in for it.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering};

    pub(crate) use parking_lot::Mutex;

    macro_rules! per_thread {
        ($(static $name:ident: $type:ty = $init:expr;)*) => {
            std::thread_local! { $(static $name: $type = const { $init };)* }
        };
    }
    pub(crate) use per_thread;
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

    /// loom's mutex with parking_lot's signature.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("loom's mutex is poisoned only after a failed run")
        }
    }

    macro_rules! per_thread {
        ($(static $name:ident: $type:ty = $init:expr;)*) => {
            loom::thread_local! { $(static $name: $type = $init;)* }
        };
    }
    pub(crate) use per_thread;
}

pub(crate) use real::*;
