//! Groups of copies that a thread waits for together.

use std::collections::VecDeque;

/// A thread's groups: one that is open, and closed ones, oldest first.
#[derive(Clone, Debug, Default)]
pub(in crate::exec) struct Groups {
    open: Vec<u64>,
    closed: VecDeque<Vec<u64>>,
}

impl Groups {
    pub(in crate::exec) fn clear(&mut self) {
        self.open.clear();
        self.closed.clear();
    }

    pub(in crate::exec) fn add(&mut self, id: u64) {
        self.open.push(id);
    }

    /// Closes the open group, even an empty one.
    pub(in crate::exec) fn commit(&mut self) {
        self.closed.push_back(std::mem::take(&mut self.open));
    }

    /// What must be done so that at most `pending` closed groups are under way. The groups are
    /// kept if their work is only read, not done.
    pub(in crate::exec) fn due(&mut self, pending: u32, keep: bool) -> Vec<u64> {
        let due = self.closed.len().saturating_sub(pending as usize);
        match keep {
            true => self.closed.iter().take(due).flatten().copied().collect(),
            false => self.closed.drain(..due).flatten().collect(),
        }
    }

    /// Everything that was issued.
    pub(in crate::exec) fn all(&self) -> Vec<u64> {
        self.closed.iter().flatten().chain(&self.open).copied().collect()
    }

    /// Forgets everything and tells what it was.
    pub(in crate::exec) fn take_all(&mut self) -> Vec<u64> {
        let all = self.all();
        self.clear();
        all
    }
}
