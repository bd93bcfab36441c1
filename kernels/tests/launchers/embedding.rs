use proptest::prelude::*;
use slimpipe_kernels::cpu::embedding as cpu;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::embedding;

use super::figures::{FORWARD, GRADIENT};
use super::util::{Element, assert_figure, both, cases, f64s, gpu, random};

fn check<T: Element>(vocab: usize, width: usize, ids: &[u32], skip: usize) {
    let Some(gpu) = gpu() else { return };
    let table: Vec<T> = random(1, vocab * width);
    let dout: Vec<T> = random(2, ids.len() * width);
    let old: Vec<f32> = random(3, vocab * width);
    let (out, dtable) = gpu.schedules(|| {
        let (from, numbers, d) = (gpu.with_at(skip, &table), gpu.with(ids), gpu.with(&dout));
        let (out, dtable) = (gpu.empty_at::<T>(skip, dout.len()), gpu.with(&old));
        let (stream, rows, float) = (&gpu.stream, ids.len(), T::FLOAT);
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            let (table, ids) = (from.at, numbers.at);
            embedding::gather(stream, float, table, vocab, width, ids, rows, out.at).unwrap();
            embedding::scatter_add(stream, float, d.at, ids, rows, width, vocab, dtable.at)
                .unwrap();
        }
        (gpu.read(&out), gpu.read(&dtable))
    });
    let (mut exact, mut exact_sums) = (Vec::new(), f64s(&old));
    for (row, &id) in ids.iter().enumerate() {
        let (from, to) = (row * width, id as usize * width);
        exact.extend(f64s(&table[to..][..width]));
        (0..width).for_each(|i| exact_sums[to + i] += f64::from(dout[from + i].to_f32()));
    }
    assert_figure::<T>("embedding", &out, &exact, FORWARD);
    assert_figure::<T>("embedding's gradient", &dtable, &exact_sums, GRADIENT);
    let (threads, mut rows, mut sums) = (Threads::default(), vec![T::default(); dout.len()], old);
    cpu::gather(&threads, &table, width, ids, &mut rows);
    cpu::scatter_add(&threads, &dout, ids, width, &mut sums);
    assert_eq!(out, rows, "rows");
    assert_eq!(dtable, sums, "sums, bit for bit: rows are added in order");
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn rows_are_found_and_their_gradients_added_in_order(
        width in 1usize..40, ids in prop::collection::vec(0u32..7, 1..40), skip in 0usize..2,
    ) {
        both!(check(7, width, &ids, skip));
        both!(check(7, width.next_multiple_of(8), &ids, 0));
    }
}

#[test]
fn one_id_in_more_rows_than_a_block_has_threads_and_wide_rows_match() {
    let ids: Vec<u32> = (0..600).map(|i| if i % 3 == 0 { 2 } else { i % 5 }).collect();
    both!(check(5, 3, &ids, 0));
    both!(check(3, 1100, &[2, 0, 2], 0));
    both!(check(3, 4, &[], 0));
}

#[test]
fn an_id_outside_the_table_gives_nan_and_counts_for_nothing() {
    let Some(gpu) = gpu() else { return };
    let (out, sums) = gpu.schedules(|| {
        let (table, ids) = (gpu.with(&[1.0f32, 2.0, 3.0, 4.0]), gpu.with(&[1u32, 2, u32::MAX]));
        let (out, sums) = (gpu.empty::<f32>(6), gpu.with(&[0.0f32; 4]));
        let (stream, float) = (&gpu.stream, slimpipe_kernels::cuda::Float::F32);
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            embedding::gather(stream, float, table.at, 2, 2, ids.at, 3, out.at).unwrap();
            embedding::scatter_add(stream, float, out.at, ids.at, 3, 2, 2, sums.at).unwrap();
        }
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        (bits(gpu.read(&out)), gpu.read(&sums))
    });
    assert_eq!(out[..2], [3.0f32.to_bits(), 4.0f32.to_bits()]);
    assert!(out[2..].iter().all(|&bits| f32::from_bits(bits).is_nan()), "{out:x?}");
    assert_eq!(sums, [0.0, 0.0, 3.0, 4.0]);
}
