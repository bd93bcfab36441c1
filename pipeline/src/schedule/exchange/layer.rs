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

/// A step of a unit's layer, in forward or backward. Numbers are positions in [`Roles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerStep {
    /// Keys and values of a shipped part leave: they exist already. It is done before the layer
    /// begins, so that the transfer hides behind all that comes before attention.
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
    /// The partial result goes back: output and log-sum-exp; in backward gradients of keys, values
    /// and queries.
    SendPartial(usize),
    /// A partial result arrives, and is merged.
    Merge(usize),
    /// All that comes after attention.
    After,
}

/// The steps of a unit of `layers` layers on a rank with `roles`, each with its layer, counted in
/// the order in which the pass runs them. A rank without a unit (`is_alone`) only serves others.
///
/// Sends never wait. A rank waits for an owner before it computes for it, and for its helpers after
/// it has served everyone: so there is no cycle of waits, whatever the moves, as long as both sides
/// make them at the same step.
pub fn unit_steps(
    roles: &Roles,
    is_alone: bool,
    layers: usize,
) -> impl Iterator<Item = (usize, LayerStep)> {
    use LayerStep::*;
    let (ships, attends) = (roles.ships.len(), roles.attends.len());
    let keys = move |layer| (0..ships).map(move |ship| (layer, SendKeys(ship)));
    let steps = move |layer| {
        let own = |step| (!is_alone).then_some(step);
        let serve = (0..attends).flat_map(|i| [Receive(i), AttendFor(i), SendPartial(i)]);
        let steps = (own(Before).into_iter())
            .chain((0..ships).map(SendQueries))
            .chain(own(AttendOwn))
            .chain(serve)
            .chain((0..ships).map(Merge));
        let next = keys(layer + 1).filter(move |_| layer + 1 < layers);
        steps.map(move |step| (layer, step)).chain(next).chain(own(After).map(|step| (layer, step)))
    };
    keys(0).chain((0..layers).flat_map(steps))
}
