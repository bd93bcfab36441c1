//! All programs against each other: messages match, and nobody waits for ever.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Report, Violation, invalid};
use crate::schedule::{Action, Programs, Result, Unit};

/// What flows in a channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Content {
    Activations,
    Gradients,
}

/// From one rank to one other; activations and gradients apart.
type Channel = (u32, u32, Content);

/// What a rank does next as far as others are concerned.
enum Need {
    Nothing,
    Send { channel: Channel, unit: Unit },
    /// The sending unit is what the receiver expects.
    Receive { channel: Channel, unit: Unit },
    Tied { peer: u32 },
    Norm,
}

pub(super) fn check(programs: &Programs, capacity: u32, report: &mut Report) -> Result<()> {
    let mut play = Play {
        programs,
        capacity: capacity as usize,
        next: vec![0; programs.schedule().ranks() as usize],
        channels: HashMap::new(),
        at_norm: HashSet::new(),
        report,
    };
    play.run()
}

struct Play<'a> {
    programs: &'a Programs,
    capacity: usize,
    /// Each rank's next action.
    next: Vec<usize>,
    /// Sending units of the messages under way.
    channels: HashMap<Channel, VecDeque<Unit>>,
    /// Ranks that wait at the gradient norm.
    at_norm: HashSet<u32>,
    report: &'a mut Report,
}

impl Play<'_> {
    fn run(&mut self) -> Result<()> {
        let ranks = self.programs.schedule().ranks();
        // Ranks that may be able to go on. Whoever acts puts those back that it may have freed, so
        // each action is tried at most once for itself and once for what it frees.
        let mut ready: VecDeque<u32> = (0..ranks).collect();
        while let Some(rank) = ready.pop_front() {
            while let Some(freed) = self.step(rank)? {
                ready.extend(freed);
            }
            if self.at_norm.len() == ranks as usize {
                for rank in self.at_norm.drain() {
                    self.next[rank as usize] += 1;
                    ready.push_back(rank);
                }
            }
        }
        let stuck = (0..ranks).find(|&rank| self.action(rank).is_some());
        stuck.map_or(Ok(()), |rank| {
            let violation =
                Violation::Deadlock { capacity: self.capacity as u32, waits: self.waits() };
            Err(invalid(self.programs, rank, self.next[rank as usize], violation))
        })
    }

    /// Plays the next action of `rank`. `None` if it has to wait, else the rank that may be able to
    /// go on because of it.
    fn step(&mut self, rank: u32) -> Result<Option<Option<u32>>> {
        let Some(action) = self.action(rank) else { return Ok(None) };
        let freed = match self.need(rank, action) {
            Need::Nothing => None,
            Need::Send { channel, unit } => {
                let queue = self.channels.entry(channel).or_default();
                if queue.len() >= self.capacity {
                    return Ok(None);
                }
                queue.push_back(unit);
                self.report.messages += 1;
                self.report.channel_peak = self.report.channel_peak.max(queue.len() as u32);
                Some(channel.1)
            }
            Need::Receive { channel, unit } => {
                let Some(sent) = self.channels.get_mut(&channel).and_then(VecDeque::pop_front) else {
                    return Ok(None);
                };
                if sent != unit {
                    let violation = Violation::Mismatched { from: channel.0, sent };
                    return Err(invalid(self.programs, rank, self.next[rank as usize], violation));
                }
                Some(channel.0)
            }
            Need::Tied { peer } => {
                if self.action(peer) != Some(Action::ReduceTied { peer: rank }) {
                    return Ok(None);
                }
                self.next[peer as usize] += 1;
                Some(peer)
            }
            Need::Norm => {
                self.at_norm.insert(rank);
                return Ok(None);
            }
        };
        self.next[rank as usize] += 1;
        Ok(Some(freed))
    }

    fn action(&self, rank: u32) -> Option<Action> {
        self.programs.rank(rank).get(self.next[rank as usize]).copied()
    }

    fn need(&self, rank: u32, action: Action) -> Need {
        let placement = self.programs.schedule().placement();
        // The unit of a neighbouring stage on the same slice.
        let across = |unit: Unit, step: i32| {
            let stage = placement.stage(rank, unit.chunk).wrapping_add_signed(step);
            Unit { chunk: placement.locate(stage).1, ..unit }
        };
        match action {
            Action::SendActivation { unit, to } => {
                Need::Send { channel: (rank, to, Content::Activations), unit }
            }
            Action::SendGradient { unit, to } => {
                Need::Send { channel: (rank, to, Content::Gradients), unit }
            }
            Action::RecvActivation { unit, from } => Need::Receive {
                channel: (from, rank, Content::Activations),
                unit: across(unit, -1),
            },
            Action::RecvGradient { unit, from } => Need::Receive {
                channel: (from, rank, Content::Gradients),
                unit: across(unit, 1),
            },
            Action::ReduceTied { peer } => Need::Tied { peer },
            Action::ReduceGradientNorm => Need::Norm,
            Action::Forward(_) | Action::Backward(_) | Action::OptimizerStep => Need::Nothing,
        }
    }

    /// What each stuck rank waits for, in words.
    fn waits(&self) -> String {
        let stuck = (0..self.programs.schedule().ranks())
            .filter_map(|rank| Some((rank, self.action(rank)?)))
            .map(|(rank, action)| {
                let at = self.next[rank as usize];
                format!("rank {rank} waits at action {at} ({action})")
            });
        stuck.collect::<Vec<_>>().join(", ")
    }
}
