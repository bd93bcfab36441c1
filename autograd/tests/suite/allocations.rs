//! What a training step allocates: no hidden copies, and the same on the meta device.

use std::sync::{Arc, Mutex};

use slimpipe_allocator::adaptor::{Adaptor, Event};
use slimpipe_allocator::{Memory, Recorder, UnitId};
use slimpipe_autograd::{
    KvCache, Parameter, Result, RopeTable, TapeEnd, Tensor, WeightPart, backward, backward_input,
};
use slimpipe_runtime::{DType, Device, RawTensor, team};

use crate::suite::util::parameter;

const ROWS: usize = 32;
const WIDTH: usize = 24;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 6;

/// A Llama of one layer: embedding, attention, MLP, head.
struct Llama {
    weights: Vec<Parameter>,
    rope: Arc<RopeTable>,
}

impl Llama {
    fn new(dtype: DType) -> Self {
        let shapes: [(&str, &[usize]); 11] = [
            ("embedding", &[50, WIDTH]),
            ("norm_1", &[WIDTH]),
            ("q", &[HEADS * DIM, WIDTH]),
            ("k", &[KV_HEADS * DIM, WIDTH]),
            ("v", &[KV_HEADS * DIM, WIDTH]),
            ("o", &[WIDTH, HEADS * DIM]),
            ("norm_2", &[WIDTH]),
            ("gate", &[64, WIDTH]),
            ("up", &[64, WIDTH]),
            ("down", &[WIDTH, 64]),
            ("head", &[50, WIDTH]),
        ];
        let make = |(name, shape): (&str, &[usize])| {
            let parameter = parameter(name, shape, dtype);
            parameter.allocate_grad().unwrap();
            parameter
        };
        let rope = Arc::new(RopeTable::new(vec![1.0, 0.1, 0.01], ROWS, Device::Cpu).unwrap());
        Self { weights: shapes.into_iter().map(make).collect(), rope }
    }

    fn loss(&self, ids: &RawTensor, labels: &RawTensor, cache: &mut KvCache) -> Result<Tensor> {
        let w = |i: usize| self.weights[i].tensor();
        let (rows, offset) = (ids.dims()[0], cache.tokens());
        let heads = |x: Tensor, heads: usize| x.reshape((rows, heads, DIM));
        let x = w(0).embedding(ids)?;
        let y = x.rms_norm(&w(1), 1e-5)?;
        let k =
            KvCache::place(|| heads(y.linear(&w(3))?, KV_HEADS)?.rope_into(&self.rope, offset))?;
        let v = KvCache::place(|| heads(y.linear(&w(4))?, KV_HEADS))?;
        let q = heads(y.linear(&w(2))?, HEADS)?.rope_into(&self.rope, offset)?;
        drop(y);
        let out = q.attend(&k, &v, cache, 0.4)?;
        drop((q, k, v));
        let x = out.reshape((rows, HEADS * DIM))?.linear(&w(5))?.add_into(&x)?;
        drop(out);
        let y = x.rms_norm(&w(6), 1e-5)?;
        let (gate, up) = (y.linear(&w(7))?, y.linear(&w(8))?);
        drop(y);
        let x = gate.swiglu(&up)?.linear(&w(9))?.add_into(&x)?;
        x.head_loss(&self.weights[10], labels, 1.0 / 64.0)
    }

    fn forward(&self, device: Device, cache: &mut KvCache) -> Result<TapeEnd> {
        let ids: Vec<u32> = (0..ROWS as u32).map(|i| i * 7 % 50).collect();
        let labels: Vec<i64> = (0..ROWS as i64).map(|i| i * 11 % 50).collect();
        let ids = RawTensor::from_slice(&ids, ROWS, device)?;
        let labels = RawTensor::from_slice(&labels, ROWS, device)?;
        self.loss(&ids, &labels, cache)?.tape_end()
    }
}

fn one(device: Device) -> Result<RawTensor> {
    Ok(Tensor::full((), 1.0, DType::F32, device)?.raw().clone())
}

/// Notes the name of every allocation.
struct Names(Arc<Mutex<Vec<String>>>);

impl Adaptor for Names {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Allocated { block, .. } = event {
            self.0.lock().unwrap().push(block.op.to_owned());
        }
    }
}

#[test]
fn a_llama_makes_no_hidden_copies() {
    for dtype in [DType::F32, DType::BF16] {
        let names = Arc::new(Mutex::new(Vec::new()));
        let memory = Memory::builder(0).adaptor(Names(names.clone())).build();
        let _entered = memory.enter();
        let llama = Llama::new(dtype);
        let mut cache = KvCache::new();
        names.lock().unwrap().clear();
        let tapes = [(); 2].map(|()| llama.forward(Device::Cpu, &mut cache).unwrap());
        let forward = std::mem::take(&mut *names.lock().unwrap());
        for tape in tapes.into_iter().rev() {
            backward(tape, one(Device::Cpu).unwrap(), None).unwrap();
        }
        let backward = std::mem::take(&mut *names.lock().unwrap());
        for names in [&forward, &backward] {
            let unwanted = names.iter().any(|name| name == "copy" || name == "add");
            assert!(!unwanted, "{dtype}: {names:?}");
        }
        // In place: no result of its own for rope, in neither direction.
        assert!(!forward.contains(&"rope".to_owned()) && !backward.contains(&"rope".to_owned()));
        let casts = backward.iter().filter(|name| *name == "cast").count();
        assert_eq!(casts, if dtype == DType::F32 { 0 } else { 4 }, "dK and dV of both slices");
    }
}

#[test]
fn a_recorded_step_replays_to_the_byte() {
    for dtype in [DType::F32, DType::BF16] {
        replay(dtype, false);
        replay(dtype, true);
    }
}

/// Records a unit, then runs three as recorded; with `parts`, their backward is in two.
fn replay(dtype: DType, parts: bool) {
    let memory = Memory::builder(0).strict().build();
    let _entered = memory.enter();
    let llama = Llama::new(dtype);
    let back = |tape, device| -> Result<Option<WeightPart>> {
        if parts {
            return Ok(Some(backward_input(tape, one(device)?, None)?.1));
        }
        backward(tape, one(device)?, None).map(|_| None)
    };
    let recorder = Recorder::new();
    let forward = recorder.forward();
    let mut cache = KvCache::new();
    let tape = llama.forward(Device::Meta, &mut cache).unwrap();
    drop((forward, cache));
    let phase = recorder.backward();
    let weights = back(tape, Device::Meta).unwrap();
    drop(phase);
    if let Some(weights) = weights {
        let _phase = recorder.weight();
        weights.run().unwrap();
    }
    let plan = recorder.finish();
    assert_eq!(plan.kept_bytes() > 0, parts);
    memory.install(0, plan).unwrap();
    memory.reset_peaks();

    let mut cache = KvCache::new();
    let mut live = Vec::new();
    for slice in 0..3 {
        let unit = memory.unit(UnitId { microbatch: 0, slice, chunk: 0 }).unwrap();
        let phase = unit.forward();
        let tape = llama.forward(Device::Cpu, &mut cache).unwrap();
        drop(phase);
        live.push((unit, tape));
    }
    drop(cache);
    let mut waiting = Vec::new();
    while let Some((unit, tape)) = live.pop() {
        let phase = unit.backward();
        let weights = back(tape, Device::Cpu).unwrap();
        drop(phase);
        waiting.extend(weights.map(|weights| (unit, weights)));
    }
    for (unit, weights) in waiting {
        let _phase = unit.weight();
        weights.run().unwrap();
    }
    let stats = memory.stats();
    assert_eq!(stats.overflow_hits, 0, "{dtype}");
    assert_eq!(stats.activations.current, 0);
}

#[test]
fn a_backward_in_two_parts_gives_the_gradients_of_a_whole_one() {
    for dtype in [DType::F32, DType::BF16] {
        let run = |parts| {
            let llama = Llama::new(dtype);
            let mut cache = KvCache::new();
            let tapes = [(); 3].map(|()| llama.forward(Device::Cpu, &mut cache).unwrap());
            let mut waiting = Vec::new();
            for tape in tapes.into_iter().rev() {
                let gradient = one(Device::Cpu).unwrap();
                if parts {
                    waiting.push(backward_input(tape, gradient, None).unwrap().1);
                } else {
                    backward(tape, gradient, None).unwrap();
                }
            }
            let empty = |llama: &Llama| {
                let names = llama.weights.iter().filter(|weight| weight.grad().get().is_none());
                names.map(|weight| weight.name().to_owned()).collect::<Vec<_>>()
            };
            let products = ["q", "k", "v", "o", "gate", "up", "down"];
            assert_eq!(empty(&llama), if parts { products.to_vec() } else { Vec::new() });
            waiting.into_iter().for_each(|weights| weights.run().unwrap());
            llama.weights.iter().map(crate::suite::util::grad).collect::<Vec<_>>()
        };
        assert!(run(true) == run(false), "{dtype}");
    }
}

#[test]
fn the_second_part_of_a_backward_gives_its_memory_back() {
    let memory = Memory::builder(0).build();
    let _entered = memory.enter();
    let llama = Llama::new(DType::F32);
    let live = || memory.stats().total.requested.current;
    let before = live();
    let mut cache = KvCache::new();
    let tape = llama.forward(Device::Cpu, &mut cache).unwrap();
    drop(cache);
    let (_, weights) = backward_input(tape, one(Device::Cpu).unwrap(), None).unwrap();
    // Inputs of seven products, of which two norms and SwiGLU are made again, and gradients of their
    // outputs: two of the residual stream, three of attention, two of the MLP.
    let floats = |width: usize| (ROWS * width * 4) as u64;
    let (width, inner, kv) = (floats(WIDTH), floats(64), floats(KV_HEADS * DIM));
    let inputs = 2 * width + floats(HEADS * DIM) + 2 * inner + 2 * (ROWS * 4) as u64;
    let gradients = 2 * width + floats(HEADS * DIM) + 2 * kv + 2 * inner;
    assert_eq!(live() - before, inputs + gradients);
    weights.run().unwrap();
    assert_eq!(live(), before);
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    for dtype in [DType::F32, DType::BF16] {
        let run = |threads| {
            let _team = team::enter(threads).unwrap();
            let llama = Llama::new(dtype);
            let mut cache = KvCache::new();
            let tapes = [(); 2].map(|()| llama.forward(Device::Cpu, &mut cache).unwrap());
            for tape in tapes.into_iter().rev() {
                backward(tape, one(Device::Cpu).unwrap(), None).unwrap();
            }
            llama.weights.iter().map(crate::suite::util::grad).collect::<Vec<_>>()
        };
        let alone = run(1);
        assert!(run(2) == alone && run(5) == alone, "{dtype}");
    }
}
