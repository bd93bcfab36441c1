//! The threads that share one operation.
//!
//! A rank enters its team once; operations ask for [`current`]. Without one, all cores help.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::OnceLock;

use slimpipe_kernels::cpu::threads::Threads;

use crate::{Error, Result};

thread_local! {
    static TEAM: RefCell<Option<Threads>> = const { RefCell::new(None) };
}

/// Restores the thread's previous team when dropped.
#[must_use = "the team is current only while the guard lives"]
pub struct TeamGuard {
    previous: Option<Threads>,
    not_send: PhantomData<*const ()>,
}

/// Makes a team of `threads` threads (the caller included) current on this thread.
///
/// # Errors
/// The operating system refused to start a thread.
pub fn enter(threads: usize) -> Result<TeamGuard> {
    let team = Threads::new(threads).map_err(Error::Threads)?;
    let previous = TEAM.with(|current| current.replace(Some(team)));
    Ok(TeamGuard { previous, not_send: PhantomData })
}

impl Drop for TeamGuard {
    fn drop(&mut self) {
        TEAM.with(|current| *current.borrow_mut() = self.previous.take());
    }
}

/// The team of this thread; all cores where none was entered.
pub fn current() -> Threads {
    static ALL: OnceLock<Threads> = OnceLock::new();
    TEAM.with(|current| current.borrow().clone())
        .unwrap_or_else(|| ALL.get_or_init(|| Threads::new(cores()).unwrap_or_default()).clone())
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
