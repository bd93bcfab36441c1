//! GPUs and NVIDIA's libraries, on mocks and impostors: what is found, and what training on them comes to.

mod libraries;
mod ranks;
mod train;

use std::process::Command;

use crate::support::{Scene, set};

/// Whether kernels can be compiled here; says so if not.
fn can_compile() -> bool {
    let available = slimpipe::kernels::cuda::compile::available();
    if let Err(why) = &available {
        eprintln!("skipped: {why}");
    }
    available.is_ok()
}

/// A training run of the tiny model with `settings` into the folder `run`, on the mock driver and NCCL.
fn training(scene: &Scene, run: &str, settings: &str) -> Command {
    let mut command =
        scene.command(&format!("train --config tiny.toml --out {run} {}", set(settings)));
    slimpipe_mock::preload(&mut command).env("SLIMPIPE_KERNEL_IMAGE", "ptx");
    command
}

/// Expects the losses and gradient norms of the run `found` to be those of `expected`, but for a relative
/// error of `within`.
fn expect_the_same_steps(scene: &Scene, found: &str, expected: &str, within: f64) {
    let (steps, all) = (scene.metrics(found), scene.metrics(expected));
    assert_eq!(steps.len(), all.len());
    for (step, expected) in steps.iter().zip(&all) {
        for (own, other) in [(step.loss, expected.loss), (step.grad_norm, expected.grad_norm)] {
            let off = (own / other - 1.0).abs();
            assert!(off < within, "{found}, step {}: {own} for {other}", step.step);
        }
    }
}
