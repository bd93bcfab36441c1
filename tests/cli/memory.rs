//! `memory.limit`, and machines too small.

use slimpipe::train::metrics::RankMetrics;

use crate::support::Scene;

fn largest(ranks: &[RankMetrics], of: impl Fn(&RankMetrics) -> u64) -> u64 {
    ranks.iter().map(of).max().unwrap()
}

/// Trains with `settings`, for which there is not enough memory, into the folder `run`: the error has all of
/// `expected` and names the logs, and nothing but these is left.
fn run_out(scene: &Scene, run: &str, settings: &str, expected: &[&str]) {
    let outcome = scene
        .run(&format!("train --config tiny.toml --out {run} {}", crate::support::set(settings)));
    assert_eq!(outcome.code, Some(2), "{}", outcome.err);
    let logs = format!("slimpipe trace summary {run}/memory.events");
    for expected in expected.iter().chain(&[&logs[..]]) {
        assert!(outcome.err.contains(expected), "no {expected:?} in: {}", outcome.err);
    }
    let left = crate::support::files(&scene.path(run));
    assert!(left.iter().all(|file| file.starts_with("memory.events/")), "{left:?}");
    let summary = scene.succeed(&logs["slimpipe ".len()..]);
    assert!(summary.contains("no memory for") && !summary.contains("ends within"), "{summary}");
}

#[test]
fn a_limit_too_small_for_the_model_is_refused_with_the_largest_owners_and_a_log() {
    let scene = Scene::new();
    let expected = ["out of memory on rank", "(memory.limit)", "raise memory.limit"];
    run_out(&scene, "new/run", "memory.limit=1KiB", &expected);
    let expected =
        [&expected[..], &["the largest owners are\n", "parameter lm_head.weight (persistent"]]
            .concat();
    // The folder may be named again: nothing but the log of a failure is in it.
    run_out(&scene, "new/run", "memory.limit=40KiB", &expected);
    let quiet =
        "train --config tiny.toml --out other --set memory.limit=40KiB --set memory.trace=false";
    scene.refuse(quiet, &expected);
    scene.train("new/run", "memory.trace=false");
    assert!(!scene.exists("new/run/memory.events"));
}

#[test]
fn a_limit_too_small_for_the_activations_alone_is_refused_in_the_first_step() {
    let scene = Scene::new();
    let settings = "train.steps=2 train.seq_len=256 train.microbatches=4";
    scene.train("unlimited", settings);
    let step = &scene.metrics("unlimited")[0];
    let reserved = largest(&step.ranks, |rank| rank.reserved_peak_bytes);
    let activations = largest(&step.ranks, |rank| rank.activation_peak_bytes);
    // What is there before the first step fits with room to spare.
    let limit = reserved - activations / 2;
    let expected = [
        "out of memory on rank",
        "(memory.limit)",
        " (slots ",
        ", persistent ",
        "mb0/slice0/chunk0",
        "train.seq_len",
    ];
    run_out(&scene, "new/run", &format!("{settings} memory.limit={limit}"), &expected);
    // Without logs, a folder that was there stays as empty as it was.
    std::fs::create_dir(scene.path("mine")).unwrap();
    let words = format!("train --config tiny.toml --out mine {}", crate::support::set(settings));
    let quiet = "--set memory.trace=false";
    scene.refuse(&format!("{words} --set memory.limit={limit} {quiet}"), &expected);
    // What the run reserved is enough for it, and for a few messages that wait longer this time:
    // also to write what it leaves behind.
    let limit = reserved + reserved / 10;
    scene.train("limited", &format!("{settings} memory.limit={limit}"));
    let limited = scene.metrics("limited");
    assert!(limited.iter().all(|step| step.ranks.iter().all(|r| r.reserved_peak_bytes <= limit)));
    let losses =
        |run: &str| scene.metrics(run).iter().map(|s| s.loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses("limited"), losses("unlimited"));
}

#[test]
fn a_model_larger_than_the_machine_is_refused_before_memory_is_taken() {
    let scene = Scene::new();
    let settings =
        "model.hidden_size=100000 model.intermediate_size=400000 model.num_hidden_layers=64";
    let expected = ["setting `model.hidden_size`", "this machine has", "choose a smaller model"];
    scene.refuse_settings(settings, &expected);
}

#[test]
fn recompute_lowers_activations_and_changes_no_loss() {
    let scene = Scene::new();
    let run = |name: &str, settings: &str| {
        scene.train(name, &format!("memory.strict=true {settings}"));
        let steps = scene.metrics(name);
        let activations = largest(&steps[0].ranks, |rank| rank.activation_peak_bytes);
        assert!(steps.iter().flat_map(|step| &step.ranks).all(|rank| rank.overflow_hits == 0));
        (activations, steps.iter().map(|step| step.loss.to_bits()).collect::<Vec<_>>())
    };
    let (none, losses) = run("none", "");
    let (partial, partial_losses) = run("partial", "memory.recompute=partial");
    let (full, full_losses) = run("full", "memory.recompute=full");
    let layers = "memory.recompute=full memory.recompute_layers=0,2-2";
    let (half, half_losses) = run("half", layers);
    assert!(full < partial && partial < none && full < half && half < none);
    assert!([partial_losses, full_losses, half_losses].iter().all(|other| *other == losses));
    assert!(scene.text("half/config.toml").contains("recompute_layers = \"0, 2\""));
}

#[test]
fn offload_lowers_activations_and_changes_no_loss() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("disk")).unwrap();
    let run = |name: &str, settings: &str| {
        scene.train(name, &format!("train.microbatches=4 memory.strict=true {settings}"));
        let steps = scene.metrics(name);
        let activations = largest(&steps[0].ranks, |rank| rank.activation_peak_bytes);
        assert!(steps.iter().flat_map(|step| &step.ranks).all(|rank| rank.overflow_hits == 0));
        (activations, steps.iter().map(|step| step.loss.to_bits()).collect::<Vec<_>>())
    };
    let (none, losses) = run("none", "");
    let (half, half_losses) = run("half", "memory.offload=0.5 memory.offload_folder=disk");
    let (all, all_losses) = run("all", "memory.offload=1");
    let (both, both_losses) = run("both", "memory.offload=1 memory.recompute=full");
    assert!(both < all && all < half && half < none, "{both} {all} {half} {none}");
    assert!([half_losses, all_losses, both_losses].iter().all(|other| *other == losses));
    // The file has no name: whatever ends a run, nothing of it stays.
    assert_eq!(std::fs::read_dir(scene.path("disk")).unwrap().count(), 0);
    let config = scene.text("half/config.toml");
    assert!(config.contains("offload = 0.5"), "{config}");
    let folder = format!("offload_folder = \"{}\"", scene.path("disk").display());
    assert!(config.contains(&folder), "{config}");
    let timeline = scene.text("all/timeline.json");
    assert!(timeline.contains("await copy mb0 s0"));
}

#[test]
fn a_folder_that_activations_cannot_wait_in_is_refused_by_name() {
    let scene = Scene::new();
    let settings = "memory.offload=0.5 memory.offload_folder=nowhere";
    let expected = [
        "setting `memory.offload_folder`",
        "nowhere",
        "No such file or directory",
        "name a folder that can be written to",
    ];
    scene.refuse_settings(settings, &expected);
    let settings = "memory.offload=0.5 memory.offload_folder=text.txt";
    scene.refuse_settings(settings, &["setting `memory.offload_folder`", "Not a directory"]);
}
