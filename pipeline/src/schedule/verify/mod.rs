//! Proving programs sound before anything runs: messages match, nobody waits forever, memory stays
//! within its bound, slices run in the order that gradients need.
//!
//! [`rules`] are what a rank can be judged by alone. Here the ranks run against each other: each
//! until it has to wait, in time linear in the number of actions, and memory for what is in flight and
//! a note per finished microbatch and chunk.

mod exchange;
mod rules;
mod transfer;
mod vocabulary;

use std::collections::{HashMap, VecDeque};

use rules::Rules;
use transfer::{Channel, Message, Transfer, transfers};
use vocabulary::{Together, collective};

use super::{Action, Schedule, ScheduleError};

/// What verification found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The most units in flight, by rank.
    pub in_flight_peak: Vec<u64>,
    /// The most messages that waited in one channel, of those that have bounds.
    pub channel_peak: usize,
    /// Actions of all ranks together.
    pub actions: u64,
}

/// Verifies the programs of `schedule` when every channel holds `capacity` messages. There is one
/// channel for each direction between two ranks and each kind of message. Those of the attention
/// exchange need no bound: a rank has at most the messages of one layer under way.
///
/// # Errors
/// The first rule that is broken, with rank and action; or who waits at what in a deadlock.
pub fn verify(schedule: &Schedule, capacity: usize) -> Result<Report, ScheduleError> {
    verify_programs(schedule, (0..schedule.ranks()).map(|rank| schedule.program(rank)), capacity)
}

/// Verifies `programs`, by rank, as programs for a step of the size and the placement of `schedule`
/// that keep its bound on units in flight. They may come from anywhere and need not be in the order
/// of `schedule`.
///
/// # Errors
/// As [`verify`].
pub fn verify_programs<P: IntoIterator<Item = Action>>(
    schedule: &Schedule,
    programs: impl IntoIterator<Item = P>,
    capacity: usize,
) -> Result<Report, ScheduleError> {
    let ranks: Vec<_> = programs
        .into_iter()
        .enumerate()
        .map(|(rank, program)| Rank::new(schedule, rank as u32, program.into_iter()))
        .collect();
    if ranks.len() != schedule.ranks() as usize {
        let (programs, ranks) = (ranks.len(), schedule.ranks());
        return Err(ScheduleError::WrongRanks { programs, ranks });
    }
    let together = Together::new(ranks.len());
    Group { ranks, together, channels: HashMap::new(), capacity, channel_peak: 0 }.run()
}

struct Rank<'a, I> {
    program: I,
    next: Option<Action>,
    index: usize,
    rules: Rules<'a>,
    /// Whether the action at hand was judged, and its transfers are under way.
    begun: bool,
    transfers: VecDeque<Transfer>,
    waiting: Option<Channel>,
}

struct Group<'a, I> {
    ranks: Vec<Rank<'a, I>>,
    together: Together,
    /// Messages under way.
    channels: HashMap<Channel, VecDeque<Message>>,
    capacity: usize,
    channel_peak: usize,
}

impl<'a, I: Iterator<Item = Action>> Rank<'a, I> {
    fn new(schedule: &'a Schedule, rank: u32, mut program: I) -> Self {
        let (next, rules) = (program.next(), Rules::new(schedule, rank));
        let transfers = VecDeque::new();
        Self { program, next, index: 0, rules, begun: false, transfers, waiting: None }
    }

    /// Judges the action at hand when the rank comes to it.
    fn begin(&mut self, rank: u32, action: Action, together: &mut Together) -> Result<(), String> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let roles = self.rules.check(action)?;
        if collective(action).is_some() {
            together.begin(rank, action)?;
        }
        let transfers_of_it = &mut self.transfers;
        transfers(action, rank, &roles, &self.rules, |transfer| {
            transfers_of_it.push_back(transfer)
        });
        Ok(())
    }

    fn advance(&mut self) {
        self.next = self.program.next();
        self.index += 1;
        self.begun = false;
    }
}

impl<I: Iterator<Item = Action>> Group<'_, I> {
    fn run(mut self) -> Result<Report, ScheduleError> {
        let mut ready: VecDeque<u32> = (0..self.ranks.len() as u32).collect();
        while let Some(rank) = ready.pop_front() {
            while let Some(action) = self.ranks[rank as usize].next {
                if !self.step(rank, action, &mut ready)? {
                    break;
                }
            }
        }
        self.expect_done()?;
        Ok(Report {
            in_flight_peak: self.ranks.iter().map(|rank| rank.rules.in_flight_peak()).collect(),
            channel_peak: self.channel_peak,
            actions: self.ranks.iter().map(|rank| rank.index as u64).sum(),
        })
    }

    /// Runs one action of `rank`, and adds to `ready` who can go on because of it. `false` if the
    /// rank has to wait first.
    fn step(
        &mut self,
        rank: u32,
        action: Action,
        ready: &mut VecDeque<u32>,
    ) -> Result<bool, ScheduleError> {
        let state = &mut self.ranks[rank as usize];
        let index = state.index;
        let broken = |what| ScheduleError::Broken { rank, index, action, what };
        state.waiting = None;
        state.begin(rank, action, &mut self.together).map_err(broken)?;
        while let Some(&transfer) = self.ranks[rank as usize].transfers.front() {
            if let Some(channel) = self.transfer(transfer, ready).map_err(broken)? {
                self.ranks[rank as usize].waiting = Some(channel);
                return Ok(false);
            }
            self.ranks[rank as usize].transfers.pop_front();
        }
        self.ranks[rank as usize].advance();
        Ok(true)
    }

    /// Does a transfer; gives the channel to wait for if it has to wait, and what is wrong if the
    /// message is not the one that is due.
    fn transfer(
        &mut self,
        transfer: Transfer,
        ready: &mut VecDeque<u32>,
    ) -> Result<Option<Channel>, String> {
        match transfer {
            Transfer::Send(channel, message) => {
                let queue = self.channels.entry(channel).or_default();
                if queue.len() >= self.capacity {
                    return Ok(Some(channel));
                }
                queue.push_back(message);
                self.channel_peak = self.channel_peak.max(queue.len());
                self.wake(channel.1, channel, ready);
            }
            Transfer::Post(channel, message) => {
                self.channels.entry(channel).or_default().push_back(message);
                self.wake(channel.1, channel, ready);
            }
            Transfer::Receive(channel, message) => {
                let Some(found) = self.channels.entry(channel).or_default().pop_front() else {
                    return Ok(Some(channel));
                };
                if found != message {
                    return Err(format!("the next message from rank {} is for {found}", channel.0));
                }
                self.wake(channel.0, channel, ready);
            }
        }
        Ok(None)
    }

    /// Makes `rank` ready if it waits for `channel`.
    fn wake(&self, rank: u32, channel: Channel, ready: &mut VecDeque<u32>) {
        if self.ranks[rank as usize].waiting == Some(channel) {
            ready.push_back(rank);
        }
    }

    /// Nobody waits, and every program came to its end.
    fn expect_done(&self) -> Result<(), ScheduleError> {
        let waiting: Vec<String> = (self.ranks.iter().enumerate())
            .filter_map(|(rank, state)| {
                let action = state.next?;
                Some(format!("rank {rank} at action {} ({action})", state.index))
            })
            .collect();
        if !waiting.is_empty() {
            let (capacity, waiting) = (self.capacity, waiting.join(", "));
            return Err(ScheduleError::Deadlock { capacity, waiting });
        }
        match self.ranks.iter().position(|rank| !rank.rules.is_done()) {
            Some(rank) => {
                let actions = self.ranks[rank].index;
                Err(ScheduleError::Unfinished { rank: rank as u32, actions })
            }
            // A message left over would be one that its receiver's program does not receive; the
            // receiver's rules have refused that.
            None => Ok(()),
        }
    }
}
