//! The order of a rank's forwards and backwards.

use std::fmt;

use super::{Action, Schedule, Unit};

/// A forward or a backward of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Forward of a unit.
    Forward(Unit),
    /// Backward of a unit.
    Backward(Unit),
}

impl From<Pass> for Action {
    fn from(pass: Pass) -> Self {
        match pass {
            Pass::Forward(unit) => Self::Forward(unit),
            Pass::Backward(unit) => Self::Backward(unit),
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Action::from(*self).fmt(f)
    }
}

/// The passes of one rank in order: forwards until the schedule's in-flight target is reached, then
/// backward and forward in turn until the forwards end, then backwards.
///
/// `F^w (F B)^k B^w`, the usual way to write 1F1B, is the same with a target of w + 1.
///
/// Displayed as `F0.0:0 F0.1:0 B0.1:0 ...`.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    schedule: &'a Schedule,
    target: u32,
    forwards: u32,
    backwards: u32,
}

impl<'a> Order<'a> {
    pub(super) fn new(schedule: &'a Schedule, rank: u32) -> Self {
        Self { schedule, target: schedule.in_flight_peak(rank), forwards: 0, backwards: 0 }
    }
}

impl Iterator for Order<'_> {
    type Item = Pass;

    fn next(&mut self) -> Option<Pass> {
        let (builder, dimensions) = (self.schedule.builder(), self.schedule.dimensions());
        let units = dimensions.units();
        if self.forwards < units && self.forwards - self.backwards < self.target {
            self.forwards += 1;
            return Some(Pass::Forward(builder.forward(dimensions, self.forwards - 1)));
        }
        if self.backwards < units {
            self.backwards += 1;
            return Some(Pass::Backward(builder.backward(dimensions, self.backwards - 1)));
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let units = self.schedule.dimensions().units() as usize;
        let left = 2 * units - self.forwards as usize - self.backwards as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Order<'_> {}

impl fmt::Display for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pass) in self.clone().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{pass}")?;
        }
        Ok(())
    }
}
