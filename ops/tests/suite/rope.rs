use slimpipe_ops::rope::{RopeTable, rope};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{
    FLOATS, address, assert_close, bytes, device, error, f64s, labels, random, tolerance, views,
};

fn frequencies(half: usize) -> Vec<f64> {
    (0..half).map(|j| 10_000f64.powf(-(j as f64) / half as f64)).collect()
}

/// Half-split rotation in f64.
fn reference(x: &RawTensor, offset: usize) -> Vec<f64> {
    let (heads, dim) = (x.dims()[1], x.dims()[2]);
    let (half, frequencies) = (dim / 2, frequencies(dim / 2));
    let values = f64s(x);
    let mut out = values.clone();
    for (head, (x, y)) in values.chunks(dim).zip(out.chunks_mut(dim)).enumerate() {
        let position = (offset + head / heads) as f64;
        for j in 0..half {
            let (sin, cos) = (position * frequencies[j]).sin_cos();
            y[j] = x[j] * cos - x[j + half] * sin;
            y[j + half] = x[j + half] * cos + x[j] * sin;
        }
    }
    out
}

#[test]
fn heads_are_rotated_by_their_position() {
    for dtype in FLOATS {
        for (shape, offset) in [([1, 1, 2], 0), ([7, 3, 10], 5), ([90, 4, 64], 100_000)] {
            let table = RopeTable::new(frequencies(shape[2] / 2), shape[0] + 3, device()).unwrap();
            let x = random(&shape, 0, dtype);
            let expected = reference(&x, offset);
            for view in views(&x) {
                let y = rope(view.clone(), &table, offset, false).unwrap();
                assert!(!y.same_storage(&view), "a shared tensor is left alone");
                assert_close(&y, &expected, 2.0 * tolerance(dtype));
            }
        }
    }
}

#[test]
fn an_unshared_tensor_is_rotated_in_place_to_the_same_bits() {
    for dtype in FLOATS {
        let table = RopeTable::new(frequencies(32), 700, device()).unwrap();
        let x = random(&[700, 3, 64], 0, dtype);
        let apart = rope(x.clone(), &table, 9, false).unwrap();
        let place = address(&x);
        let inside = rope(x, &table, 9, false).unwrap();
        assert_eq!(address(&inside), place);
        assert_eq!(bytes(&inside), bytes(&apart));
    }
}

#[test]
fn a_slice_at_its_offset_equals_its_rows_of_the_whole() {
    let table = RopeTable::new(frequencies(16), 60, device()).unwrap();
    let short = RopeTable::new(frequencies(16), 20, device()).unwrap();
    let x = random(&[60, 2, 32], 1, DType::F32);
    let whole = f64s(&rope(x.clone(), &table, 0, false).unwrap());
    for slice in 0..3 {
        let rows = x.narrow(0, slice * 20, 20).unwrap();
        let part = rope(rows, &short, slice * 20, false).unwrap();
        assert_close(&part, &whole[slice * 20 * 64..(slice + 1) * 20 * 64], 1e-6);
    }
}

#[test]
fn the_inverse_rotates_back() {
    let table = RopeTable::new(frequencies(8), 12, device()).unwrap();
    let x = random(&[12, 3, 16], 2, DType::F32);
    let there = rope(x.clone(), &table, 77, false).unwrap();
    assert_close(&rope(there, &table, 77, true).unwrap(), &f64s(&x), 1e-6);
}

#[test]
fn tensors_that_the_table_does_not_cover_are_refused() {
    let table = RopeTable::new(frequencies(4), 5, device()).unwrap();
    let x = |shape: &[usize]| random(shape, 0, DType::F32);
    assert_eq!(
        error(rope(x(&[6, 2, 8]), &table, 0, false)),
        "rope: a table of 5 rows for head size 8 cannot rotate [6, 2, 8]"
    );
    assert!(error(rope(x(&[5, 2, 6]), &table, 0, false)).contains("for head size 8"));
    assert!(error(rope(x(&[5, 8]), &table, 0, false)).contains("expected [rows, heads, head_dim]"));
    assert!(error(rope(labels(&[1]), &table, 0, false)).contains("got i64"));
    assert_eq!(rope(x(&[0, 2, 8]), &table, 0, false).unwrap().dims(), [0, 2, 8]);
}
