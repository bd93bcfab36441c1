//! Training on one GPU.

use super::{can_compile, expect_the_same_steps, training};
use crate::support::{Scene, set};
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
        ("parallel.pipeline=2", 1e-6),
        ("parallel.pipeline=4 model.tie_word_embeddings=true", 1e-6),
        ("parallel.exchange=balanced train.seq_len=64", 1e-6),
        ("memory.recompute=full memory.offload=0.5", 1e-6),
        ("parallel.schedule=zb-h1 parallel.slices=1 train.microbatches=4", 1e-6),
        ("train.dtype=bf16", 2e-3),
        ("parallel.data=2 model.tie_word_embeddings=true", 1e-6),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = format!("{settings} parallel.vocabulary=false train.steps=2");
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
    train(&scene, "run", "parallel.vocabulary=false memory.offload=0.5 train.steps=2");
    check_peaks(&scene, "run");
    let text = scene.succeed("trace summary run");
    for expected in [
        "slots",
        "kv gradients",
        "mb0/slice",
        "adam m model.embed_tokens.weight",
        "train/src/model/block.rs:",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    scene.succeed("trace view run --out page.html");
    scene.succeed("trace export run --to memory-viz --out snapshot.pickle");
}

#[test]
fn what_cannot_run_on_a_gpu_yet_is_refused_before_it_begins() {
    let scene = Scene::new();
    scene.refuse_settings("train.device=tpu", &["setting `train.device`", "cuda:NUMBER"]);
    let settings = set("train.device=cuda parallel.vocabulary=true");
    let mut command = scene.command(&format!("train --config tiny.toml --out new/run {settings}"));
    let output = slimpipe_mock::preload(&mut command).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("cannot run on a GPU yet"), "{err}");
    assert!(err.contains("parallel.vocabulary to false"), "{err}");
}
