//! Results do not depend on how many threads share an operation, bit for bit.

use slimpipe_ops as ops;
use slimpipe_ops::attention::{Chunk, ChunkGrad, GradRows};
use slimpipe_ops::elementwise::Binary;
use slimpipe_ops::rope::RopeTable;
use slimpipe_runtime::{DType, Device, RawTensor, Result, Shape, team};

use crate::suite::util::{FLOATS, labels, random};
use crate::suite::vocabulary::in_parts;

fn bytes(tensors: Vec<RawTensor>) -> Vec<Vec<u8>> {
    let bytes = |x: &RawTensor| ops::copy::contiguous(x)?.as_bytes("test").map(<[u8]>::to_vec);
    tensors.iter().map(|x| bytes(x).unwrap()).collect()
}

#[track_caller]
fn assert_independent(f: impl Fn(DType) -> Result<Vec<RawTensor>>) {
    for dtype in FLOATS {
        let run = |threads| {
            let _team = team::enter(threads).unwrap();
            bytes(f(dtype).unwrap())
        };
        let alone = run(1);
        for threads in [2, 3, 7] {
            assert!(run(threads) == alone, "{threads} threads, {dtype}");
        }
    }
}

#[test]
fn sums_products_and_elementwise_operations() {
    assert_independent(|dtype| {
        let (x, w) = (random(&[700, 130], 0, dtype), random(&[130, 90], 1, dtype));
        let (many, others) = (random(&[12, 20, 30], 2, dtype), random(&[12, 30, 10], 3, dtype));
        Ok(vec![
            ops::matmul::matmul(&x, &w)?,
            ops::matmul::matmul(&x.transpose(0, 1)?, &x)?,
            ops::matmul::matmul(&many, &others)?,
            ops::reduce::sum_to(&x, Shape::from([130]))?,
            ops::reduce::sum_to(&x, Shape::from([700, 1]))?,
            ops::reduce::sum_all(&x)?,
            ops::elementwise::binary(Binary::Divide, &x, &x.narrow(0, 3, 1)?)?,
            ops::copy::copy(&x.transpose(0, 1)?)?,
        ])
    });
}

#[test]
fn norms_and_losses() {
    assert_independent(|dtype| {
        let (x, w) = (random(&[700, 64], 0, dtype), random(&[64], 1, dtype));
        let dy = random(&[700, 64], 2, dtype);
        let zeros = |shape: &[usize], dtype| RawTensor::zeros(shape, dtype, Device::Cpu);
        let (y, rstd) = ops::rms_norm::rms_norm(&x, &w, 1e-5)?;
        let (mut dx, mut dw) = (zeros(&[700, 64], dtype)?, zeros(&[64], DType::F32)?);
        ops::rms_norm::rms_norm_backward(&x, &w, &rstd, &dy, &mut dx, Some(&mut dw))?;
        let (z, stats) = ops::layer_norm::layer_norm(&x, &w, &w, 1e-5)?;
        let (mut da, mut db) = (zeros(&[64], DType::F32)?, zeros(&[64], DType::F32)?);
        let params = Some([&mut da, &mut db]);
        let dz = ops::layer_norm::layer_norm_backward(&x, &w, &stats, &dy, params)?;
        let head = random(&[333, 64], 3, dtype);
        let targets = labels(&(0..700).map(|i| i % 333).collect::<Vec<_>>());
        let mut dhead = zeros(&[333, 64], DType::F32)?;
        let into = Some((&mut dhead, true));
        let (loss, dhidden) = ops::cross_entropy::head_loss_grad(&x, &head, &targets, 0.01, into)?;
        Ok(vec![y, dx, dw, z, dz, da, db, loss, dhidden, dhead])
    });
}

#[test]
fn attention_and_rope() {
    assert_independent(|dtype| {
        let x = |stream| random(&[150, 4, 32], stream, dtype);
        let table = RopeTable::new(vec![0.3; 16], 150, Device::Cpu)?;
        let q = ops::rope::rope(x(0), &table, 150, false)?;
        let (k, v, old_k, old_v) = (x(1), x(2), x(3), x(4));
        let chunks = [Chunk { k: &old_k, v: &old_v, start: 0 }, Chunk { k: &k, v: &v, start: 150 }];
        let (out, lse) = ops::attention::attend(&q, &chunks, 0.2, 150)?;
        let zeros = || RawTensor::zeros((150, 4, 32), DType::F32, Device::Cpu);
        let mut grads = [(); 2].map(|()| ChunkGrad { dk: zeros().unwrap(), dv: zeros().unwrap() });
        let dq = ops::attention::attend_backward(
            &q,
            &chunks,
            &out,
            &lse,
            &x(5),
            0.2,
            150,
            &mut grads.iter_mut().map(GradRows::all).collect::<Vec<_>>(),
        )?;
        let mut all = vec![q, out, lse, dq];
        all.extend(grads.into_iter().flat_map(|grad| [grad.dk, grad.dv]));
        Ok(all)
    });
}

#[test]
fn output_layers_on_parts_of_the_vocabulary() {
    assert_independent(|dtype| {
        let (x, w) = (random(&[300, 64], 0, dtype), random(&[501, 64], 1, dtype));
        let labels: Vec<i64> = (0..300).map(|row| row * 11 % 501).collect();
        let (loss, dx, mut dweights) = in_parts(&x, &w, &labels, 0.5, &[200, 301])?;
        dweights.extend([dx, RawTensor::from_slice(&[loss as f32], 1, Device::Cpu)?]);
        Ok(dweights)
    });
}
