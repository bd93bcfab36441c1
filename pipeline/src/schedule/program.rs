//! From a schedule's closed forms to each rank's program.
//!
//! All schedules here share one shape. A rank runs forwards until `target` units are in flight, then
//! alternates backward and forward until forwards are exhausted, then only backwards. They differ in
//! the target and in the order of units.

use super::{Action, Placement, ScheduleError, ScheduleKind, Unit};

/// A pipeline schedule: what every rank runs in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    kind: ScheduleKind,
    ranks: u32,
    slices: u32,
    microbatches: u32,
    chunks: u32,
    /// Slices that pass through a chunk before the next chunk begins.
    group: u32,
    placement: Placement,
}

impl Schedule {
    /// The schedule `kind` for `ranks` pipeline ranks (p), `slices` per sequence (n), `microbatches`
    /// per step (m) and `chunks` of the model per rank (v).
    ///
    /// # Errors
    /// A combination the schedule does not run; the message says which are.
    pub fn new(
        kind: ScheduleKind,
        ranks: u32,
        slices: u32,
        microbatches: u32,
        chunks: u32,
    ) -> Result<Self, ScheduleError> {
        let counts = [
            (ranks, "parallel.pipeline"),
            (slices, "parallel.slices"),
            (microbatches, "train.microbatches"),
            (chunks, "parallel.chunks"),
        ];
        if let Some(&(_, what)) = counts.iter().find(|(count, _)| *count == 0) {
            return Err(ScheduleError::Zero { what });
        }
        if kind != ScheduleKind::SlimPipe && slices != 1 {
            return Err(ScheduleError::Unsliced { kind: kind.name(), slices });
        }
        if matches!(kind, ScheduleKind::GPipe | ScheduleKind::OneFOneB) && chunks != 1 {
            return Err(ScheduleError::Unchunked { kind: kind.name(), chunks });
        }
        let mut group = slices;
        match kind {
            ScheduleKind::SlimPipe if chunks > 1 => {
                if slices < ranks {
                    return Err(ScheduleError::TooFewSlices { chunks, slices, ranks });
                }
                group = (ranks..=slices).find(|g| slices.is_multiple_of(*g)).unwrap_or(slices);
            }
            ScheduleKind::Interleaved => {
                if !microbatches.is_multiple_of(ranks) {
                    return Err(ScheduleError::UnevenMicrobatches { microbatches, ranks });
                }
                group = ranks;
            }
            _ => {}
        }
        let placement = Placement::around(ranks, chunks);
        Ok(Self { kind, ranks, slices, microbatches, chunks, group, placement })
    }

    /// Which schedule this is.
    pub fn kind(&self) -> ScheduleKind {
        self.kind
    }

    /// Pipeline ranks, p.
    pub fn ranks(&self) -> u32 {
        self.ranks
    }

    /// Slices per sequence, n.
    pub fn slices(&self) -> u32 {
        self.slices
    }

    /// Microbatches per step, m.
    pub fn microbatches(&self) -> u32 {
        self.microbatches
    }

    /// Model chunks per rank, v.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Which rank runs which stage.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Units a rank runs in a step, m n v.
    pub fn units(&self) -> u64 {
        u64::from(self.microbatches) * u64::from(self.slices) * u64::from(self.chunks)
    }

    /// The most units in flight on `rank`: its memory.
    pub fn in_flight_peak(&self, rank: u32) -> u64 {
        let behind = u64::from(self.ranks - 1 - rank);
        let (p, n, v) = (u64::from(self.ranks), u64::from(self.slices), u64::from(self.chunks));
        let target = match self.kind {
            ScheduleKind::SlimPipe => n * v + 2 * behind,
            ScheduleKind::GPipe => self.units(),
            ScheduleKind::OneFOneB => behind + 1,
            ScheduleKind::Interleaved => 2 * behind + (v - 1) * p + 1,
        };
        target.min(self.units())
    }

    /// The `k`-th unit to run forward, the same on every rank.
    pub fn forward(&self, k: u64) -> Unit {
        let per_microbatch = u64::from(self.slices) * u64::from(self.chunks);
        let (group, round) =
            (u64::from(self.group), u64::from(self.group) * u64::from(self.chunks));
        match self.kind {
            ScheduleKind::Interleaved => {
                // Groups of p microbatches go through chunk 0, then chunk 1, ...
                let chunk = k % round / group;
                Unit {
                    microbatch: (k / round * group + k % group) as u32,
                    slice: 0,
                    chunk: chunk as u32,
                }
            }
            _ => {
                let i = k % per_microbatch;
                Unit {
                    microbatch: (k / per_microbatch) as u32,
                    slice: (i / round * group + i % group) as u32,
                    chunk: (i % round / group) as u32,
                }
            }
        }
    }

    /// The `k`-th unit to run backward, the same on every rank: last in, first out within a
    /// microbatch.
    pub fn backward(&self, k: u64) -> Unit {
        let per_microbatch = u64::from(self.slices) * u64::from(self.chunks);
        match self.kind {
            ScheduleKind::GPipe => self.forward(self.units() - 1 - k),
            ScheduleKind::Interleaved => {
                let unit = self.forward(k);
                Unit { chunk: self.chunks - 1 - unit.chunk, ..unit }
            }
            _ => {
                let (microbatch, i) = (k / per_microbatch, k % per_microbatch);
                self.forward(microbatch * per_microbatch + per_microbatch - 1 - i)
            }
        }
    }

    /// The order in which `rank` runs forwards and backwards, without messages.
    pub fn order(&self, rank: u32) -> impl Iterator<Item = Action> + use<> {
        let (schedule, units, target) = (self.clone(), self.units(), self.in_flight_peak(rank));
        let (mut forwards, mut backwards) = (0, 0);
        std::iter::from_fn(move || {
            let in_flight = forwards - backwards;
            if forwards < units && in_flight < target {
                forwards += 1;
                Some(Action::Forward(schedule.forward(forwards - 1)))
            } else if backwards < units {
                backwards += 1;
                Some(Action::Backward(schedule.backward(backwards - 1)))
            } else {
                None
            }
        })
    }

    /// The program of `rank`: its order, with messages where a neighbouring stage is on another rank
    /// (a neighbour on the same rank hands over in memory), and what ends a step.
    pub fn program(&self, rank: u32) -> Program {
        let mut order = self.order(rank);
        let placement = self.placement.clone();
        let last = placement.stages() - 1;
        let ends = (placement.locate(0).0, placement.locate(last).0);
        let tied = (ends.0 != ends.1 && (rank == ends.0 || rank == ends.1))
            .then(|| Action::ReduceTied { peer: ends.0 + ends.1 - rank });
        let mut tail = [tied, Some(Action::OptimizerStep)].into_iter().flatten();
        let mut ready = Vec::with_capacity(3);
        Program(Box::new(std::iter::from_fn(move || {
            if ready.is_empty() {
                let Some(action) = order.next() else { return tail.next() };
                ready = lower(action, rank, &placement);
                ready.reverse();
            }
            ready.pop()
        })))
    }
}

/// An action on a unit with the messages around it.
fn lower(action: Action, rank: u32, placement: &Placement) -> Vec<Action> {
    let peer = |unit: Unit, forward: bool| -> Option<u32> {
        let stage = placement.stage(rank, unit.chunk);
        let neighbour = if forward {
            stage.checked_add(1).filter(|s| *s < placement.stages())
        } else {
            stage.checked_sub(1)
        };
        neighbour.map(|stage| placement.locate(stage).0).filter(|&peer| peer != rank)
    };
    let (before, after) = match action {
        Action::Forward(unit) => (
            peer(unit, false).map(|from| Action::RecvActivation { unit, from }),
            peer(unit, true).map(|to| Action::SendActivation { unit, to }),
        ),
        Action::Backward(unit) => (
            peer(unit, true).map(|from| Action::RecvGradient { unit, from }),
            peer(unit, false).map(|to| Action::SendGradient { unit, to }),
        ),
        _ => (None, None),
    };
    before.into_iter().chain([action]).chain(after).collect()
}

/// A rank's actions, in order.
pub struct Program(Box<dyn Iterator<Item = Action> + Send>);

impl Iterator for Program {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        self.0.next()
    }
}
