//! What actions cost.

use super::Held;
use crate::schedule::Action;

/// What a message costs between two ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Seconds for which it occupies the sender's engine: bytes over bandwidth.
    pub occupied: f64,
    /// Seconds from leaving the engine to arriving.
    pub latency: f64,
}

/// A model of the machine and of what runs on it. Times are in seconds (or any one unit), memory in
/// bytes.
pub trait Costs {
    /// How long `action` keeps `rank` computing. Sends and receives cost the computing rank
    /// nothing but waiting: messages travel beside the computation. A unit costs all of its own
    /// work; a `Ship` gives how much of it the helper spares, an `Attend` what it costs the helper.
    fn seconds(&self, rank: u32, action: Action) -> f64;

    /// What the message of the sending `action` costs on its way; for `ReduceGradients`, from a rank
    /// to itself, what the reduction takes.
    fn link(&self, from: u32, to: u32, action: Action) -> Link {
        let _ = (from, to, action);
        Link::default()
    }

    /// What `rank` holds before and after all steps.
    fn resident(&self, rank: u32) -> Held {
        let _ = rank;
        Held::NONE
    }

    /// How what `rank` holds changes when `action` begins.
    fn begin(&self, rank: u32, action: Action) -> Held {
        let _ = (rank, action);
        Held::NONE
    }

    /// How what `rank` holds changes when `action` ends.
    fn end(&self, rank: u32, action: Action) -> Held {
        let _ = (rank, action);
        Held::NONE
    }
}

/// Every forward costs the same and every backward too; messages cost nothing: what closed forms of
/// schedules assume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Equal {
    /// Seconds of a forward.
    pub forward: f64,
    /// Seconds of a backward; of each of its parts half as many, where it is split.
    pub backward: f64,
}

impl Costs for Equal {
    fn seconds(&self, _: u32, action: Action) -> f64 {
        match action {
            Action::Forward(_) => self.forward,
            Action::Backward(_) => self.backward,
            Action::BackwardInput(_) | Action::BackwardWeight(_) => self.backward / 2.0,
            _ => 0.0,
        }
    }
}
