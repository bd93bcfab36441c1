//! What the suite's units do in their forward and backward.

use slimpipe_allocator::{
    AllocError, Allocation, Memory, PhaseGuard, Recorder, Region, Unit, UnitId, UnitPlan, allocate,
    allocate_meta, scope,
};

/// Layers of a chunk.
pub const LAYERS: u32 = 3;
/// Keys, and values, of a layer.
pub const KV: u64 = 128;
/// What else a layer saves.
pub const SAVED: u64 = 512;
/// What a unit saves outside its layers; 128 bytes with their alignment.
pub const EMBEDDED: u64 = 100;
/// The temporaries of a forward.
pub const SCORES: u64 = 1024;
pub const GATE: u64 = 256;

/// Bytes that a unit holds in its slot, and as K/V.
pub const SLOT_BYTES: u64 = 128 + LAYERS as u64 * SAVED;
pub const KV_BYTES: u64 = LAYERS as u64 * 2 * KV;

/// Makes an allocation: real, or of a size only.
pub type Make<'a> = &'a dyn Fn(u64, &'static str) -> Result<Allocation, AllocError>;

/// Allocates where the scope says.
#[track_caller]
pub fn real(bytes: u64, op: &'static str) -> Result<Allocation, AllocError> {
    allocate(bytes, op)
}

/// A forward: gives what it saves, in order.
pub fn forward(make: Make<'_>) -> Result<Vec<Allocation>, AllocError> {
    let mut saved = vec![make(EMBEDDED, "embedding")?];
    for layer in 0..LAYERS {
        saved.extend(layer_forward(layer, make)?);
    }
    Ok(saved)
}

pub fn layer_forward(layer: u32, make: Make<'_>) -> Result<[Allocation; 3], AllocError> {
    let _layer = scope::layer(layer);
    let [keys, values] = {
        let _place = scope::place(Region::Kv);
        [make(KV, "keys")?, make(KV, "values")?]
    };
    let scores = make(SCORES, "scores")?;
    let saved = make(SAVED, "mlp")?;
    let _gate = make(GATE, "gate")?;
    drop(scores);
    Ok([keys, values, saved])
}

/// A backward: uses up what was saved, the last first; a gradient dies when the next one is there.
pub fn backward(mut saved: Vec<Allocation>, make: Make<'_>) -> Result<(), AllocError> {
    let mut gradient = make(SAVED, "loss gradient")?;
    while let Some(used) = saved.pop() {
        gradient = make(used.bytes(), "gradient")?;
    }
    drop(gradient);
    Ok(())
}

/// The plan of such a unit.
pub fn plan() -> UnitPlan {
    let recorder = Recorder::new();
    let meta = |bytes, _| Ok(allocate_meta(bytes));
    let saved = {
        let _phase = recorder.forward();
        forward(&meta).unwrap()
    };
    {
        let _phase = recorder.backward();
        backward(saved, &meta).unwrap();
    }
    recorder.finish()
}

/// Installs the plan for chunk 0.
pub fn planned(memory: Memory) -> Memory {
    memory.install(0, plan()).unwrap();
    memory
}

/// The unit of a slice.
pub fn id(slice: u32) -> UnitId {
    UnitId { microbatch: 0, slice, chunk: 0 }
}

/// Opens a unit and runs its forward.
pub fn run_forward(memory: &Memory, slice: u32) -> (Unit, Vec<Allocation>) {
    let unit = memory.unit(id(slice)).unwrap();
    let saved = within(unit.forward(), || forward(&real).unwrap());
    (unit, saved)
}

/// Runs the backward of a unit and closes it.
pub fn run_backward(unit: Unit, saved: Vec<Allocation>) {
    within(unit.backward(), || backward(saved, &real).unwrap());
}

/// Runs something inside a phase.
pub fn within<R>(phase: PhaseGuard, run: impl FnOnce() -> R) -> R {
    let result = run();
    drop(phase);
    result
}

/// First and last address of a block.
pub fn span(allocation: &Allocation) -> (usize, usize) {
    let start = allocation.as_ptr().unwrap().as_ptr() as usize;
    (start, start + allocation.bytes() as usize)
}

/// Whether no two of the blocks share a byte.
pub fn are_apart<'a>(blocks: impl IntoIterator<Item = &'a Allocation>) -> bool {
    let mut spans: Vec<_> = blocks.into_iter().map(span).collect();
    spans.sort_unstable();
    spans.windows(2).all(|pair| pair[0].1 <= pair[1].0)
}
