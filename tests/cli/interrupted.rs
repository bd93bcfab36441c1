//! Runs that are killed or asked to end, and go on as if they had not been.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use slimpipe::runtime::random::Random;

use crate::support::{Outcome, Scene, files, set};

const STEPS: u64 = 40;

/// Step, loss and gradient norm to the last bit.
fn figures(scene: &Scene, run: &str) -> Vec<(u64, u64, u64)> {
    let bits = |s: &slimpipe::train::metrics::StepMetrics| {
        (s.step, s.loss.to_bits(), s.grad_norm.to_bits())
    };
    scene.metrics(run).iter().map(bits).collect()
}

/// Lines of metrics that are whole.
fn steps_done(scene: &Scene, run: &str) -> usize {
    let text = std::fs::read(scene.path(run).join("metrics.jsonl")).unwrap_or_default();
    text.iter().filter(|&&byte| byte == b'\n').count()
}

/// Waits until `steps` steps are written, or the run has ended.
fn wait_for(scene: &Scene, run: &str, child: &mut Child, steps: usize) {
    while steps_done(scene, run) < steps && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_micros(200));
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

fn train(run: &str, settings: &str) -> String {
    let settings = format!("train.steps={STEPS} train.checkpoint_every=3 {settings}");
    format!("train --config tiny.toml --out {run} {}", set(&settings))
}

fn expect_same(scene: &Scene, run: &str, whole: &str) {
    assert_eq!(figures(scene, run), figures(scene, whole));
    let weights = |run: &str| scene.read(&format!("{run}/model/model.safetensors"));
    assert!(weights(run) == weights(whole), "the weights of {run} differ");
    let left = files(&scene.path(run));
    assert!(!left.iter().any(|name| name.contains("partial")), "{left:?}");
}

/// Kills a run again and again at random moments, until it comes to its end.
fn survives_kills(settings: &str) {
    let scene = Scene::new();
    scene.succeed(&train("whole", settings));
    for seed in 0..2 {
        let (random, run) = (Random::named(seed, settings), format!("run-{seed}"));
        let mut words = train(&run, settings);
        let mut kills = 0;
        loop {
            let mut child = scene.spawn(&words);
            // When the first checkpoint, of step 3, is written, a few steps further than the last time.
            let steps = steps_done(&scene, &run).max(4) + random.below(2 * kills, 12) as usize;
            wait_for(&scene, &run, &mut child, steps);
            sleep(Duration::from_micros(random.below(2 * kills + 1, 5000)));
            let ended = child.try_wait().unwrap();
            let _ = child.kill();
            let outcome = Outcome::wait(child);
            if ended.is_some() {
                assert_eq!(outcome.code, Some(0), "{words}: {}", outcome.err);
                break;
            }
            kills += 1;
            words = format!("train --resume {run}");
        }
        assert!(kills > 0, "the run was never killed");
        expect_same(&scene, &run, "whole");
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_end() {
    survives_kills("parallel.pipeline=1");
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_over_ranks() {
    survives_kills("parallel.pipeline=4");
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_in_bf16() {
    survives_kills("parallel.pipeline=1 train.dtype=bf16");
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_in_bf16_with_a_tied_head_over_ranks() {
    survives_kills("parallel.pipeline=4 train.dtype=bf16 model.tie_word_embeddings=true");
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_with_a_tied_head_and_chunks() {
    survives_kills("parallel.chunks=2 model.tie_word_embeddings=true");
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_with_a_shared_vocabulary() {
    let shared = "parallel.vocabulary=true parallel.pipeline=3 model.tie_word_embeddings=true";
    survives_kills(&format!("{shared} train.dtype=bf16"));
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_with_whole_tables_on_the_ends() {
    survives_kills("parallel.vocabulary=false parallel.pipeline=4");
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_over_data_ranks() {
    let ranks = "parallel.data=2 parallel.pipeline=2 parallel.vocabulary=false";
    survives_kills(&format!("{ranks} model.tie_word_embeddings=true train.dtype=bf16"));
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_with_backwards_in_two_parts() {
    survives_kills("parallel.schedule=zb-h1 parallel.slices=1 train.microbatches=3");
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_with_slices_of_unequal_length() {
    survives_kills("parallel.schedule=seq1f1b-balanced parallel.slices=5");
}

#[test]
fn a_killed_run_goes_on_to_the_same_end_with_shared_attention() {
    survives_kills("parallel.pipeline=4 parallel.slices=8 parallel.exchange=balanced");
}

#[test]
fn a_run_that_is_asked_to_end_ends_in_order_and_goes_on_to_the_same_end() {
    let scene = Scene::new();
    let (steps, settings) = (200, "train.checkpoint_every=0 train.steps=200");
    scene.succeed(&train("whole", settings));
    for name in ["-INT", "-TERM"] {
        let run = format!("run{name}");
        let mut child = scene.spawn(&train(&run, settings));
        wait_for(&scene, &run, &mut child, 5);
        signal(&child, name);
        let outcome = Outcome::wait(child);
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        assert!(outcome.err.contains("ending after this step"), "{}", outcome.err);
        let go_on = format!("train --resume {run}");
        assert!(outcome.out.contains(&format!("go on with: slimpipe {go_on}")), "{}", outcome.out);

        // Metrics, checkpoint and weights are those of the same step, the last one finished.
        let last = scene.metrics(&run).last().unwrap().step;
        assert!((5..steps).contains(&last), "{last}");
        assert!(outcome.out.contains(&format!("step {last}: loss")), "{}", outcome.out);
        assert!(scene.exists(&format!("{run}/checkpoint/step-{last:08}")));
        assert_eq!(figures(&scene, &run), figures(&scene, "whole")[..last as usize]);
        scene.succeed(&format!("eval --model {run}/model --data text.txt --seq-len 32"));
        let weights = scene.read(&format!("{run}/model/model.safetensors"));
        scene.copy(&run, "stopped");
        scene.succeed(&format!("train --resume stopped --set train.steps={last}"));
        assert!(scene.read("stopped/model/model.safetensors") == weights);
        std::fs::remove_dir_all(scene.path("stopped")).unwrap();

        scene.succeed(&go_on);
        expect_same(&scene, &run, "whole");
    }
}

#[test]
fn a_run_that_is_asked_twice_ends_at_once() {
    let scene = Scene::new();
    // A step too long to wait for.
    let settings = "train.seq_len=1024 train.microbatches=2000 memory.trace=false";
    let mut child = scene.spawn(&train("run", settings));
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(out.next().unwrap().unwrap().contains("parameters"));
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    signal(&child, "-INT");
    assert!(err.any(|line| line.unwrap().contains("once more to end at once")));
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_run_that_diverges_says_so_and_keeps_its_last_checkpoint() {
    let scene = Scene::new();
    let settings = "train.checkpoint_every=1 train.lr=1e30 train.clip_norm=0 train.warmup_steps=0";
    let outcome = scene.run(&train("run", settings));
    assert_eq!(outcome.code, Some(2), "{}", outcome.err);
    assert!(
        outcome.err.contains("lower train.lr") && !outcome.err.contains("panicked"),
        "{}",
        outcome.err
    );
    let done = scene.metrics("run").len();
    assert!(scene.exists(&format!("run/checkpoint/step-{done:08}")));
    assert!(!scene.exists("run/model"));
}
