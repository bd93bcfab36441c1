//! What a simulation found.

use super::Held;
use crate::schedule::Action;

/// A step of a schedule, simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// From the first action's begin to the last one's end, in seconds.
    pub makespan: f64,
    /// Each rank's part, by rank.
    pub ranks: Vec<RankOutcome>,
}

impl Outcome {
    /// The share of all ranks' time that is idle: the bubble fraction of the step.
    pub fn bubble(&self) -> f64 {
        let all = self.makespan * self.ranks.len() as f64;
        if all > 0.0 { 1.0 - self.busy() / all } else { 0.0 }
    }

    /// Idle time over useful work.
    pub fn bubble_over_work(&self) -> f64 {
        let busy = self.busy();
        if busy > 0.0 { self.makespan * self.ranks.len() as f64 / busy - 1.0 } else { 0.0 }
    }

    fn busy(&self) -> f64 {
        self.ranks.iter().map(|rank| rank.busy).sum()
    }
}

/// One rank's part of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankOutcome {
    /// Seconds it computed.
    pub busy: f64,
    /// When it ended.
    pub end: f64,
    /// The most units in flight: begun forward, not yet ended backward.
    pub in_flight_peak: u64,
    /// What it held when it held most.
    pub peak: Held,
    /// Seconds its sending engine was occupied.
    pub sending: f64,
}

/// One action, as it was simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The rank.
    pub rank: u32,
    /// What it did.
    pub action: Action,
    /// When it began, after any waiting, in seconds.
    pub begin: f64,
    /// When it ended.
    pub end: f64,
    /// What the rank held meanwhile, apart from messages.
    pub held: Held,
}
