//! Ranks with a GPU each, over NCCL: threads, and processes that a launcher started.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{can_compile, expect_the_same_steps, training};
use crate::support::{Outcome, Scene};

/// The command as torchrun starts it for one of `size` ranks.
fn launched(mut command: Command, rank: u32, size: u32) -> Command {
    for (name, value) in [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", size)] {
        command.env(name, value.to_string());
    }
    command
}

/// Starts ranks 0 and 1, as torchrun does.
fn pair(scene: &Scene, run: &str, settings: &str) -> [Child; 2] {
    [0, 1].map(|rank| {
        let mut command = launched(training(scene, run, settings), rank, 2);
        command.env("SLIMPIPE_MOCK_NCCL_SEND", "rendezvous");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    })
}

#[test]
fn threads_with_a_gpu_each_train_as_the_cpu_does() {
    if !can_compile() {
        return;
    }
    let scene = Scene::new();
    for (number, settings) in [
        "model.tie_word_embeddings=true parallel.vocabulary=false",
        "parallel.exchange=balanced train.seq_len=64 parallel.vocabulary=true",
        "parallel.schedule=zb-h1 parallel.slices=1 train.microbatches=4",
        "model.num_hidden_layers=8 parallel.chunks=2 memory.offload=0.5 parallel.vocabulary=true",
        "parallel.pipeline=2 parallel.data=2 model.tie_word_embeddings=true parallel.vocabulary=true",
    ]
    .into_iter()
    .enumerate()
    {
        let settings = format!("parallel.pipeline=4 train.steps=2 {settings}");
        let (cpu, gpu) = (format!("cpu-{number}"), format!("gpu-{number}"));
        scene.train(&cpu, &settings);
        // Sends wait for their receives, and nothing is on time.
        let mut command = training(&scene, &gpu, &format!("{settings} train.device=cuda:0,1,2,3"));
        command.env("SLIMPIPE_MOCK_NCCL_SEND", "rendezvous");
        command.env("SLIMPIPE_MOCK_NCCL_ORDER", format!("random:{number}:300"));
        command.env("SLIMPIPE_MOCK_NCCL_DEFERRED", "true");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{settings}: {}", String::from_utf8_lossy(&output.stderr));
        expect_the_same_steps(&scene, &gpu, &cpu, 1e-5);
    }
}

#[test]
fn processes_train_as_the_cpu_does_and_leave_one_run() {
    if !can_compile() {
        return;
    }
    let scene = Scene::new();
    let settings = "parallel.vocabulary=true train.steps=2 train.checkpoint_every=1";
    scene.train("cpu", settings);
    let [first, second] =
        pair(&scene, "gpu", &format!("{settings} train.device=cuda")).map(Outcome::wait);
    for outcome in [&first, &second] {
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    }
    assert!(first.out.contains("step 2: loss") && second.out.is_empty(), "{second:?}");
    expect_the_same_steps(&scene, "gpu", "cpu", 1e-5);
    let says = scene.succeed("trace summary gpu/memory.events");
    let rows = says.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    let rows: Vec<_> = rows.take(3).collect();
    assert_eq!(rows, [["rank", "steps"], ["0", "1-2"], ["1", "1-2"]], "{says}");
    assert!(!scene.exists("gpu/rendezvous"));
    for file in ["model/model.safetensors", "timeline.json", "schedule.txt", "config.toml"] {
        assert!(scene.exists(&format!("gpu/{file}")), "{file}");
    }
    // The run goes on, and as a run on the CPU would.
    let more = "--set train.steps=3";
    scene.succeed(&format!("train --resume cpu {more}"));
    let going_on = [0, 1].map(|rank| {
        let mut command = scene.command(&format!("train --resume gpu {more}"));
        slimpipe_mock::preload(&mut command).env("SLIMPIPE_KERNEL_IMAGE", "ptx");
        let mut command = launched(command, rank, 2);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for outcome in going_on.map(Outcome::wait) {
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    }
    expect_the_same_steps(&scene, "gpu", "cpu", 1e-5);
}

#[test]
fn a_process_that_is_killed_ends_the_other_which_names_it() {
    if !can_compile() {
        return;
    }
    let scene = Scene::new();
    let settings = "train.steps=100000 train.device=cuda";
    let [first, mut second] = pair(&scene, "gpu", &format!("{settings} parallel.timeout=60"));
    let begin = Instant::now();
    while !scene.exists("gpu/metrics.jsonl") {
        assert!(begin.elapsed() < Duration::from_secs(120), "no step was finished");
        std::thread::sleep(Duration::from_millis(20));
    }
    second.kill().unwrap();
    let killed = Instant::now();
    let first = Outcome::wait(first);
    assert!(killed.elapsed() < Duration::from_secs(60));
    assert_eq!(first.code, Some(2), "{}", first.err);
    let line = first.err.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(line.contains("rank 0") && line.contains("rank 1"), "{line}");
    second.wait().unwrap();
}

#[test]
fn a_process_that_never_shows_up_is_named() {
    let scene = Scene::new();
    let settings = "parallel.pipeline=4 train.device=cuda parallel.timeout=1";
    let alone = |rank| launched(training(&scene, "new/run", settings), rank, 4).output().unwrap();
    for (rank, absent) in [(0, "ranks 1, 2, 3"), (2, "rank 0")] {
        let output = alone(rank);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(&format!("rank {rank} waited 1 s for {absent}")), "{err}");
        assert!(!scene.exists("new"));
    }
}

#[test]
fn processes_that_do_not_fit_the_settings_are_refused() {
    let scene = Scene::new();
    for (settings, size, expected) in [
        (
            "train.device=cuda",
            3,
            "parallel.pipeline`: is 2 and parallel.data 1, which are 2 ranks, and torchrun started 3",
        ),
        ("train.device=cpu", 2, "only ranks on GPUs can be processes"),
        ("train.device=cuda:1", 2, "only ranks on GPUs can be processes"),
        ("train.device=cuda:0,1,2", 1, "names 3 GPUs for 2 ranks"),
        ("train.device=cuda:0,x", 1, "a list of GPUs' numbers"),
        ("train.device=cuda:0,1 parallel.timeout=0", 1, "parallel.timeout`: is 0"),
    ] {
        let output = launched(training(&scene, "new/run", settings), 0, size).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(expected), "{settings}: {err}");
        assert!(!scene.exists("new"));
    }
    let mut command = scene.command("train --config tiny.toml --set train.device=cuda");
    slimpipe_mock::preload(&mut command);
    let output = launched(command, 0, 2).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("setting `--out`: is not set, and torchrun started 2 processes"), "{err}");
}
