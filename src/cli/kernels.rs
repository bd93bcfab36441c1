//! `slimpipe kernels`: CUDA kernels, compiled before they are needed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use slimpipe::kernels::cuda::compile::gates::{Resources, log_violations, resources};
use slimpipe::kernels::cuda::compile::{Cache, Compiler, Image, ImageKind, Key, Variant, compile};
use slimpipe::kernels::cuda::{self, CudaError};
use slimpipe::runtime::team;

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

/// The images of all variants, those of one source with the same constants compiled once.
fn compile_all(
    variants: &[Variant],
    kind: ImageKind,
    compiler: &Compiler,
    cache: Option<&Cache>,
) -> anyhow::Result<Vec<Image>> {
    let first = |variant: &Variant| variants.iter().position(|other| other.shares_image(variant));
    let sources: Vec<usize> =
        (0..variants.len()).filter(|&i| first(&variants[i]) == Some(i)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        while let Some(&source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            made.push((source, compile(&variants[source], kind, compiler, cache)));
        }
        made
    };
    let mut images = vec![None; variants.len()];
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..team::cores()).map(|_| scope.spawn(work)).collect();
        let made: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
        made
    });
    for (source, image) in made.into_iter().flatten() {
        images[source] = Some(image?);
    }
    let of = |variant: &Variant| images[first(variant)?].clone();
    variants
        .iter()
        .map(|variant| {
            of(variant).ok_or_else(|| anyhow::anyhow!("{variant}: the compiler panicked"))
        })
        .collect()
}
