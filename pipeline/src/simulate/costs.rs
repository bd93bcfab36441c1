//! What actions cost.

use super::{Held, Layers, Shipment};
use crate::schedule::{Action, Pass};

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
    /// work; a `Ship` gives how much of it the helper spares, an `Attend` what it costs the helper:
    /// both take effect in the unit, or the `Help`, that comes next.
    fn seconds(&self, rank: u32, action: Action) -> f64;

    /// What the message of the sending `action` costs on its way; for `ReduceGradients` and the
    /// collectives of the vocabulary, from a rank to itself, what they take beside computing.
    fn link(&self, from: u32, to: u32, action: Action) -> Link {
        let _ = (from, to, action);
        Link::default()
    }

    /// How the time of a unit, or of a `Help`, falls on its layers, if it exchanges attention: owner
    /// and helper then meet in every layer, in the order of [`unit_steps`]. `None` counts the loads
    /// alone: nobody waits for what is exchanged.
    ///
    /// [`unit_steps`]: crate::schedule::exchange::unit_steps
    fn layers(&self, rank: u32, action: Action) -> Option<Layers> {
        let _ = (rank, action);
        None
    }

    /// What a message of a `Ship` or, back from the helper, of an `Attend` costs, in one layer.
    fn exchange_link(&self, from: u32, to: u32, action: Action, what: Shipment) -> Link {
        let _ = (from, to, action, what);
        Link::default()
    }

    /// What `rank` holds for the message of the sending `action`, from then until its receiver has
    /// taken it.
    fn message(&self, rank: u32, action: Action) -> Held {
        let _ = (rank, action);
        Held::NONE
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

/// Units whose attention grows with their prefix. In backward attention costs 2.5 times what it does
/// in forward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growing {
    /// Seconds of a unit's forward but for attention.
    pub forward: f64,
    /// Seconds of a unit's backward but for attention; half of it are gradients of weights.
    pub backward: f64,
    /// Seconds of a forward's attention to one earlier slice; to its own slice half of it.
    pub attention: f64,
    /// Layers of a unit, if owners and helpers of an exchange wait for each other in each.
    pub layers: Option<usize>,
    /// The part of a layer's other work that comes before attention in forward, and after it in
    /// backward.
    pub projections: f64,
}

impl Growing {
    fn attends(&self, pass: Pass, half_chunks: u32) -> f64 {
        let forward = self.attention / 2.0 * f64::from(half_chunks);
        if pass == Pass::Forward { forward } else { 2.5 * forward }
    }

    fn backward(&self, slice: u32) -> f64 {
        self.backward + self.attends(Pass::Backward, 2 * slice + 1)
    }
}

impl Costs for Growing {
    fn seconds(&self, _: u32, action: Action) -> f64 {
        match action {
            Action::Forward(unit) => self.forward + self.attends(Pass::Forward, 2 * unit.slice + 1),
            Action::Backward(unit) => self.backward(unit.slice),
            Action::BackwardInput(unit) => self.backward(unit.slice) - self.backward / 2.0,
            Action::BackwardWeight(_) => self.backward / 2.0,
            Action::Ship { part, pass, .. } | Action::Attend { part, pass, .. } => {
                self.attends(pass, part.len())
            }
            _ => 0.0,
        }
    }

    fn layers(&self, _: u32, action: Action) -> Option<Layers> {
        let (before, after) = (self.projections, 1.0 - self.projections);
        let (before, after) = match action {
            Action::Forward(_) => (before * self.forward, after * self.forward),
            Action::Backward(_) => (after * self.backward, before * self.backward),
            _ => (0.0, 0.0),
        };
        Some(Layers { count: self.layers?, before, after })
    }
}
