//! `slimpipe doctor`.

use slimpipe::kernels::cpu::peak::{PeakKind, bandwidth_gbs, peak_gflops};
use slimpipe::kernels::cpu::simd::{has_avx512_bf16, level};
use slimpipe::kernels::cpu::threads::Threads;
use slimpipe::runtime::device::describe_gpu;
use slimpipe::runtime::team;

/// Says what this machine offers.
pub fn run() -> anyhow::Result<()> {
    let cores = team::cores();
    let threads = Threads::new(cores)?;
    println!("cores            {cores}");
    println!("vector units     {:?}", level());
    println!(
        "AVX512-BF16      {}",
        if has_avx512_bf16() { "yes" } else { "no: bf16 runs on the portable path" }
    );
    println!(
        "f32 peak         {:.0} GFLOP/s, all cores, from registers",
        peak_gflops(&threads, PeakKind::F32)
    );
    println!(
        "bf16 peak        {:.0} GFLOP/s, all cores, from registers",
        peak_gflops(&threads, PeakKind::Bf16)
    );
    println!("memory           {:.1} GB/s, all cores", bandwidth_gbs(&threads));
    match describe_gpu() {
        Ok(gpu) => println!("GPU              {gpu}; this version computes on the CPU"),
        Err(why) => println!("GPU              none: {why}"),
    }
    Ok(())
}
