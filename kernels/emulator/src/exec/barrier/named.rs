//! Named barriers of a block.

use crate::fault::{FaultKind, Trouble};
use crate::isa::BarrierKind;

/// Barriers a block has.
pub(in crate::exec) const BARRIERS: usize = 16;

/// One named barrier.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::exec) struct NamedBarrier {
    /// Threads that came since the last completion.
    pub arrived: u32,
    /// Threads it waits for, as the first of them said; zero means all of the block.
    pub expected: u32,
    pub completions: u64,
    /// Of the arrivals so far: how many predicates hold.
    holds: u32,
    /// The same of the last completion, with all its threads.
    pub result: (u32, u32),
}

impl NamedBarrier {
    /// Threads come; `expected` is zero if all of the block are meant, of which `live` are left.
    pub(in crate::exec) fn arrive(
        &mut self,
        threads: u32,
        holds: u32,
        expected: u32,
        live: u32,
    ) -> Result<(), Box<Trouble>> {
        if self.arrived > 0 && self.expected != expected {
            let name = |n: u32| match n {
                0 => "all".to_string(),
                n => n.to_string(),
            };
            let what = format!(
                "threads at the barrier wait for {} threads, this one for {}",
                name(self.expected),
                name(expected)
            );
            return Err(Trouble::new(FaultKind::Barrier, what));
        }
        self.expected = expected;
        self.arrived += threads;
        self.holds += holds;
        if expected != 0 && self.arrived > expected {
            let what = format!("{} threads came to a barrier for {expected}", self.arrived);
            return Err(Trouble::new(FaultKind::Barrier, what));
        }
        self.settle(live);
        Ok(())
    }

    /// Completes the barrier if everybody came; `live` threads of the block are left.
    pub(in crate::exec) fn settle(&mut self, live: u32) {
        let needed = if self.expected == 0 { live } else { self.expected };
        if self.arrived > 0 && self.arrived >= needed {
            self.result = (self.holds, self.arrived);
            self.completions += 1;
            (self.arrived, self.holds, self.expected) = (0, 0, 0);
        }
    }

    /// What a thread learns from the last completion.
    pub(in crate::exec) fn answer(&self, kind: BarrierKind) -> u32 {
        let (holds, all) = self.result;
        match kind {
            BarrierKind::Count => holds,
            BarrierKind::And => u32::from(holds == all),
            BarrierKind::Or => u32::from(holds > 0),
            BarrierKind::Sync | BarrierKind::Arrive => 0,
        }
    }
}
