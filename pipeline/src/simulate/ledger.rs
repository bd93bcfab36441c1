//! What a rank holds over time.

use std::collections::VecDeque;

use super::Held;

/// A message that its sender holds until it is taken.
struct Message {
    bytes: Held,
    to: u32,
    arrival: f64,
    /// When it was taken, if it was.
    taken: Option<f64>,
}

/// Changes of what a rank holds, in the order of its clock, and the most it held.
///
/// A rank may be simulated ahead of those it sends to. So what it does after the arrival of a message
/// that nobody has taken yet waits here, until it is known when the message goes.
pub(super) struct Ledger {
    /// Without messages, up to now.
    actions: Held,
    /// With messages, up to when all is known.
    held: Held,
    peak: Held,
    waiting: VecDeque<(f64, Held)>,
    messages: Vec<Message>,
}

impl Ledger {
    pub(super) fn new(held: Held) -> Self {
        Self { actions: held, held, peak: held, waiting: VecDeque::new(), messages: Vec::new() }
    }

    /// What the rank held when it held most.
    pub(super) fn peak(&self) -> Held {
        self.peak
    }

    /// What the rank's actions have left and need, without messages.
    pub(super) fn actions(&self) -> Held {
        self.actions
    }

    /// From `time` on, the rank holds `change` more. Times never fall.
    pub(super) fn change(&mut self, time: f64, change: Held) {
        self.actions.add(&change);
        self.add(time, change);
    }

    fn add(&mut self, time: f64, change: Held) {
        if change == Held::NONE {
            return;
        }
        if self.messages.is_empty() {
            return self.apply(change);
        }
        self.waiting.push_back((time, change));
        self.settle();
    }

    /// From `time` on, the rank holds a message that reaches rank `to` at `arrival`.
    pub(super) fn send(&mut self, time: f64, to: u32, arrival: f64, bytes: Held) {
        self.add(time, bytes);
        self.messages.push(Message { bytes, to, arrival, taken: None });
    }

    /// Rank `to` has taken the message that arrived at `arrival`.
    pub(super) fn taken(&mut self, to: u32, arrival: f64, time: f64) {
        let is_it = |message: &&mut Message| {
            message.to == to && message.arrival == arrival && message.taken.is_none()
        };
        if let Some(message) = self.messages.iter_mut().find(is_it) {
            message.taken = Some(time);
        }
        self.settle();
    }

    /// Makes the changes up to which all is known. A message that goes when something comes goes first.
    fn settle(&mut self) {
        let arrivals = self.messages.iter().filter(|message| message.taken.is_none());
        let known = arrivals.map(|message| message.arrival).fold(f64::INFINITY, f64::min);
        while let Some(&(time, change)) = self.waiting.front().filter(|(time, _)| *time <= known) {
            self.release(time);
            self.waiting.pop_front();
            self.apply(change);
        }
    }

    /// Lets go of messages that were taken up to `time`, which only makes less of what is held.
    fn release(&mut self, time: f64) {
        let Self { messages, held, .. } = self;
        messages.retain(|message| {
            let gone = message.taken.is_some_and(|taken| taken <= time);
            if gone {
                held.add(&-message.bytes);
            }
            !gone
        });
    }

    fn apply(&mut self, change: Held) {
        self.held.add(&change);
        if self.held.total() > self.peak.total() {
            self.peak = self.held;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Category::Transient;

    fn bytes(bytes: i64) -> Held {
        Held::of(Transient, bytes)
    }

    #[test]
    fn a_message_is_held_until_it_is_taken_even_if_that_is_known_late() {
        let mut ledger = Ledger::new(bytes(100));
        ledger.send(1.0, 1, 2.0, bytes(10));
        ledger.change(3.0, bytes(5));
        ledger.change(4.0, bytes(-5));
        ledger.change(6.0, bytes(7));
        assert_eq!(ledger.peak(), bytes(110));
        // Taken between the changes of 4.0 and 6.0.
        ledger.taken(1, 2.0, 5.0);
        assert_eq!(ledger.peak(), bytes(115));
        ledger.change(7.0, bytes(9));
        assert_eq!(ledger.peak(), bytes(116));
    }

    #[test]
    fn messages_go_in_the_order_in_which_they_are_taken() {
        let mut ledger = Ledger::new(Held::NONE);
        ledger.send(1.0, 1, 2.0, bytes(10));
        ledger.send(1.0, 2, 2.0, bytes(20));
        ledger.change(5.0, bytes(1));
        ledger.taken(2, 2.0, 3.0);
        ledger.taken(1, 2.0, 9.0);
        assert_eq!(ledger.peak(), bytes(30), "20 are gone when 1 comes");
        ledger.change(8.0, bytes(25));
        assert_eq!(ledger.peak(), bytes(36));
        ledger.change(9.0, bytes(9));
        assert_eq!(ledger.peak(), bytes(36), "10 are gone when 9 come");
    }
}
