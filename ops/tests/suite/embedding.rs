use slimpipe_ops::embedding::{embedding, embedding_backward};
use slimpipe_runtime::{DType, Device, RawTensor};

use super::util::{FLOATS, assert_close, device, error, f64s, labels, random, tensor, views};

fn ids(values: &[u32], shape: &[usize]) -> RawTensor {
    RawTensor::from_slice(values, shape, device()).unwrap()
}

#[test]
fn rows_are_looked_up_for_ids_of_any_shape() {
    for dtype in FLOATS {
        let table = random(&[11, 5], 0, dtype);
        let rows = f64s(&table);
        let values = [3u32, 10, 0, 3, 7, 1];
        let expected: Vec<f64> =
            values.iter().flat_map(|&id| rows[id as usize * 5..][..5].to_vec()).collect();
        for shape in [&[6][..], &[2, 3], &[1, 6, 1]] {
            for ids in views(&ids(&values, shape)) {
                let out = embedding(&table, &ids).unwrap();
                assert_eq!(out.dims(), [shape, &[5]].concat());
                assert_eq!(f64s(&out), expected);
            }
        }
    }
}

#[test]
fn gradients_add_up_where_an_id_repeats() {
    for dtype in FLOATS {
        let width = 300;
        let values = [2u32, 0, 2, 2, 4];
        let dy = random(&[5, width], 1, dtype);
        let mut expected = vec![1.0; 5 * width];
        for (dy, &id) in f64s(&dy).chunks(width).zip(&values) {
            dy.iter().enumerate().for_each(|(j, dy)| expected[id as usize * width + j] += dy);
        }
        for dy in views(&dy) {
            let mut table = tensor(&vec![1.0; 5 * width], &[5, width]);
            embedding_backward(&dy, &ids(&values, &[5]), &mut table).unwrap();
            assert_close(&table, &expected, 1e-6);
        }
    }
}

#[test]
fn ids_that_do_not_fit_are_named() {
    let table = random(&[4, 2], 0, DType::F32);
    let beyond = embedding(&table, &ids(&[1, 4], &[2]));
    if device() == Device::Cpu {
        assert_eq!(
            error(beyond),
            "embedding: id 4 in a table of 4 rows: was the text made into tokens by another tokenizer?"
        );
    } else {
        let rows = f64s(&beyond.unwrap());
        assert!(rows[..2] == f64s(&table)[2..4] && rows[2].is_nan(), "no GPU waits to look at ids");
    }
    assert_eq!(
        error(embedding(&table, &labels(&[1]))),
        "embedding: expected dtype u32 for ids, got i64; convert with to_dtype first"
    );
    let mut sum = tensor(&[0.0; 8], &[4, 2]);
    let dy = random(&[3, 2], 0, DType::F32);
    assert_eq!(
        error(embedding_backward(&dy, &ids(&[1, 2], &[2]), &mut sum)),
        "embedding_backward: a gradient [3, 2] for ids [2] of width 2"
    );
    assert_eq!(embedding(&table, &ids(&[], &[0])).unwrap().dims(), [0, 2]);
}
