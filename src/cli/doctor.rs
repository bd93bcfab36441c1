//! `slimpipe doctor`.

use slimpipe::allocator::Bytes;
use slimpipe::kernels::cpu::peak::{PeakKind, bandwidth_gbs, peak_gflops};
use slimpipe::kernels::cpu::simd::{Level, has_avx512_bf16, level};
use slimpipe::kernels::cpu::threads::Threads;
use slimpipe::kernels::cuda::compile::locate::{self, Wanted};
use slimpipe::kernels::cuda::compile::{Cache, Compiler, pack};
use slimpipe::kernels::cuda::cublaslt::Products;
use slimpipe::kernels::cuda::{context, driver};
use slimpipe::runtime::team;

/// Says what this machine offers.
pub fn run() -> anyhow::Result<()> {
    cpu()?;
    gpus();
    libraries();
    Ok(())
}

fn line(name: &str, what: &str) {
    println!("{name:<16} {what}");
}

fn cpu() -> anyhow::Result<()> {
    let cores = team::cores();
    let threads = Threads::new(cores)?;
    line("cores", &cores.to_string());
    let units = match level() {
        Level::Portable => "none that our kernels use: the portable path",
        Level::Avx2 => "AVX2",
        Level::Avx512 => "AVX-512",
    };
    line("vector units", units);
    let bf16 = if has_avx512_bf16() { "yes" } else { "no: bf16 runs on the portable path" };
    line("AVX512-BF16", bf16);
    for (name, kind) in [("f32 peak", PeakKind::F32), ("bf16 peak", PeakKind::Bf16)] {
        let peak = peak_gflops(&threads, kind);
        line(name, &format!("{peak:.0} GFLOP/s, all cores, from registers"));
    }
    line("memory", &format!("{:.1} GB/s, all cores", bandwidth_gbs(&threads)));
    Ok(())
}

fn gpus() {
    let driver = match driver::load() {
        Ok(driver) => driver,
        Err(why) => return line("GPU", &format!("none: {why}")),
    };
    line("driver", &format!("CUDA {}", driver.version));
    for ordinal in 0..driver.gpus {
        let name = format!("GPU {ordinal}");
        match context::facts(ordinal) {
            Err(why) => line(&name, &format!("cannot be used: {why}")),
            Ok(facts) => {
                let refusal = facts.refusal().map_or(String::new(), |why| format!("; {why}"));
                line(
                    &name,
                    &format!(
                        "{}, compute capability {}, {} multiprocessors, {}{refusal}",
                        facts.name,
                        facts.capability,
                        facts.multiprocessors,
                        Bytes(facts.memory)
                    ),
                );
            }
        }
    }
}

fn libraries() {
    match Compiler::find() {
        Ok(found) => line("NVRTC", &format!("{}, {}", found.version(), found.path().display())),
        Err(why) => line("NVRTC", &format!("none: {why}")),
    }
    for (name, wanted) in [("NCCL", Wanted::Nccl), ("cuBLASLt", Wanted::CublasLt)] {
        match locate::find(wanted) {
            Ok(found) => {
                let [major, minor, patch] = found.version;
                line(name, &format!("{major}.{minor}.{patch}, {}", found.path.display()));
            }
            Err(why) => line(name, &format!("none: {why}")),
        }
    }
    match Products::current() {
        Ok(Products::CublasLt) => {
            line("bf16 products", "by cuBLASLt; SLIMPIPE_GEMM=own has our kernel")
        }
        Ok(Products::Own) => line("bf16 products", "by our kernel"),
        Err(why) => line("bf16 products", &format!("none: {why}")),
    }
    match Cache::of_user() {
        None => line("kernel cache", "none: neither HOME nor SLIMPIPE_KERNEL_CACHE is set"),
        Some(cache) => line("kernel cache", &images(&cache)),
    }
    if let Some(pack) = pack() {
        line("kernel pack", &images(&pack));
    }
}

fn images(cache: &Cache) -> String {
    let (images, bytes) = cache.size();
    format!("{}, {images} images, {}", cache.folder().display(), Bytes(bytes))
}
