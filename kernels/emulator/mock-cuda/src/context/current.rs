//! The context that is current on a thread.

use std::{cell::RefCell, sync::Arc};

use cudarc::driver::sys::CUresult;

use super::Context;
use crate::settings;

thread_local! {
    /// The contexts that this thread has pushed; the last is current.
    static CURRENT: RefCell<Vec<Option<Arc<Context>>>> = const { RefCell::new(Vec::new()) };
}

/// Makes a context, or none, current on this thread in place of the one that is.
pub fn set_current(context: Option<Arc<Context>>) {
    CURRENT.with_borrow_mut(|stack| {
        stack.pop();
        stack.push(context);
    });
}

/// Makes a context current on this thread until it is popped.
pub fn push_current(context: Arc<Context>) {
    CURRENT.with_borrow_mut(|stack| stack.push(Some(context)));
}

/// Undoes the last push.
pub fn pop_current() -> Option<Arc<Context>> {
    CURRENT.with_borrow_mut(|stack| stack.pop().flatten())
}

/// The context that is current on this thread, failed or not.
pub fn peek_current() -> Option<Arc<Context>> {
    CURRENT.with_borrow(|stack| stack.last().cloned().flatten())
}

/// The context that is current on this thread, fit for work.
///
/// # Errors
/// No context, one that was destroyed, or one that has failed.
pub fn current() -> Result<Arc<Context>, CUresult> {
    settings::check().map_err(|_| CUresult::CUDA_ERROR_NOT_INITIALIZED)?;
    let context = peek_current().ok_or(CUresult::CUDA_ERROR_INVALID_CONTEXT)?;
    if context.is_destroyed() {
        return Err(CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED);
    }
    context.check()?;
    Ok(context)
}
