//! Results that are made again in backward instead of being kept.

use slimpipe_allocator::Memory;
use slimpipe_autograd::{Parameter, Result, Tensor};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{grad, parameter, random};

/// A layer's norm and MLP; with `hold`, every intermediate result is kept as bytes.
fn block(x: &Tensor, w: &[Parameter; 4], hold: bool) -> Result<Tensor> {
    // Scaling by one gives a tensor of the same values that has no recipe.
    let keep = |x: Tensor| if hold { x.scale(1.0) } else { Ok(x) };
    let y = keep(x.rms_norm(&w[0].tensor(), 1e-5)?)?;
    let (gate, up) = (y.linear(&w[1].tensor())?, y.linear(&w[2].tensor())?);
    drop(y);
    let y = keep(gate.swiglu(&up)?)?;
    drop((gate, up));
    let y = y.linear(&w[3].tensor())?;
    let z = keep(y.layer_norm(&w[0].tensor(), &w[0].tensor(), 1e-5)?)?;
    // Two readers of one recipe, and a recipe made from a recipe.
    let z = keep(z.rms_norm(&w[0].tensor(), 1e-5)?)?;
    z.linear(&w[1].tensor())?.add(&z.linear(&w[2].tensor())?)
}

fn run(dtype: DType, hold: bool) -> (Vec<Vec<f32>>, u64) {
    let memory = crate::memory(Memory::builder(0)).build();
    let _entered = memory.enter();
    let w = [
        parameter("norm", 16, dtype),
        parameter("gate", (64, 16), dtype),
        parameter("up", (64, 16), dtype),
        parameter("down", (16, 64), dtype),
    ];
    w.iter().for_each(|w| w.allocate_grad().unwrap());
    let x = parameter("x", (300, 16), dtype);
    x.allocate_grad().unwrap();
    let before = memory.stats().total.requested.current;
    let out = block(&x.tensor(), &w, hold).unwrap();
    let dy: RawTensor = random([300, 64], 1).to_dtype(dtype).unwrap().raw().clone();
    let held = memory.stats().total.requested.current - before;
    out.backward_with(dy).unwrap();
    (w.iter().chain([&x]).map(grad).collect(), held)
}

#[test]
fn recomputed_results_give_the_same_gradients_for_less_memory() {
    for dtype in [DType::F32, DType::BF16] {
        let ((again, less), (held, more)) = (run(dtype, false), run(dtype, true));
        assert_eq!(again, held, "{dtype}");
        // The norms' outputs (3 x 16) and the gated one (64) are not kept, per row.
        let saved = 300 * (3 * 16 + 64) * dtype.size() as u64;
        assert!(less + saved <= more, "{less} + {saved} > {more}");
    }
}

#[test]
fn a_recomputed_value_is_freed_with_its_last_reader() {
    let memory = crate::memory(Memory::builder(0)).build();
    let _entered = memory.enter();
    let (norm, w) = (parameter("norm", 64, DType::F32), parameter("w", (64, 64), DType::F32));
    let x = parameter("x", (100, 64), DType::F32);
    [&norm, &w, &x].into_iter().for_each(|p| p.allocate_grad().unwrap());
    let before = memory.stats().total.requested.current;
    let y = x.tensor().rms_norm(&norm.tensor(), 1e-5).unwrap();
    let loss = y.linear(&w.tensor()).unwrap().sum().unwrap();
    loss.backward().unwrap();
    drop((y, loss));
    assert_eq!(memory.stats().total.requested.current, before);
}
