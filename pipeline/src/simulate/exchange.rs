//! Units whose attention is exchanged, layer by layer.

use super::engine::World;
use super::mail::Kind;
use super::{Costs, Held, Watch};
use crate::schedule::Action;
use crate::schedule::exchange::{LayerStep, Roles, unit_steps};

/// What of a message between owner and helper travels at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shipment {
    /// Keys and values of the part, ahead of the layer.
    Keys,
    /// Queries; in backward with the output, its log-sum-exp and its gradient.
    Queries,
    /// What the helper found: output and log-sum-exp; in backward the gradients.
    Partial,
}

/// How a unit's time falls on its layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layers {
    /// How many the unit has.
    pub count: usize,
    /// Seconds that all layers together compute before attention.
    pub before: f64,
    /// And after it.
    pub after: f64,
}

/// A rank's unit that comes next or runs, if there is something to exchange along with it.
#[derive(Default)]
pub(super) struct Layered {
    roles: Roles,
    /// The actions of the roles with their seconds, of all layers together.
    ships: Vec<(Action, f64)>,
    attends: Vec<(Action, f64)>,
    /// What is still to be done; the next last.
    steps: Vec<LayerStep>,
    begun: Option<Shares>,
}

/// Seconds of each layer.
#[derive(Clone, Copy)]
struct Shares {
    before: f64,
    attention: f64,
    after: f64,
    layers: f64,
}

impl Layered {
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty()
    }

    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Adds a `Ship` or an `Attend`.
    pub fn add(&mut self, action: Action, seconds: f64) {
        match action {
            Action::Ship { part, to, .. } => {
                self.roles.ships.push((part, to));
                self.ships.push((action, seconds));
            }
            Action::Attend { unit, part, from, .. } => {
                self.roles.attends.push((unit, part, from));
                self.attends.push((action, seconds));
            }
            _ => {}
        }
    }

    /// Own attention in seconds less what is spared, and what is attended to for others.
    fn exchanged(&self) -> (f64, f64) {
        let sum = |all: &[(Action, f64)]| all.iter().map(|(_, seconds)| seconds).sum();
        (sum(&self.ships), sum(&self.attends))
    }

    fn begin(&mut self, layers: Layers, seconds: f64, is_alone: bool) -> Shares {
        let steps = unit_steps(&self.roles, is_alone, layers.count);
        self.steps.extend(steps.map(|(_, step)| step));
        self.steps.reverse();
        let (spared, _) = self.exchanged();
        let Layers { count, before, after } = layers;
        let each = |seconds: f64| seconds / count as f64;
        let attention = each(seconds - before - after - spared);
        let shares =
            Shares { before: each(before), attention, after: each(after), layers: count as f64 };
        self.begun = Some(shares);
        shares
    }

    fn clear(&mut self) {
        self.roles.ships.clear();
        self.roles.attends.clear();
        self.ships.clear();
        self.attends.clear();
        self.begun = None;
    }
}

impl<I: Iterator<Item = Action>, C: Costs, W: Watch> World<'_, I, C, W> {
    /// Runs a unit, or a `Help`, of so many seconds with what is exchanged along with it; false if it
    /// has to wait in between, to be called again.
    pub fn pass_layers(&mut self, rank: u32, action: Action, seconds: f64) -> bool {
        let state = &mut self.ranks[rank as usize];
        let shares = match state.layered.begun {
            Some(shares) => shares,
            None => {
                let Some(layers) = self.costs.layers(rank, action) else {
                    let (spared, helped) = state.layered.exchanged();
                    state.work(seconds - spared + helped);
                    state.layered.clear();
                    return true;
                };
                state.layered.begin(layers, seconds, matches!(action, Action::Help(_)))
            }
        };
        while let Some(step) = self.ranks[rank as usize].layered.steps.pop() {
            if !self.layer_step(rank, step, &shares) {
                self.ranks[rank as usize].layered.steps.push(step);
                return false;
            }
        }
        self.ranks[rank as usize].layered.clear();
        true
    }

    /// One step of a layer; false if it has to wait.
    fn layer_step(&mut self, rank: u32, step: LayerStep, shares: &Shares) -> bool {
        let state = &mut self.ranks[rank as usize];
        let Layered { roles, ships, attends, .. } = &state.layered;
        match step {
            LayerStep::Before => state.work(shares.before),
            LayerStep::AttendOwn => state.work(shares.attention),
            LayerStep::After => state.work(shares.after),
            LayerStep::AttendFor(i) => {
                let seconds = attends[i].1 / shares.layers;
                state.work(seconds);
            }
            LayerStep::SendKeys(i) => {
                let (action, (_, helper)) = (ships[i].0, roles.ships[i]);
                return self.ship(rank, helper, action, Shipment::Keys);
            }
            LayerStep::SendQueries(i) => {
                let (action, (_, helper)) = (ships[i].0, roles.ships[i]);
                return self.ship(rank, helper, action, Shipment::Queries);
            }
            LayerStep::SendPartial(i) => {
                let (action, (_, _, owner)) = (attends[i].0, roles.attends[i]);
                return self.ship(rank, owner, action, Shipment::Partial);
            }
            LayerStep::Merge(i) => {
                let (_, helper) = roles.ships[i];
                return self.receive(rank, helper, Kind::Exchange(Shipment::Partial));
            }
            LayerStep::Receive(i) => {
                let (_, _, owner) = roles.attends[i];
                // Keys leave before queries: when these are there, so are those.
                return self.receive(rank, owner, Kind::Exchange(Shipment::Queries))
                    && self.receive(rank, owner, Kind::Exchange(Shipment::Keys));
            }
        }
        true
    }

    fn ship(&mut self, rank: u32, to: u32, action: Action, what: Shipment) -> bool {
        let link = self.costs.exchange_link(rank, to, action, what);
        self.post(rank, to, Kind::Exchange(what), link, Held::NONE)
    }
}
