//! Proving a schedule sound before anything runs: messages match, nobody waits forever, memory
//! stays within its bound, slices run in the order gradients need.

use std::collections::{HashMap, HashSet, VecDeque};

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

/// A channel: from, to, and whether it carries gradients.
type Channel = (u32, u32, bool);

struct Rank {
    program: super::Program,
    next: Option<Action>,
    index: usize,
    in_flight: HashSet<Unit>,
    peak: u64,
    /// Slices run forward, less those run backward, by (microbatch, chunk).
    open: HashMap<(u32, u32), u32>,
    forwards: u64,
    backwards: u64,
}

/// Verifies the programs of `schedule` when every channel between two ranks holds `capacity`
/// messages per direction and kind. Linear in the number of actions.
///
/// # Errors
/// The first rule that is broken, with rank and action; or who waits for whom in a deadlock.
pub fn verify(schedule: &Schedule, capacity: usize) -> Result<Report, ScheduleError> {
    let mut ranks: Vec<Rank> = (0..schedule.ranks())
        .map(|rank| {
            let mut program = schedule.program(rank);
            let next = program.next();
            let (in_flight, open) = (HashSet::new(), HashMap::new());
            Rank { program, next, index: 0, in_flight, peak: 0, open, forwards: 0, backwards: 0 }
        })
        .collect();
    let mut channels: HashMap<Channel, VecDeque<Unit>> = HashMap::new();
    let (mut actions, mut channel_peak) = (0, 0);
    // A rank runs until it blocks; only ranks whose channel changed are tried again.
    let mut ready: VecDeque<u32> = (0..schedule.ranks()).collect();
    let mut blocked: HashSet<u32> = HashSet::new();
    while let Some(rank) = ready.pop_front() {
        while let Some(action) = ranks[rank as usize].next {
            let index = ranks[rank as usize].index;
            let broken = |what: String| ScheduleError::Broken { rank, index, what };
            if let Some((channel, is_send)) = channel_of(action, rank) {
                let queue = channels.entry(channel).or_default();
                if is_send {
                    if queue.len() >= capacity {
                        break;
                    }
                    queue.push_back(sent(action, rank, schedule));
                    channel_peak = channel_peak.max(queue.len());
                } else {
                    let Some(found) = queue.pop_front() else { break };
                    let expected = received(action);
                    if found != expected {
                        return Err(broken(format!(
                            "receives for unit {expected}, the next message is for {found}"
                        )));
                    }
                }
                let other = if channel.0 == rank { channel.1 } else { channel.0 };
                if blocked.remove(&other) {
                    ready.push_back(other);
                }
            }
            let state = &mut ranks[rank as usize];
            state.check(action, schedule).map_err(broken)?;
            if state.peak > schedule.in_flight_peak(rank) {
                return Err(broken(format!(
                    "{} units in flight, more than {}",
                    state.peak,
                    schedule.in_flight_peak(rank)
                )));
            }
            state.next = state.program.next();
            state.index += 1;
            actions += 1;
        }
        if ranks[rank as usize].next.is_some() {
            blocked.insert(rank);
        }
    }
    let waiting: Vec<String> = ranks
        .iter()
        .enumerate()
        .filter_map(|(rank, state)| {
            state.next.map(|action| format!("rank {rank} at action {} ({action})", state.index))
        })
        .collect();
    if !waiting.is_empty() {
        return Err(ScheduleError::Deadlock { capacity, waiting: waiting.join(", ") });
    }
    for (rank, state) in ranks.iter().enumerate() {
        if let Some(&unit) = state.in_flight.iter().next() {
            return Err(ScheduleError::NotDrained { rank: rank as u32, unit });
        }
        if state.forwards != schedule.units() || state.backwards != schedule.units() {
            let what = format!(
                "{} forwards and {} backwards of {} units",
                state.forwards,
                state.backwards,
                schedule.units()
            );
            return Err(ScheduleError::Broken { rank: rank as u32, index: state.index, what });
        }
    }
    if let Some(((from, to, _), queue)) = channels.iter().find(|(_, queue)| !queue.is_empty()) {
        let what = format!("{} messages to rank {to} are never received", queue.len());
        return Err(ScheduleError::Broken {
            rank: *from,
            index: ranks[*from as usize].index,
            what,
        });
    }
    Ok(Report {
        in_flight_peak: ranks.iter().map(|rank| rank.peak).collect(),
        channel_peak,
        actions,
    })
}

impl Rank {
    fn check(&mut self, action: Action, schedule: &Schedule) -> Result<(), String> {
        match action {
            Action::Forward(unit) => {
                let open = self.open.entry((unit.microbatch, unit.chunk)).or_default();
                if *open != unit.slice {
                    return Err(format!(
                        "forward of {unit} while {open} slices are there: slices run forward in order"
                    ));
                }
                *open += 1;
                if !self.in_flight.insert(unit) {
                    return Err(format!("forward of {unit} a second time"));
                }
                self.forwards += 1;
                self.peak = self.peak.max(self.in_flight.len() as u64);
            }
            Action::Backward(unit) => {
                let open = self.open.entry((unit.microbatch, unit.chunk)).or_default();
                let last = unit.slice + 1 == schedule.slices();
                if *open != unit.slice + 1 || (last && *open != schedule.slices()) {
                    return Err(format!(
                        "backward of {unit} while {open} slices are open: last in, first out"
                    ));
                }
                // Once the first backward has run, later slices must not come back.
                *open -= 1;
                if !self.in_flight.remove(&unit) {
                    return Err(format!("backward of {unit} without its forward"));
                }
                self.backwards += 1;
            }
            _ => {}
        }
        Ok(())
    }
}

fn channel_of(action: Action, rank: u32) -> Option<(Channel, bool)> {
    Some(match action {
        Action::RecvActivation { from, .. } => ((from, rank, false), false),
        Action::RecvGradient { from, .. } => ((from, rank, true), false),
        Action::SendActivation { to, .. } => ((rank, to, false), true),
        Action::SendGradient { to, .. } => ((rank, to, true), true),
        _ => return None,
    })
}

/// The unit a message is for, on the receiving side.
fn sent(action: Action, rank: u32, schedule: &Schedule) -> Unit {
    let placement = schedule.placement();
    let at = |unit: Unit, stage: u32| Unit { chunk: placement.locate(stage).1, ..unit };
    match action {
        Action::SendActivation { unit, .. } => at(unit, placement.stage(rank, unit.chunk) + 1),
        Action::SendGradient { unit, .. } => at(unit, placement.stage(rank, unit.chunk) - 1),
        _ => unreachable!("only sends are asked for"),
    }
}

fn received(action: Action) -> Unit {
    match action {
        Action::RecvActivation { unit, .. } | Action::RecvGradient { unit, .. } => unit,
        _ => unreachable!("only receives are asked for"),
    }
}
