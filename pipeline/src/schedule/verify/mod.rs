//! Proving programs sound before anything runs: messages match, nobody waits forever, memory stays
//! within its bound, slices run in the order that gradients need.
//!
//! [`rules`] are what a rank can be judged by alone. Here the ranks run against each other: each
//! until it has to wait, in time linear in the number of actions, and memory for what is in flight and
//! a note per finished microbatch and chunk.

mod rules;

use std::collections::{HashMap, VecDeque};

use rules::Rules;

use super::{Action, Schedule, ScheduleError, Unit};

/// What verification found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The most units in flight, by rank.
    pub in_flight_peak: Vec<u64>,
    /// The most messages that waited in one channel.
    pub channel_peak: usize,
    /// Actions of all ranks together.
    pub actions: u64,
}

/// Verifies the programs of `schedule` when every channel holds `capacity` messages. There is one
/// channel for each direction between two ranks and each kind of message.
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
    Group { ranks, channels: HashMap::new(), capacity, channel_peak: 0 }.run()
}

/// What a channel carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Activation,
    Gradient,
    /// The word that a rank has come to its tied gradients.
    Tied,
}

/// Sender, receiver and kind.
type Channel = (u32, u32, Kind);

/// What one action does to channels.
enum Transfer {
    Send(Channel, Unit),
    Receive(Channel, Unit),
    /// Both ranks announce themselves, then wait for each other.
    Meet {
        announce: Channel,
        wait: Channel,
    },
    None,
}

struct Rank<'a, I> {
    program: I,
    next: Option<Action>,
    index: usize,
    rules: Rules<'a>,
    /// Whether the action at hand has announced itself already.
    announced: bool,
    waiting: Option<Channel>,
}

struct Group<'a, I> {
    ranks: Vec<Rank<'a, I>>,
    /// Messages under way, each as the unit that its receiver needs it for.
    channels: HashMap<Channel, VecDeque<Unit>>,
    capacity: usize,
    channel_peak: usize,
}

impl<'a, I: Iterator<Item = Action>> Rank<'a, I> {
    fn new(schedule: &'a Schedule, rank: u32, mut program: I) -> Self {
        let (next, rules) = (program.next(), Rules::new(schedule, rank));
        Self { program, next, index: 0, rules, announced: false, waiting: None }
    }

    fn advance(&mut self) {
        self.next = self.program.next();
        self.index += 1;
        self.announced = false;
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
        let index = self.ranks[rank as usize].index;
        let broken = |what| ScheduleError::Broken { rank, index, action, what };
        if self.ranks[rank as usize].waiting.take().is_none() {
            // The rules look at an action once, when the rank comes to it.
            self.ranks[rank as usize].rules.check(action).map_err(broken)?;
        }
        match transfer(action, rank, &self.ranks[rank as usize].rules) {
            Transfer::Send(channel, unit) => {
                let queue = self.channels.entry(channel).or_default();
                if queue.len() >= self.capacity {
                    self.ranks[rank as usize].waiting = Some(channel);
                    return Ok(false);
                }
                queue.push_back(unit);
                self.channel_peak = self.channel_peak.max(queue.len());
                self.wake(channel.1, channel, ready);
            }
            Transfer::Receive(channel, unit) => {
                let Some(found) = self.channels.entry(channel).or_default().pop_front() else {
                    self.ranks[rank as usize].waiting = Some(channel);
                    return Ok(false);
                };
                if found != unit {
                    return Err(broken(format!(
                        "the next message from rank {} is for {found}",
                        channel.0
                    )));
                }
                self.wake(channel.0, channel, ready);
            }
            Transfer::Meet { announce, wait } => {
                let word = Unit { microbatch: 0, slice: 0, chunk: 0 };
                if !std::mem::replace(&mut self.ranks[rank as usize].announced, true) {
                    self.channels.entry(announce).or_default().push_back(word);
                    self.wake(announce.1, announce, ready);
                }
                if self.channels.entry(wait).or_default().pop_front().is_none() {
                    self.ranks[rank as usize].waiting = Some(wait);
                    return Ok(false);
                }
            }
            Transfer::None => {}
        }
        self.ranks[rank as usize].advance();
        Ok(true)
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

/// What a valid action of `rank` sends or receives.
fn transfer(action: Action, rank: u32, rules: &Rules<'_>) -> Transfer {
    match action {
        Action::SendActivation { unit, to } => {
            Transfer::Send((rank, to, Kind::Activation), rules.counterpart_after(unit))
        }
        Action::SendGradient { unit, to } => {
            Transfer::Send((rank, to, Kind::Gradient), rules.counterpart_before(unit))
        }
        Action::RecvActivation { unit, from } => {
            Transfer::Receive((from, rank, Kind::Activation), unit)
        }
        Action::RecvGradient { unit, from } => {
            Transfer::Receive((from, rank, Kind::Gradient), unit)
        }
        Action::ReduceTied { peer } => {
            Transfer::Meet { announce: (rank, peer, Kind::Tied), wait: (peer, rank, Kind::Tied) }
        }
        Action::Forward(_)
        | Action::Backward(_)
        | Action::BackwardInput(_)
        | Action::BackwardWeight(_)
        | Action::OptimizerStep => Transfer::None,
    }
}
