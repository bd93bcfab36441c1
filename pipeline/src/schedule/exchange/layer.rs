//! What a unit's moves come to in each of its layers: the order that executor, verifier and
//! simulator share.

use super::super::Unit;
use super::Part;

/// The moves that go along with one unit, or with none: the owner's side and the helper's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Parts of the own unit that others attend to: the part and the helper.
    pub ships: Vec<(Part, u32)>,
    /// Parts of others' units: the unit, the part and the owner.
    pub attends: Vec<(Unit, Part, u32)>,
}

impl Roles {
    /// Whether there is nothing to exchange.
    pub fn is_empty(&self) -> bool {
        self.ships.is_empty() && self.attends.is_empty()
    }
}

/// A step of one layer's attention, in forward or backward. Numbers are positions in [`Roles`].
///
/// Sends never wait. So a rank waits for an owner before it can compute for it, and for its helpers
/// after it has served everyone: whatever the moves, there is no cycle as long as both sides make
/// them at the same step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerStep {
    /// Keys and values of a shipped part leave. They exist before the unit begins, so they do it
    /// before anything else of the layer: the transfer hides behind the projections.
    SendKeys(usize),
    /// All that comes before attention: in forward the projections, in backward the MLP's backward
    /// and that of the output projection.
    Before,
    /// Queries leave; in backward with the final output, its log-sum-exp and its gradient.
    SendQueries(usize),
    /// The rank's own attention, without the parts that it ships.
    AttendOwn,
    /// Keys, values and queries of another rank arrive.
    Receive(usize),
    /// They are attended to.
    AttendFor(usize),
    /// The partial result goes back: output and log-sum-exp; in backward gradients of queries, keys
    /// and values.
    SendPartial(usize),
    /// A partial result arrives, and is merged.
    Merge(usize),
    /// All that comes after attention.
    After,
}

/// The steps of one layer for a rank with `roles`; without a unit of its own (`is_alone`) it only
/// serves others.
pub fn layer_steps(roles: &Roles, is_alone: bool) -> impl Iterator<Item = LayerStep> {
    use LayerStep::*;
    let (ships, attends) = (0..roles.ships.len(), 0..roles.attends.len());
    let own = move |step| (!is_alone).then_some(step);
    let serve = attends.flat_map(|i| [Receive(i), AttendFor(i), SendPartial(i)]);
    (ships.clone().map(SendKeys))
        .chain(own(Before))
        .chain(ships.clone().map(SendQueries))
        .chain(own(AttendOwn))
        .chain(serve)
        .chain(ships.map(Merge))
        .chain(own(After))
}
