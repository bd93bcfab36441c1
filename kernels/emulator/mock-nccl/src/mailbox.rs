//! What has arrived for a rank and nobody has taken yet.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

use crate::message::{Kind, Lane, Message};

/// How a rank went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It destroyed its communicators.
    Left,
    /// Its connection broke.
    Lost,
}

/// Whose messages, of which communicator and lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// The communicator's number.
    pub comm: u64,
    /// The rank that sends.
    pub from: u32,
    /// The lane.
    pub lane: Lane,
}

#[derive(Default)]
struct State {
    messages: HashMap<Channel, VecDeque<(String, Vec<u8>)>>,
    ready: HashMap<Channel, u64>,
    alarms: HashMap<u64, String>,
    departures: HashMap<u32, Departure>,
    aborted: Vec<u32>,
    /// Grows with every change.
    version: u64,
}

/// The messages for one rank.
#[derive(Default)]
pub struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.version += 1;
        self.changed.notify_all();
    }

    /// Takes a message in.
    pub fn deliver(&self, message: Message) {
        let Message { kind, comm, from, lane, tag, body } = message;
        let channel = Channel { comm, from, lane };
        self.change(|state| match kind {
            Kind::Data => state.messages.entry(channel).or_default().push_back((tag, body)),
            Kind::Ready => *state.ready.entry(channel).or_default() += 1,
            Kind::Alarm => _ = state.alarms.entry(comm).or_insert(tag),
            Kind::Leaving => _ = state.departures.entry(from).or_insert(Departure::Left),
            Kind::Aborted => state.aborted.push(from),
        });
    }

    /// The connection to a rank is broken. If it was aborted before, that is known and passed over in
    /// silence: nothing will come, and nobody says so.
    pub fn lost(&self, from: u32) {
        self.change(|state| {
            if !state.aborted.contains(&from) {
                state.departures.entry(from).or_insert(Departure::Lost);
            }
        });
    }

    /// The next message of a channel: its tag and bytes.
    pub fn take(&self, channel: Channel) -> Option<(String, Vec<u8>)> {
        self.lock().messages.get_mut(&channel)?.pop_front()
    }

    /// Whether the other side of a channel has begun a receive that no send has answered yet; it is
    /// answered now.
    pub fn take_ready(&self, channel: Channel) -> bool {
        match self.lock().ready.get_mut(&channel) {
            Some(n) if *n > 0 => {
                *n -= 1;
                true
            }
            _ => false,
        }
    }

    /// How a rank went, if it has.
    pub fn departure(&self, rank: u32) -> Option<Departure> {
        self.lock().departures.get(&rank).copied()
    }

    /// What another rank found wrong in a communicator.
    pub fn alarm(&self, comm: u64) -> Option<String> {
        self.lock().alarms.get(&comm).cloned()
    }

    /// Tells this state from later ones.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Waits until something has changed since `version`, or for a while.
    pub fn wait(&self, version: u64) {
        let state = self.lock();
        if state.version == version {
            drop(self.changed.wait_timeout(state, Duration::from_millis(20)));
        }
    }

    /// Lets all that wait look again.
    pub fn wake(&self) {
        self.change(|_| ());
    }
}
