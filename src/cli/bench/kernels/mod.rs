//! `slimpipe bench kernels`: the CUDA kernels on the GPU of this machine, one JSON line a case.
//!
//! Inputs are made from the case's seed by integer arithmetic (`data`), so that
//! `scripts/gpu_torch.py` runs PyTorch on the same numbers and compares results as well as times.

mod cases;
mod data;
mod gpu;

use serde_json::{Value, json};
use slimpipe::kernels::cuda::cublaslt::Products;

use cases::{Attention, Case, Mlp, Of, Product};
use gpu::Gpu;

use super::median;

/// Arguments of `bench kernels`.
#[derive(clap::Args)]
pub struct Args {
    /// The GPU's number.
    #[arg(long, default_value_t = 0)]
    gpu: u32,
    /// Runs of which the median is taken, after one to warm up.
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// Cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Small sizes: to see that all runs.
    #[arg(long)]
    quick: bool,
}

/// Tokens of the MLP and of its products; width and hidden width are those of Llama 8B.
const MLP: (usize, usize, usize) = (8192, 4096, 14336);

fn cases(quick: bool) -> Vec<Case> {
    let attention = |tokens, slices, backward| {
        let heads = if quick { (4, 2) } else { (32, 8) };
        Case::Attention(Attention { tokens, slices, heads, head_dim: 128, backward })
    };
    let product = |m, n, k, of| Case::Product(Product { m, n, k, of });
    let mlps = |(tokens, width, hidden)| {
        [false, true].map(|backward| Case::Mlp(Mlp { tokens, width, hidden, backward }))
    };
    if quick {
        let products = [Of::Output, Of::Input, Of::Weight].map(|of| product(256, 128, 192, of));
        let attentions = [false, true].map(|backward| attention(512, 4, backward));
        return products.into_iter().chain(mlps((256, 128, 256))).chain(attentions).collect();
    }
    let (tokens, width, hidden) = MLP;
    let mut cases = vec![
        product(4096, 4096, 4096, Of::Output),
        product(8192, 8192, 8192, Of::Output),
        product(tokens, hidden, width, Of::Output),
        product(tokens, width, hidden, Of::Output),
        product(tokens, hidden, width, Of::Input),
        product(hidden, width, tokens, Of::Weight),
    ];
    cases.extend(mlps(MLP));
    for tokens in [8 << 10, 16 << 10, 32 << 10, 64 << 10] {
        cases.extend(
            [1, 8].into_iter().flat_map(|slices| {
                [false, true].map(|backward| attention(tokens, slices, backward))
            }),
        );
    }
    cases
}

/// Measures, and prints a line for each case and one for the GPU.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut gpu = Gpu::open(args.gpu)?;
    Products::Own.choose(); // cuBLASLt is what they are compared with
    println!("{}", gpu.facts());
    for case in cases(args.quick).iter().filter(|case| case.name().contains(&args.only)) {
        let found = case.run(&mut gpu, args.runs.max(1))?;
        let milliseconds = median(found.milliseconds);
        let mut line = json!({
            "case": case.name(),
            "ms": (milliseconds * 1e4).round() / 1e4,
            "tflops": (case.flops() / milliseconds / 1e9 * 10.0).round() / 10.0,
            "norms": found.norms,
        });
        merge(&mut line, case.sizes());
        println!("{line}");
    }
    Ok(())
}

fn merge(line: &mut Value, more: Value) {
    if let (Value::Object(line), Value::Object(more)) = (line, more) {
        line.extend(more);
    }
}
