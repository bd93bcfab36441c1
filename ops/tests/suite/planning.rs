//! On the meta device an operation allocates exactly what the real run does: plans depend on it.

use slimpipe_allocator::{Memory, Recorder, UnitId};
use slimpipe_ops as ops;
use slimpipe_ops::attention::{Chunk, ChunkGrad, GradRows};
use slimpipe_ops::elementwise::Binary;
use slimpipe_ops::rope::RopeTable;
use slimpipe_ops::unary::Unary;
use slimpipe_runtime::{DType, Device, RawTensor, Result, Shape};

/// Runs `f` on meta tensors, then for real under the recorded plan in strict mode, where one
/// allocation too many, too few or of another size is an error.
#[track_caller]
fn assert_replays(f: impl Fn(Device) -> Result<()>) {
    let sentinel = |device| RawTensor::empty(12_345, DType::U8, device, "sentinel");
    let run = |device| f(device).and_then(|()| sentinel(device).map(|_| ()));
    let recorder = Recorder::new();
    let phase = recorder.forward();
    run(Device::Meta).unwrap();
    drop(phase);
    let memory = crate::memory(Memory::builder(0).strict()).build();
    memory.install(0, recorder.finish()).unwrap();
    let _entered = memory.enter();
    let unit = memory.unit(UnitId { microbatch: 0, slice: 0, chunk: 0 }).unwrap();
    let _phase = unit.forward();
    run(crate::device()).unwrap();
    assert_eq!(memory.stats().overflow_hits, 0);
}

fn zeros(shape: &[usize], device: Device) -> Result<RawTensor> {
    RawTensor::zeros(shape, DType::F32, device)
}

/// A view whose elements have to be gathered.
fn turned(rows: usize, columns: usize, device: Device) -> Result<RawTensor> {
    zeros(&[columns, rows], device)?.transpose(0, 1)
}

#[test]
fn elementwise_operations_and_views() {
    assert_replays(|device| {
        let (x, y) = (turned(6, 4, device)?, zeros(&[6, 4], device)?);
        ops::elementwise::binary(Binary::Add, &x, &y)?;
        ops::elementwise::scale(&x, 2.0)?;
        ops::elementwise::add_assign(&mut zeros(&[6, 4], device)?, &x)?;
        ops::elementwise::add_reusing(zeros(&[6, 4], device)?, x.clone())?;
        ops::elementwise::add_reusing(y.clone(), y.clone())?;
        ops::unary::unary(Unary::Gelu, &x)?;
        ops::unary::unary_backward(Unary::Gelu, &x, &y)?;
        ops::cast::cast(&x, DType::BF16)?;
        ops::copy::contiguous(&x)?;
        ops::cat::cat(&[&x, &y], 0)?;
        ops::cat::narrow_backward(&x, Shape::from([9, 4]), 0, 1)?;
        ops::swiglu::swiglu(&x, &y)?;
        ops::swiglu::swiglu_backward(&y, &x, &y).map(|_| ())
    });
}

#[test]
fn products_and_reductions() {
    assert_replays(|device| {
        let (x, y) = (turned(6, 4, device)?, zeros(&[6, 4], device)?);
        ops::matmul::matmul(&x, &y.transpose(0, 1)?)?;
        let batch = zeros(&[3, 5, 4, 6], device)?.transpose(1, 2)?;
        ops::matmul::matmul(&batch, &batch.transpose(2, 3)?)?;
        ops::matmul::matmul(&batch, &x)?;
        ops::reduce::sum_to(&x, Shape::from([1, 4]))?;
        ops::reduce::sum_all(&x)?;
        let (max, at) = ops::reduce::max_last(&x)?;
        ops::reduce::max_last_backward(&max, &at, *x.shape()).map(|_| ())
    });
}

#[test]
fn row_operations() {
    assert_replays(|device| {
        let (x, w) = (turned(6, 4, device)?, zeros(&[4], device)?);
        let y = ops::softmax::softmax(&x)?;
        ops::softmax::softmax_backward(&x, &y)?;
        let (_, rstd) = ops::rms_norm::rms_norm(&x, &w, 1e-5)?;
        ops::rms_norm::rms_norm_apply(&x, &w, &rstd)?;
        ops::rms_norm::rms_norm_backward(&x, &w, &rstd, &x, &mut zeros(&[6, 4], device)?, None)?;
        let (_, stats) = ops::layer_norm::layer_norm(&x, &w, &w, 1e-5)?;
        ops::layer_norm::layer_norm_apply(&x, &w, &w, &stats)?;
        ops::layer_norm::layer_norm_backward(&x, &w, &stats, &x, None)?;
        let ids = RawTensor::zeros((3, 2), DType::U32, device)?.transpose(0, 1)?;
        let rows = ops::embedding::embedding(&zeros(&[5, 4], device)?, &ids)?;
        ops::embedding::embedding_backward(&rows, &ids, &mut zeros(&[5, 4], device)?)
    });
}

#[test]
fn attention_rope_and_the_loss() {
    let table = RopeTable::new(vec![1.0, 0.5], 6, crate::device()).unwrap();
    assert_replays(|device| {
        let heads = || zeros(&[6, 2, 4], device);
        let turned = zeros(&[6, 4, 2], device)?.transpose(1, 2)?;
        ops::rope::rope(turned.clone(), &table, 3, false)?;
        let q = ops::rope::rope(heads()?, &table, 3, false)?;
        let (k, v) = (heads()?, heads()?);
        let chunks = [Chunk { k: &k, v: &v, start: 0 }];
        ops::attention::attend(&turned, &chunks, 1.0, 0)?;
        let (out, lse) = ops::attention::attend(&q, &chunks, 1.0, 0)?;
        let mut grad = ChunkGrad { dk: heads()?, dv: heads()? };
        let grads = &mut [GradRows::all(&mut grad)];
        ops::attention::attend_backward(&q, &chunks, &out, &lse, &turned, 1.0, 0, grads)?;

        let (x, w) = (zeros(&[6, 4], device)?, zeros(&[5, 4], device)?);
        let labels = RawTensor::zeros(6, DType::I64, device)?;
        ops::cross_entropy::head_loss(&x, &w, &labels, 1.0)?;
        ops::cross_entropy::head_loss_grad(&x, &w, &labels, 1.0, None)?;
        let low = |x: &RawTensor| ops::cast::cast(x, DType::BF16);
        ops::cross_entropy::head_loss_grad(&low(&x)?, &low(&w)?, &labels, 1.0, None)?;
        ops::cross_entropy::cross_entropy(&zeros(&[6, 5], device)?, &labels, 1.0).map(|_| ())
    });
}

#[test]
fn mistakes_are_found_on_the_meta_device_too() {
    let meta = |shape: &[usize], dtype| RawTensor::zeros(shape, dtype, Device::Meta).unwrap();
    let (x, ids) = (meta(&[2, 3], DType::F32), meta(&[2, 3], DType::I64));
    assert!(ops::elementwise::binary(Binary::Add, &ids, &ids).is_err());
    assert!(ops::matmul::matmul(&x, &x).is_err());
    assert!(ops::unary::unary(Unary::Exp, &ids).is_err());
    assert!(ops::softmax::softmax(&ids).is_err());
    assert!(ops::embedding::embedding(&x, &ids).is_err());
    assert!(ops::elementwise::binary(Binary::Add, &x, &x.transpose(0, 1).unwrap()).is_err());
}
