//! One rank's program on its own: the order of its units, its memory bound, its end.

use super::{Violation, invalid};
use crate::schedule::{Action, Dimensions, Programs, Result, Unit};

/// What of a unit has happened.
const RECEIVED_INPUT: u8 = 1;
const FORWARD: u8 = 2;
const SENT_OUTPUT: u8 = 4;
const RECEIVED_GRADIENT: u8 = 8;
const BACKWARD: u8 = 16;
const SENT_GRADIENT: u8 = 32;

/// The peaks of one rank.
pub(super) struct Peaks {
    pub(super) in_flight: u32,
    pub(super) kv_gradients: u32,
}

pub(super) fn check(programs: &Programs, rank: u32) -> Result<Peaks> {
    let mut walk = Walk::new(programs, rank);
    for (index, &action) in programs.rank(rank).iter().enumerate() {
        walk.act(action).map_err(|violation| invalid(programs, rank, index, violation))?;
    }
    let end = programs.rank(rank).len();
    walk.end().map_err(|violation| invalid(programs, rank, end, violation))?;
    Ok(walk.peaks)
}

struct Walk<'a> {
    programs: &'a Programs,
    rank: u32,
    dimensions: Dimensions,
    /// This rank's chunks in stage order, and each chunk's index in that order.
    chunks: Vec<u32>,
    turn: Vec<u32>,
    /// What has happened, by unit.
    done: Vec<u8>,
    /// Per (microbatch, chunk): slices that ran forward, and that still have to run backward.
    forwards: Vec<u32>,
    to_backward: Vec<u32>,
    in_flight: u32,
    kv_gradients: u32,
    peaks: Peaks,
    tied: bool,
    norm: bool,
    stepped: bool,
}

impl<'a> Walk<'a> {
    fn new(programs: &'a Programs, rank: u32) -> Self {
        let schedule = programs.schedule();
        let dimensions = schedule.dimensions();
        let mut chunks: Vec<u32> = (0..dimensions.chunks).collect();
        chunks.sort_by_key(|&chunk| schedule.placement().stage(rank, chunk));
        let mut turn = vec![0; chunks.len()];
        for (index, &chunk) in chunks.iter().enumerate() {
            turn[chunk as usize] = index as u32;
        }
        let sequences = (dimensions.microbatches * dimensions.chunks) as usize;
        Self {
            programs,
            rank,
            dimensions,
            chunks,
            turn,
            done: vec![0; dimensions.units() as usize],
            forwards: vec![0; sequences],
            to_backward: vec![dimensions.slices; sequences],
            in_flight: 0,
            kv_gradients: 0,
            peaks: Peaks { in_flight: 0, kv_gradients: 0 },
            tied: false,
            norm: false,
            stepped: false,
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        if self.stepped {
            return Err(Violation::AfterStep);
        }
        if let Some(unit) = action.unit() {
            let Dimensions { slices, microbatches, chunks, .. } = self.dimensions;
            if unit.microbatch >= microbatches || unit.slice >= slices || unit.chunk >= chunks {
                return Err(Violation::NoSuchUnit { microbatches, slices, chunks });
            }
        }
        match action {
            Action::RecvActivation { unit, from } => {
                self.peer(from, self.previous(unit))?;
                self.mark(unit, RECEIVED_INPUT)
            }
            Action::Forward(unit) => self.forward(unit),
            Action::SendActivation { unit, to } => {
                self.peer(to, self.next(unit))?;
                self.after(unit, FORWARD, Action::Forward(unit))?;
                self.mark(unit, SENT_OUTPUT)
            }
            Action::RecvGradient { unit, from } => {
                self.peer(from, self.next(unit))?;
                self.mark(unit, RECEIVED_GRADIENT)
            }
            Action::Backward(unit) => self.backward(unit),
            Action::SendGradient { unit, to } => {
                self.peer(to, self.previous(unit))?;
                self.after(unit, BACKWARD, Action::Backward(unit))?;
                self.mark(unit, SENT_GRADIENT)
            }
            Action::ReduceTied { peer } => {
                self.peer(peer, self.programs.schedule().tied_peer(self.rank))?;
                self.all_backward()?;
                once(&mut self.tied)
            }
            Action::ReduceGradientNorm => {
                self.all_backward()?;
                match self.missing_tied() {
                    Some(first) => Err(Violation::TooEarly { first }),
                    None => once(&mut self.norm),
                }
            }
            Action::OptimizerStep => {
                if !self.norm {
                    return Err(Violation::TooEarly { first: Action::ReduceGradientNorm });
                }
                self.stepped = true;
                Ok(())
            }
        }
    }

    fn forward(&mut self, unit: Unit) -> Result<(), Violation> {
        if let Some(from) = self.previous(unit) {
            self.after(unit, RECEIVED_INPUT, Action::RecvActivation { unit, from })?;
        }
        self.mark(unit, FORWARD)?;
        let at = self.sequence(unit);
        if self.forwards[at] != unit.slice {
            let first = Action::Forward(Unit { slice: self.forwards[at], ..unit });
            return Err(Violation::TooEarly { first });
        }
        self.forwards[at] += 1;
        if let Some(chunk) = self.neighbour(unit.chunk, -1) {
            let earlier = Unit { chunk, ..unit };
            self.after(earlier, FORWARD, Action::Forward(earlier))?;
        }
        self.in_flight += 1;
        self.peaks.in_flight = self.peaks.in_flight.max(self.in_flight);
        let (in_flight, bound) = (self.in_flight, self.programs.schedule().in_flight_peak(self.rank));
        if in_flight > bound {
            return Err(Violation::TooManyInFlight { in_flight, bound });
        }
        Ok(())
    }

    fn backward(&mut self, unit: Unit) -> Result<(), Violation> {
        self.after(unit, FORWARD, Action::Forward(unit))?;
        if let Some(from) = self.next(unit) {
            self.after(unit, RECEIVED_GRADIENT, Action::RecvGradient { unit, from })?;
        }
        self.mark(unit, BACKWARD)?;
        let at = self.sequence(unit);
        // K/V gradients of a slice come from all later ones, so all must have run forward, and the
        // last one begins.
        let slice = self.to_backward[at] - 1;
        if slice != unit.slice {
            return Err(Violation::TooEarly { first: Action::Backward(Unit { slice, ..unit }) });
        }
        if slice + 1 == self.dimensions.slices {
            self.kv_gradients += self.dimensions.slices;
            self.peaks.kv_gradients = self.peaks.kv_gradients.max(self.kv_gradients);
        }
        self.kv_gradients -= 1;
        self.to_backward[at] -= 1;
        if let Some(chunk) = self.neighbour(unit.chunk, 1) {
            let later = Unit { chunk, ..unit };
            self.after(later, BACKWARD, Action::Backward(later))?;
        }
        self.in_flight -= 1;
        Ok(())
    }

    /// Everything that has to happen has happened.
    fn end(&self) -> Result<(), Violation> {
        self.all_backward().map_err(|violation| match violation {
            Violation::TooEarly { first: missing } => Violation::Missing { missing },
            other => other,
        })?;
        let sends = self.units().find_map(|unit| {
            let output = self.next(unit).map(|to| (SENT_OUTPUT, Action::SendActivation { unit, to }));
            let gradient =
                self.previous(unit).map(|to| (SENT_GRADIENT, Action::SendGradient { unit, to }));
            [output, gradient]
                .into_iter()
                .flatten()
                .find(|&(flag, _)| self.done[self.index(unit)] & flag == 0)
                .map(|(_, missing)| missing)
        });
        let norm = (!self.norm).then_some(Action::ReduceGradientNorm);
        let step = (!self.stepped).then_some(Action::OptimizerStep);
        match sends.or(self.missing_tied()).or(norm).or(step) {
            Some(missing) => Err(Violation::Missing { missing }),
            None => Ok(()),
        }
    }

    /// All units have run backward (and so also forward).
    fn all_backward(&self) -> Result<(), Violation> {
        if self.to_backward.iter().all(|&slices| slices == 0) {
            return Ok(());
        }
        let unit = self.units().find(|&unit| self.done[self.index(unit)] & BACKWARD == 0);
        unit.map_or(Ok(()), |unit| Err(Violation::TooEarly { first: Action::Backward(unit) }))
    }

    fn missing_tied(&self) -> Option<Action> {
        let peer = self.programs.schedule().tied_peer(self.rank).filter(|_| !self.tied)?;
        Some(Action::ReduceTied { peer })
    }

    fn mark(&mut self, unit: Unit, flag: u8) -> Result<(), Violation> {
        let index = self.index(unit);
        if self.done[index] & flag != 0 {
            return Err(Violation::Twice);
        }
        self.done[index] |= flag;
        Ok(())
    }

    fn after(&self, unit: Unit, flag: u8, first: Action) -> Result<(), Violation> {
        match self.done[self.index(unit)] & flag {
            0 => Err(Violation::TooEarly { first }),
            _ => Ok(()),
        }
    }

    fn peer(&self, named: u32, neighbour: Option<u32>) -> Result<(), Violation> {
        if neighbour == Some(named) { Ok(()) } else { Err(Violation::WrongPeer { neighbour }) }
    }

    fn previous(&self, unit: Unit) -> Option<u32> {
        self.programs.schedule().placement().remote_previous(self.rank, unit.chunk)
    }

    fn next(&self, unit: Unit) -> Option<u32> {
        self.programs.schedule().placement().remote_next(self.rank, unit.chunk)
    }

    /// The rank's chunk that is `step` after `chunk` in stage order.
    fn neighbour(&self, chunk: u32, step: i32) -> Option<u32> {
        let turn = self.turn[chunk as usize].checked_add_signed(step)?;
        self.chunks.get(turn as usize).copied()
    }

    fn units(&self) -> impl Iterator<Item = Unit> {
        let Dimensions { slices, microbatches, chunks, .. } = self.dimensions;
        (0..microbatches).flat_map(move |microbatch| {
            (0..slices).flat_map(move |slice| {
                (0..chunks).map(move |chunk| Unit { microbatch, slice, chunk })
            })
        })
    }

    fn sequence(&self, unit: Unit) -> usize {
        (unit.microbatch * self.dimensions.chunks + unit.chunk) as usize
    }

    fn index(&self, unit: Unit) -> usize {
        self.sequence(unit) * self.dimensions.slices as usize + unit.slice as usize
    }
}

fn once(flag: &mut bool) -> Result<(), Violation> {
    if std::mem::replace(flag, true) { Err(Violation::Twice) } else { Ok(()) }
}
