//! What a rank holds as it goes through its program: terms do not all peak at once.

use slimpipe_pipeline::schedule::{Action, Schedule, Unit};

use super::runtime::Rank;

/// The highest figures of a walk, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Most {
    /// What units in flight have saved.
    pub saved: f64,
    /// Their keys and values.
    pub kv: f64,
    /// Gradients of keys and values.
    pub kv_gradients: f64,
    /// All of these and temporaries together.
    pub together: f64,
}

/// Where a walk is.
struct Walk<'a> {
    of: &'a Rank<'a>,
    slices: u32,
    /// Forwards that are still to come.
    forwards: u64,
    saved: f64,
    kv: f64,
    /// Open accumulators of dK and dV in each layer, by chunk.
    open: Vec<u32>,
    most: Most,
}

/// Walks through the program of `rank` until one microbatch has run backward after the rank was
/// full: from then on everything repeats or drains.
pub fn walk(schedule: &Schedule, rank: u32, of: &Rank<'_>) -> Most {
    let chunks = schedule.chunks();
    let mut walk = Walk {
        of,
        slices: schedule.slices(),
        forwards: schedule.units(),
        saved: 0.0,
        kv: 0.0,
        open: vec![0; chunks as usize],
        most: Most::default(),
    };
    let mut backwards = 2 * schedule.slices() * chunks;
    for action in schedule.order(rank) {
        match action {
            Action::Forward(unit) => walk.forward(unit),
            Action::Backward(unit) => walk.backward(unit),
            // Weight gradients need what input gradients have left: a unit goes with its last part.
            Action::BackwardWeight(unit) => walk.backward(unit),
            _ => continue,
        }
        if !matches!(action, Action::Forward(_)) {
            backwards -= 1;
            if backwards == 0 {
                break;
            }
        }
    }
    walk.most
}

impl Walk<'_> {
    fn forward(&mut self, unit: Unit) {
        let chunk = unit.chunk as usize;
        self.saved += self.of.saved_unit(chunk);
        self.kv += self.of.kv_chunk() * self.of.chunk_layers(chunk);
        self.forwards -= 1;
        self.most.kv = self.most.kv.max(self.kv);
        // Behind it, one is leaving.
        let saved = self.here(2.0, chunk);
        self.note(saved, self.accumulators(), self.of.head());
    }

    /// Layers run from the last to the first. What they saved goes, accumulators come: the most is
    /// held at one end or the other.
    fn backward(&mut self, unit: Unit) {
        let (chunk, of) = (unit.chunk as usize, self.of);
        // Behind it, one is coming back, and the last forward's may be leaving.
        let whole = if self.forwards > 0 { 3.0 } else { 2.0 };
        let temporary = of.unit(chunk).max(of.attention_together());
        let saved = self.here(whole, chunk);
        self.note(saved, self.accumulators(), temporary);
        self.saved -= of.saved_unit(chunk);
        let last = unit.slice + 1 == self.slices;
        self.open[chunk] = if last { self.slices } else { self.open[chunk] } - 1;
        // The lowest layer has not closed the slice's own yet.
        let accumulators = self.accumulators() + of.kv_gradient();
        self.most.kv_gradients = self.most.kv_gradients.max(accumulators);
        // What is left of its lowest layer; where that was made again, it is no longer what was saved.
        let left = of.saved_attention() + of.attention_backward();
        self.note(self.here(whole - 1.0, chunk), accumulators, left);
        self.kv -= of.kv_chunk() * of.chunk_layers(chunk);
    }

    /// What is in the rank's memory of what units have saved: of `whole` units, which are of the same
    /// chunk as a rule, all.
    fn here(&self, whole: f64, chunk: usize) -> f64 {
        let stays = self.saved.min(whole * self.of.saved_unit(chunk));
        self.saved - self.of.offload() * (self.saved - stays)
    }

    fn accumulators(&self) -> f64 {
        let layers = self
            .open
            .iter()
            .enumerate()
            .map(|(chunk, open)| f64::from(*open) * self.of.chunk_layers(chunk));
        layers.sum::<f64>() * self.of.kv_gradient()
    }

    fn note(&mut self, saved: f64, accumulators: f64, temporary: f64) {
        self.most.saved = self.most.saved.max(saved);
        let together = saved + self.kv + accumulators + temporary;
        self.most.together = self.most.together.max(together);
    }
}
