//! The lock step of slimpipe and its like: which unit each rank runs at which step.

use super::Pass;

/// When ranks run what, counted in units of one kind: forward step s is the s-th in which rank 0
/// could run a forward, and rank r is then at its unit s - r; backward starts at the last rank.
/// There are as many backward steps as forward steps. In slimpipe the one is the other in reverse: at
/// backward step s each rank's unit has the same place in its microbatch as the unit that the rank
/// runs at forward step `steps() - 1 - s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockStep {
    ranks: u64,
    /// Units that the last rank runs forward before its first backward.
    first: u64,
    units: u64,
}

impl LockStep {
    /// `ranks` ranks that run `units` units each, the last rank `first` of them forward before its
    /// first backward.
    pub fn new(ranks: u32, first: u64, units: u64) -> Self {
        Self { ranks: u64::from(ranks), first, units }
    }

    /// Steps of one pass.
    pub fn steps(&self) -> u64 {
        self.units + self.ranks - 1
    }

    /// How many units of `pass` rank `rank` has run before `step`, if it runs one then.
    pub fn unit_at(&self, pass: Pass, rank: u32, step: u64) -> Option<u64> {
        step.checked_sub(self.lag(pass, rank)).filter(|&k| k < self.units)
    }

    /// The step at which rank `rank` runs its `k`-th unit of `pass`.
    pub fn step_of(&self, pass: Pass, rank: u32, k: u64) -> u64 {
        k + self.lag(pass, rank)
    }

    /// Whether every rank runs a unit of its pass at `step`.
    pub fn is_full(&self, step: u64) -> bool {
        (self.ranks - 1..self.units).contains(&step)
    }

    /// The moment of a step of `pass`, on a clock that all ranks share: backward steps begin when the
    /// last rank has run the units that come before its first backward, and alternate with forward
    /// steps.
    pub fn moment(&self, pass: Pass, step: u64) -> u64 {
        match pass {
            Pass::Forward => 2 * step,
            Pass::Backward => 2 * (step + self.head_start()) + 1,
        }
    }

    /// The moment after the last.
    pub fn end(&self) -> u64 {
        self.moment(Pass::Backward, self.steps())
    }

    /// The step at a moment, if there is one.
    pub fn step_at(&self, moment: u64) -> Option<(Pass, u64)> {
        let (pass, step) = match moment % 2 {
            0 => (Pass::Forward, moment / 2),
            _ => (Pass::Backward, (moment / 2).checked_sub(self.head_start())?),
        };
        (step < self.steps()).then_some((pass, step))
    }

    /// Forward steps that come before the first backward step, less one.
    fn head_start(&self) -> u64 {
        self.first + self.ranks - 2
    }

    fn lag(&self, pass: Pass, rank: u32) -> u64 {
        match pass {
            Pass::Forward => u64::from(rank),
            Pass::Backward => self.ranks - 1 - u64::from(rank),
        }
    }
}
