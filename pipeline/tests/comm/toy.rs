//! Whole programs on a toy model whose arithmetic is exact, so that no cut may change a bit.
//!
//! Layer: y_t = w x_t + sum of x_u for u <= t, in integers modulo 2^64: later tokens see earlier ones,
//! as in attention. Loss: sum of c_t y_t.

use std::collections::HashMap;

use slimpipe_pipeline::comm::local::{LocalComm, launch};
use slimpipe_pipeline::comm::{CommError, Communicator, Tag};
use slimpipe_pipeline::schedule::{Action, Schedule, ScheduleKind, Unit};

use crate::watchdog::Watchdog;

const LAYERS: usize = 12;
const TOKENS: usize = 24;

fn weight(layer: usize) -> i64 {
    3 + 2 * layer as i64
}

fn token(microbatch: u32, t: usize) -> i64 {
    1 + (i64::from(microbatch) * 31 + t as i64 * 17) % 23
}

fn loss_gradient(t: usize) -> i64 {
    1 + t as i64 % 5
}

/// A layer forward on one slice; `history` is the sum of earlier tokens.
fn forward(layer: usize, x: &[i64], history: &mut i64) -> Vec<i64> {
    let step = |&x: &i64| {
        *history = history.wrapping_add(x);
        weight(layer).wrapping_mul(x).wrapping_add(*history)
    };
    x.iter().map(step).collect()
}

/// A layer backward on one slice; `future` is the sum of later tokens' gradients.
fn backward(layer: usize, x: &[i64], g: &[i64], future: &mut i64, dw: &mut i64) -> Vec<i64> {
    let mut dx = vec![0; x.len()];
    for t in (0..x.len()).rev() {
        *future = future.wrapping_add(g[t]);
        *dw = dw.wrapping_add(g[t].wrapping_mul(x[t]));
        dx[t] = weight(layer).wrapping_mul(g[t]).wrapping_add(*future);
    }
    dx
}

/// Loss and weight gradients of the uncut model.
fn reference(microbatches: u32) -> (i64, Vec<i64>) {
    let (mut loss, mut dw) = (0i64, vec![0; LAYERS]);
    for microbatch in 0..microbatches {
        let mut inputs: Vec<Vec<i64>> = vec![(0..TOKENS).map(|t| token(microbatch, t)).collect()];
        for layer in 0..LAYERS {
            inputs.push(forward(layer, &inputs[layer], &mut 0));
        }
        let mut g: Vec<i64> = (0..TOKENS).map(loss_gradient).collect();
        let terms = g.iter().zip(&inputs[LAYERS]).map(|(c, y)| c.wrapping_mul(*y));
        loss = terms.fold(loss, i64::wrapping_add);
        for layer in (0..LAYERS).rev() {
            g = backward(layer, &inputs[layer], &g, &mut 0, &mut dw[layer]);
        }
    }
    (loss, dw)
}

/// A rank's part of the model while it runs its program.
struct Rank<'a> {
    schedule: &'a Schedule,
    comm: LocalComm,
    /// By microbatch and layer.
    histories: HashMap<(u32, usize), i64>,
    futures: HashMap<(u32, usize), i64>,
    /// By unit: received inputs and gradients, inputs of the unit's layers, outputs, input gradients.
    inputs: HashMap<Unit, Vec<i64>>,
    gradients: HashMap<Unit, Vec<i64>>,
    saved: HashMap<Unit, Vec<Vec<i64>>>,
    outputs: HashMap<Unit, Vec<i64>>,
    input_gradients: HashMap<Unit, Vec<i64>>,
    /// By layer, what a unit's weight part adds.
    weights: HashMap<Unit, Vec<(usize, i64)>>,
    loss: i64,
    dw: Vec<i64>,
}

impl Rank<'_> {
    fn run(mut self) -> Result<(i64, Vec<i64>), CommError> {
        for action in self.schedule.program(self.comm.rank()) {
            self.act(action)?;
        }
        assert!(
            self.saved.is_empty()
                && self.weights.is_empty()
                && self.outputs.is_empty()
                && self.input_gradients.is_empty()
        );
        Ok((self.loss, self.dw))
    }

    fn add_weights(&mut self, unit: Unit) {
        for (layer, dw) in self.weights.remove(&unit).unwrap() {
            self.dw[layer] = self.dw[layer].wrapping_add(dw);
        }
    }

    fn act(&mut self, action: Action) -> Result<(), CommError> {
        let (rank, placement) = (self.comm.rank(), self.schedule.placement());
        let len = TOKENS / self.schedule.slices() as usize;
        let start = |unit: Unit| unit.slice as usize * len;
        let bytes = |values: Vec<i64>| Box::new(bytemuck::cast_slice(&values).to_vec());
        let stage = |unit: Unit| placement.stage(rank, unit.chunk) as usize;
        let each = LAYERS / placement.stages() as usize;
        match action {
            Action::RecvActivation { unit, from } => {
                let (_, chunk) = placement.before(rank, unit.chunk).unwrap();
                let mut values = vec![0i64; len];
                let tag = Tag::Activation(Unit { chunk, ..unit });
                self.comm.recv(from, tag, bytemuck::cast_slice_mut::<_, u8>(&mut values).into())?;
                self.inputs.insert(unit, values);
            }
            Action::Forward(unit) => {
                let mut x = match placement.before(rank, unit.chunk) {
                    None => (0..len).map(|t| token(unit.microbatch, start(unit) + t)).collect(),
                    Some((peer, chunk)) if peer == rank => {
                        self.outputs.remove(&Unit { chunk, ..unit }).unwrap()
                    }
                    Some(_) => self.inputs.remove(&unit).unwrap(),
                };
                for layer in stage(unit) * each..(stage(unit) + 1) * each {
                    let history = self.histories.entry((unit.microbatch, layer)).or_default();
                    let y = forward(layer, &x, history);
                    self.saved.entry(unit).or_default().push(std::mem::replace(&mut x, y));
                }
                if placement.after(rank, unit.chunk).is_some() {
                    self.outputs.insert(unit, x);
                } else {
                    let terms = (0..len).map(|t| loss_gradient(start(unit) + t).wrapping_mul(x[t]));
                    self.loss = terms.fold(self.loss, i64::wrapping_add);
                }
            }
            Action::SendActivation { unit, to } => {
                let output = self.outputs.remove(&unit).unwrap();
                self.comm.send(to, Tag::Activation(unit), bytes(output))?;
            }
            Action::RecvGradient { unit, from } => {
                let (_, chunk) = placement.after(rank, unit.chunk).unwrap();
                let mut values = vec![0i64; len];
                let tag = Tag::Gradient(Unit { chunk, ..unit });
                self.comm.recv(from, tag, bytemuck::cast_slice_mut::<_, u8>(&mut values).into())?;
                self.gradients.insert(unit, values);
            }
            Action::Backward(unit) | Action::BackwardInput(unit) => {
                let mut g = match placement.after(rank, unit.chunk) {
                    None => (0..len).map(|t| loss_gradient(start(unit) + t)).collect(),
                    Some((peer, chunk)) if peer == rank => {
                        self.input_gradients.remove(&Unit { chunk, ..unit }).unwrap()
                    }
                    Some(_) => self.gradients.remove(&unit).unwrap(),
                };
                let saved = self.saved.remove(&unit).unwrap();
                for (layer, x) in (stage(unit) * each..).zip(saved).collect::<Vec<_>>().iter().rev()
                {
                    let future = self.futures.entry((unit.microbatch, *layer)).or_default();
                    let mut dw = 0;
                    g = backward(*layer, x, &g, future, &mut dw);
                    self.weights.entry(unit).or_default().push((*layer, dw));
                }
                if action == Action::Backward(unit) {
                    self.add_weights(unit);
                }
                if placement.before(rank, unit.chunk).is_some() {
                    self.input_gradients.insert(unit, g);
                }
            }
            Action::BackwardWeight(unit) => self.add_weights(unit),
            Action::SendGradient { unit, to } => {
                let gradient = self.input_gradients.remove(&unit).unwrap();
                self.comm.send(to, Tag::Gradient(unit), bytes(gradient))?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn every_schedule_gives_the_loss_and_the_gradients_of_the_uncut_model() {
    let _watchdog = Watchdog::new("toy");
    let mut schedules = 0;
    for m in 1..=4 {
        let expected = reference(m);
        for (p, n, v) in [1, 2, 3, 4].into_iter().flat_map(|p| {
            [1, 2, 3, 4, 6, 8].into_iter().flat_map(move |n| [1, 2, 3].map(move |v| (p, n, v)))
        }) {
            for kind in ScheduleKind::ALL {
                let Ok(schedule) = Schedule::new(kind, p, n, m, v) else { continue };
                if !LAYERS.is_multiple_of((p * v) as usize) {
                    continue;
                }
                let parts = launch(p, schedule.channel_capacity(), |comm| {
                    let rank = Rank {
                        schedule: &schedule,
                        comm,
                        histories: HashMap::new(),
                        futures: HashMap::new(),
                        inputs: HashMap::new(),
                        gradients: HashMap::new(),
                        saved: HashMap::new(),
                        outputs: HashMap::new(),
                        input_gradients: HashMap::new(),
                        weights: HashMap::new(),
                        loss: 0,
                        dw: vec![0; LAYERS],
                    };
                    rank.run()
                })
                .unwrap_or_else(|error| panic!("{schedule:?}: {error}"));
                let loss = parts.iter().fold(0i64, |sum, (loss, _)| sum.wrapping_add(*loss));
                let dw = (0..LAYERS).map(|layer| parts.iter().map(|part| part.1[layer]).sum());
                assert_eq!((loss, dw.collect()), expected, "{schedule:?}");
                schedules += 1;
            }
        }
    }
    assert!(schedules > 150, "{schedules}");
}
