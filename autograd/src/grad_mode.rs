//! Turning the tape off and on.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// Restores the previous mode when dropped.
#[must_use = "the mode lasts as long as the guard"]
pub struct NoGrad {
    previous: bool,
    not_send: PhantomData<*const ()>,
}

/// Turns the tape off on this thread: operations save nothing and make no nodes.
pub fn no_grad() -> NoGrad {
    NoGrad { previous: ENABLED.replace(false), not_send: PhantomData }
}

/// Turns the tape on again, in a backward that runs a forward.
pub(crate) fn with_grad() -> NoGrad {
    NoGrad { previous: ENABLED.replace(true), not_send: PhantomData }
}

/// Whether operations on this thread are recorded.
pub fn is_recording() -> bool {
    ENABLED.get()
}

impl Drop for NoGrad {
    fn drop(&mut self) {
        ENABLED.set(self.previous);
    }
}
