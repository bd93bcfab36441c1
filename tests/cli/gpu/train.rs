//! Training on one GPU.

use super::{can_compile, expect_the_same_steps, training};
use crate::support::Scene;
use crate::trace::check_peaks;

/// Trains on the mock driver.
fn train(scene: &Scene, run: &str, settings: &str) {
    let output = training(scene, run, &format!("{settings} train.device=cuda")).output().unwrap();
    assert!(output.status.success(), "{settings}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn training_on_a_gpu_gives_the_losses_and_gradients_of_the_cpu() {
    if !can_compile() {
        return;
    }
    let scene = Scene::new();
    for (number, (settings, within)) in [
        ("parallel.pipeline=2 parallel.vocabulary=false", 1e-6),
        ("parallel.pipeline=4 model.tie_word_embeddings=true parallel.vocabulary=false", 1e-6),
        ("parallel.pipeline=4 model.tie_word_embeddings=true parallel.vocabulary=true", 1e-6),
        ("parallel.exchange=balanced train.seq_len=64 parallel.vocabulary=true", 1e-6),
        ("memory.recompute=full memory.offload=0.5 parallel.vocabulary=true", 1e-6),
        ("parallel.schedule=zb-h1 parallel.slices=1 train.microbatches=4", 1e-6),
        ("train.dtype=bf16 parallel.vocabulary=true", 2e-3),
        ("parallel.data=2 model.tie_word_embeddings=true parallel.vocabulary=true", 1e-6),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = format!("{settings} train.steps=2");
        let (cpu, gpu) = (format!("cpu-{number}"), format!("gpu-{number}"));
        scene.train(&cpu, &settings);
        train(&scene, &gpu, &settings);
        expect_the_same_steps(&scene, &gpu, &cpu, within);
    }
}

#[test]
fn the_memory_logs_of_a_run_on_a_gpu_have_the_peaks_that_its_allocators_counted() {
    if !can_compile() {
        return;
    }
    let scene = Scene::new();
    train(&scene, "run", "parallel.vocabulary=true memory.offload=0.5 train.steps=2");
    check_peaks(&scene, "run");
    let text = scene.succeed("trace summary run");
    for expected in ["slots", "kv gradients", "mb0/slice", "train/src/model/block.rs:"] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert!(scene.succeed("trace summary run --json").contains("adam m model.embed_tokens.weight"));
    scene.succeed("trace view run --out page.html");
    scene.succeed("trace export run --to memory-viz --out snapshot.pickle");
}

#[test]
fn losses_and_peaks_are_within_the_bounds_of_bench_gpu_on_one_gpu_and_on_four() {
    if !can_compile() {
        return;
    }
    let scene = Scene::new();
    for (device, dtype) in [("cuda", "bf16"), ("cuda:0,1,2,3", "f32")] {
        let size = "-p 4 -n 4 -m 1 --seq 256 --layers 4 --hidden 64 --steps 2";
        let mut command =
            scene.command(&format!("bench gpu {size} --device {device} --dtype {dtype}"));
        slimpipe_mock::preload(&mut command).env("SLIMPIPE_KERNEL_IMAGE", "ptx");
        command.env("SLIMPIPE_MOCK_NCCL_SEND", "rendezvous");
        // What is off ends it with an error that says so.
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["ranks"].as_array().unwrap().len(), 4);
    }
}

#[test]
fn a_device_that_there_is_not_is_refused() {
    Scene::new().refuse_settings(
        "train.device=tpu",
        &["setting `train.device`", "cuda:NUMBER", "cuda:0,1,2,3"],
    );
}
