//! Messages between ranks: queues of one sender and one receiver.

use std::collections::VecDeque;

use super::engine::World;
use super::{Costs, Held, Link, Shipment};
use crate::schedule::Action;

/// What a queue carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Activation,
    Gradient,
    Tied,
    /// Attention exchange.
    Exchange(Shipment),
}

impl Kind {
    /// Whether there is room for so many only; what is exchanged always finds room.
    fn is_bounded(self) -> bool {
        !matches!(self, Self::Exchange(_))
    }
}

/// Messages from one rank, of one kind.
pub(super) struct Inbox {
    from: u32,
    kind: Kind,
    /// When each that nobody has taken arrives, and whether its sender holds anything for it.
    arrivals: VecDeque<(f64, bool)>,
    /// When each place became free; a place that was never used is free from the start.
    places: VecDeque<f64>,
    unused: usize,
}

/// What a rank waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// A message from a rank.
    Message(u32, Kind),
    /// Room for one to a rank.
    Room(u32, Kind),
    /// The others of a collective.
    Meeting,
}

impl<I: Iterator<Item = Action>, C: Costs, W> World<'_, I, C, W> {
    /// Sends the message of an action; false if there is no room for it yet.
    pub fn send(&mut self, rank: u32, to: u32, kind: Kind, action: Action) -> bool {
        let (link, bytes) = (self.costs.link(rank, to, action), self.costs.message(rank, action));
        self.post(rank, to, kind, link, bytes)
    }

    /// Sends a message that costs `link`, for which the rank holds `bytes` until it is taken; false if
    /// there is no room for it yet.
    pub fn post(&mut self, rank: u32, to: u32, kind: Kind, link: Link, bytes: Held) -> bool {
        let inbox = self.inbox(to, rank, kind);
        let free = match (kind.is_bounded(), inbox.unused) {
            (false, _) => Some(0.0),
            (true, 0) => inbox.places.pop_front(),
            (true, _) => {
                inbox.unused -= 1;
                Some(0.0)
            }
        };
        let Some(free) = free else {
            self.ranks[rank as usize].waiting = Some(Wait::Room(to, kind));
            return false;
        };
        let state = &mut self.ranks[rank as usize];
        state.clock = state.clock.max(free);
        state.engine = state.engine.max(state.clock) + link.occupied;
        state.outcome.sending += link.occupied;
        let arrival = state.engine + link.latency;
        let is_held = bytes != Held::NONE;
        if is_held {
            state.ledger.send(state.clock, to, arrival, bytes);
        }
        self.inbox(to, rank, kind).arrivals.push_back((arrival, is_held));
        self.wake(to, Wait::Message(rank, kind));
        true
    }

    /// Waits until the next message is there; false if it has not been sent yet.
    pub fn receive(&mut self, rank: u32, from: u32, kind: Kind) -> bool {
        let arrival = self.inbox(rank, from, kind).arrivals.pop_front();
        let state = &mut self.ranks[rank as usize];
        let Some((arrival, is_held)) = arrival else {
            state.waiting = Some(Wait::Message(from, kind));
            return false;
        };
        state.clock = state.clock.max(arrival);
        let now = state.clock;
        if is_held {
            self.ranks[from as usize].ledger.taken(rank, arrival, now);
        }
        if kind.is_bounded() {
            self.inbox(rank, from, kind).places.push_back(now);
            self.wake(from, Wait::Room(rank, kind));
        }
        true
    }

    /// Lets `rank` go on if it waits for this.
    pub fn wake(&mut self, rank: u32, wait: Wait) {
        let peer = &mut self.ranks[rank as usize];
        if peer.waiting == Some(wait) {
            peer.waiting = None;
            self.ready.push_back(rank);
        }
    }

    /// A rank hears from a few others only: a list is searched faster than a map.
    fn inbox(&mut self, rank: u32, from: u32, kind: Kind) -> &mut Inbox {
        let inboxes = &mut self.inboxes[rank as usize];
        let found = inboxes.iter().position(|inbox| inbox.from == from && inbox.kind == kind);
        let index = found.unwrap_or_else(|| {
            let (arrivals, places) = (VecDeque::new(), VecDeque::new());
            inboxes.push(Inbox { from, kind, arrivals, places, unused: self.capacity });
            inboxes.len() - 1
        });
        &mut inboxes[index]
    }
}
