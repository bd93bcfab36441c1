//! `slimpipe kernels`: CUDA kernels, compiled before they are needed.

use std::path::PathBuf;

use slimpipe::kernels::cuda::compile::gates::{Resources, log_violations, resources};
use slimpipe::kernels::cuda::compile::{Cache, Compiler, ImageKind, Key, compile_all};
use slimpipe::kernels::cuda::{self, CudaError};

/// What can be done with kernels.
#[derive(clap::Subcommand)]
pub enum Kernels {
    /// Compile all of them into the cache; no GPU is needed. Fails if one spills registers, or if the
    /// compiler warns that it will be slow.
    Build(Build),
}

/// Flags of `kernels build`.
#[derive(clap::Args)]
pub struct Build {
    /// Also store them in this folder, for machines without NVRTC (SLIMPIPE_KERNEL_PACK).
    #[arg(long)]
    pack: Option<PathBuf>,
}

/// Runs a subcommand.
pub fn run(kernels: &Kernels) -> anyhow::Result<()> {
    match kernels {
        Kernels::Build(args) => build(args),
    }
}

fn build(args: &Build) -> anyhow::Result<()> {
    let (variants, kind) = (cuda::variants(), ImageKind::current());
    let compiler = Compiler::find().map_err(|looked| CudaError::NoCompiler { looked })?;
    let cache = Cache::of_user();
    let images = compile_all(&variants, kind, compiler, cache.as_ref())?;
    if let Some(folder) = &args.pack {
        let pack = Cache::new(folder);
        for (variant, image) in variants.iter().zip(&images) {
            pack.put(&Key::new(variant, kind, None)?, image)?;
        }
    }
    println!("{:>9} {:>6} {:>6} {:>7}  kernel", "registers", "spills", "shared", "bytes");
    let mut wrong = Vec::new();
    for (variant, image) in variants.iter().zip(&images) {
        let all = resources(&image.log);
        let found = all.into_iter().find(|kernel| kernel.entry == variant.entry);
        let Resources { registers, spills, shared, .. } = found.unwrap_or_default();
        println!("{registers:>9} {spills:>6} {shared:>6} {:>7}  {variant}", image.bytes.len());
        let violations = log_violations(variant, &image.log).into_iter();
        wrong.extend(violations.map(|what| format!("{variant}: {what}")));
    }
    let version = compiler.version();
    let place = cache.map_or("no cache".to_owned(), |cache| cache.folder().display().to_string());
    println!("{} kernels by NVRTC {version}, in {place}", variants.len());
    anyhow::ensure!(wrong.is_empty(), "kernels are not as they should be:\n{}", wrong.join("\n"));
    Ok(())
}
