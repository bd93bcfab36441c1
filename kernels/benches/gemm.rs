//! Matrix products against the register peak of the same run. `cargo bench -p slimpipe-kernels --bench gemm`.

use std::time::Instant;

use half::bf16;
use slimpipe_kernels::cpu::gemm::{Beta, Input, MatMut, MatRef, gemm, path_name};
use slimpipe_kernels::cpu::peak::{PeakKind, peak_gflops};
use slimpipe_kernels::cpu::threads::Threads;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure<T: Input>(
    threads: &Threads,
    (m, n, k): (usize, usize, usize),
    layout: &str,
    value: T,
) -> f64 {
    let (a, b) = (vec![value; m * k], vec![value; k * n]);
    let mut c = vec![0f32; m * n];
    let view = |data: &'static [T], rows, cols, transposed: bool| {
        if transposed {
            MatRef::new(data, rows, cols, 1, rows)
        } else {
            MatRef::new(data, rows, cols, cols, 1)
        }
    };
    let (a, b): (&'static [T], &'static [T]) = (a.leak(), b.leak());
    let (a, b) = (view(a, m, k, layout.starts_with('T')), view(b, k, n, layout.ends_with('T')));
    let run = |c: &mut [f32]| {
        let start = Instant::now();
        gemm(threads, a, b, Beta::Overwrite, MatMut::new(c, m, n));
        2.0 * (m * n * k) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    run(&mut c);
    median((0..15).map(|_| run(&mut c)).collect())
}

fn main() {
    let threads = Threads::new(2).expect("two threads");
    let shapes = [
        (1024, 1024, 1024),
        (2048, 512, 512),
        (2048, 1408, 512),
        (2048, 512, 1408),
        (512, 1408, 2048),
        (256, 8192, 512),
        (128, 512, 512),
    ];
    println!("{:<12} {:>18} {:>3} {:>9} {:>6}", "path", "m x n x k", "", "GFLOP/s", "ratio");
    for shape in shapes {
        for layout in ["NN", "NT", "TN"] {
            let (m, n, k) = shape;
            let peak = peak_gflops(&threads, PeakKind::F32);
            let rate = measure(&threads, shape, layout, 0.5f32);
            println!(
                "{:<12} {:>18} {layout:>3} {rate:>9.1} {:>6.2}",
                path_name::<f32>(),
                format!("{m}x{n}x{k}"),
                rate / peak
            );
            let peak = peak_gflops(&threads, PeakKind::Bf16);
            let rate = measure(&threads, shape, layout, bf16::from_f32(0.5));
            println!(
                "{:<12} {:>18} {layout:>3} {rate:>9.1} {:>6.2}",
                path_name::<bf16>(),
                format!("{m}x{n}x{k}"),
                rate / peak
            );
        }
    }
}
