use super::super::{Action, Unit};
use super::{Builder, Order};

/// A schedule whose ranks run forwards until a number of units is in flight, then backward and
/// forward in turn until forwards are exhausted, then only backwards.
pub(in super::super) trait Alternating: std::fmt::Debug + Send + Sync {
    /// Units a rank runs in a step.
    fn units(&self) -> u64;

    /// The units that `rank` has in flight when it runs its first backward, unless there are fewer
    /// in the step.
    fn warm_up(&self, rank: u32) -> u64;

    /// The `k`-th unit to run forward, the same on every rank.
    fn forward(&self, k: u64) -> Unit;

    /// The `k`-th unit to run backward, the same on every rank.
    fn backward(&self, k: u64) -> Unit;

    /// Whether ranks run forwards at the same time and backwards at the same time, each one unit
    /// behind its predecessor: they do if each has two units more in flight than the next, or if
    /// all run all their forwards first.
    fn keeps_step(&self) -> bool {
        false
    }

    /// As [`Builder::backlog`].
    fn backlog(&self) -> u32 {
        1
    }
}

impl<A: Alternating> Builder for A {
    fn order(&self, rank: u32) -> Order<'_> {
        let target = self.in_flight_peak(rank);
        Order::new(Alternate { schedule: self, target, forwards: 0, backwards: 0 })
    }

    fn in_flight_peak(&self, rank: u32) -> u64 {
        self.warm_up(rank).min(self.units())
    }

    fn backlog(&self) -> u32 {
        Alternating::backlog(self)
    }

    fn in_step(&self) -> Option<&dyn Alternating> {
        self.keeps_step().then_some(self)
    }
}

struct Alternate<'a, A> {
    schedule: &'a A,
    target: u64,
    forwards: u64,
    backwards: u64,
}

impl<A: Alternating> Iterator for Alternate<'_, A> {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let units = self.schedule.units();
        if self.forwards < units && self.forwards - self.backwards < self.target {
            self.forwards += 1;
            Some(Action::Forward(self.schedule.forward(self.forwards - 1)))
        } else if self.backwards < units {
            self.backwards += 1;
            Some(Action::Backward(self.schedule.backward(self.backwards - 1)))
        } else {
            None
        }
    }
}
