//! What actions send and receive.

use std::fmt;

use super::super::exchange::{LayerStep, Roles, unit_steps};
use super::super::{Action, Part, Pass, Unit};
use super::rules::Rules;

/// How many layers a unit is verified with. All of them are alike, so two show whatever order among
/// layers could go wrong.
const LAYERS: usize = 2;

/// Stands where no unit is meant.
const NOWHERE: Unit = Unit { microbatch: 0, slice: 0, chunk: 0 };

/// What a channel carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Activation,
    Gradient,
    /// The word that a rank has come to its tied gradients.
    Tied,
    /// Keys and values to attend to.
    Keys,
    /// Queries to attend with.
    Queries,
    /// What attending for others gave.
    Partial,
    /// Rows of an embedding or of its gradient, or of the input of the output layer or its gradient.
    Rows,
    /// What a rank's part of the logits comes to.
    Sums,
}

/// Sender, receiver and kind.
pub(super) type Channel = (u32, u32, Kind);

/// A message, named by the unit that its receiver needs it for, or whose attention it is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    unit: Unit,
    part: Option<(Part, Pass)>,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            None => write!(f, "{}", self.unit),
            Some((part, pass)) => write!(f, "{pass}{}/{part}", self.unit),
        }
    }
}

/// What an action does to a channel.
#[derive(Clone, Copy)]
pub(super) enum Transfer {
    /// Sends as soon as there is room.
    Send(Channel, Message),
    /// Sends at once.
    Post(Channel, Message),
    /// Waits for this message to be the next.
    Receive(Channel, Message),
}

/// What a valid action of `rank` sends and receives, in order, to `push`.
pub(super) fn transfers(
    action: Action,
    rank: u32,
    roles: &Roles,
    rules: &Rules<'_>,
    mut push: impl FnMut(Transfer),
) {
    let plain = |unit| Message { unit, part: None };
    match action {
        Action::SendActivation { unit, to } => {
            push(Transfer::Send((rank, to, Kind::Activation), plain(rules.counterpart_after(unit))))
        }
        Action::SendGradient { unit, to } => {
            push(Transfer::Send((rank, to, Kind::Gradient), plain(rules.counterpart_before(unit))))
        }
        Action::RecvActivation { unit, from } => {
            push(Transfer::Receive((from, rank, Kind::Activation), plain(unit)));
        }
        Action::RecvGradient { unit, from } => {
            push(Transfer::Receive((from, rank, Kind::Gradient), plain(unit)));
        }
        Action::ReduceTied { peer } => {
            let word = plain(NOWHERE);
            push(Transfer::Post((rank, peer, Kind::Tied), word));
            push(Transfer::Receive((peer, rank, Kind::Tied), word));
        }
        Action::VocabEmbed(unit) => {
            let (first, rows) = (rules.ends().0, plain(unit));
            let receive = |from| Transfer::Receive((from, rank, Kind::Rows), rows);
            match rank == first {
                true => rules.others().map(receive).for_each(push),
                false => push(Transfer::Send((rank, first, Kind::Rows), rows)),
            }
        }
        Action::VocabEmbedBackward(unit) => {
            let (first, rows) = (rules.ends().0, plain(unit));
            let send = |to| Transfer::Send((rank, to, Kind::Rows), rows);
            match rank == first {
                true => rules.others().map(send).for_each(push),
                false => push(Transfer::Receive((first, rank, Kind::Rows), rows)),
            }
        }
        Action::VocabHead(unit) => head(rank, rules, plain(unit), push),
        Action::Forward(unit) => exchange(rank, (Some(unit), Pass::Forward), roles, push),
        Action::Backward(unit) => exchange(rank, (Some(unit), Pass::Backward), roles, push),
        Action::Help(pass) => exchange(rank, (None, pass), roles, push),
        Action::BackwardInput(_)
        | Action::BackwardWeight(_)
        | Action::Ship { .. }
        | Action::Attend { .. }
        // Data ranks run the same program, so they meet in the same order.
        | Action::ReduceGradients(_)
        | Action::OptimizerStep => {}
    }
}

/// Hidden states go from the last stage's rank to all others, sums over logits from everyone to
/// everyone (as if through that rank, which is the same to whoever waits), and gradients back.
fn head(rank: u32, rules: &Rules<'_>, message: Message, mut push: impl FnMut(Transfer)) {
    let last = rules.ends().1;
    if rank != last {
        push(Transfer::Receive((last, rank, Kind::Rows), message));
        push(Transfer::Post((rank, last, Kind::Sums), message));
        push(Transfer::Receive((last, rank, Kind::Sums), message));
        push(Transfer::Send((rank, last, Kind::Rows), message));
        return;
    }
    for to in rules.others() {
        push(Transfer::Send((rank, to, Kind::Rows), message));
    }
    for from in rules.others() {
        push(Transfer::Receive((from, rank, Kind::Sums), message));
    }
    for to in rules.others() {
        push(Transfer::Post((rank, to, Kind::Sums), message));
    }
    for from in rules.others() {
        push(Transfer::Receive((from, rank, Kind::Rows), message));
    }
}

/// What a unit's pass, or a help without a unit, exchanges in its layers.
fn exchange(
    rank: u32,
    (unit, pass): (Option<Unit>, Pass),
    roles: &Roles,
    mut push: impl FnMut(Transfer),
) {
    if roles.is_empty() {
        return;
    }
    let of = |unit, part| Message { unit, part: Some((part, pass)) };
    // Only a unit's own parts are shipped.
    let ship = |i: usize| {
        let (part, to) = roles.ships[i];
        (to, of(unit.unwrap_or(NOWHERE), part))
    };
    let attend = |i: usize| {
        let (unit, part, from) = roles.attends[i];
        (from, of(unit, part))
    };
    for (_, step) in unit_steps(roles, unit.is_none(), LAYERS) {
        match step {
            LayerStep::SendKeys(i) => {
                let (to, message) = ship(i);
                push(Transfer::Post((rank, to, Kind::Keys), message));
            }
            LayerStep::SendQueries(i) => {
                let (to, message) = ship(i);
                push(Transfer::Post((rank, to, Kind::Queries), message));
            }
            LayerStep::Receive(i) => {
                let (from, message) = attend(i);
                push(Transfer::Receive((from, rank, Kind::Keys), message));
                push(Transfer::Receive((from, rank, Kind::Queries), message));
            }
            LayerStep::SendPartial(i) => {
                let (from, message) = attend(i);
                push(Transfer::Post((rank, from, Kind::Partial), message));
            }
            LayerStep::Merge(i) => {
                let (to, message) = ship(i);
                push(Transfer::Receive((to, rank, Kind::Partial), message));
            }
            LayerStep::Before
            | LayerStep::AttendOwn
            | LayerStep::AttendFor(_)
            | LayerStep::After => {}
        }
    }
}
