//! `parallel.data`: pipelines side by side, the same run and the same files.

use crate::support::Scene;

const LAYOUTS: [(&str, &str); 4] = [
    ("one", "parallel.pipeline=2"),
    ("two", "parallel.pipeline=2 parallel.data=2"),
    ("four", "parallel.pipeline=1 parallel.data=4"),
    ("ends", "parallel.pipeline=4 parallel.data=2 parallel.vocabulary=false"),
];

#[test]
fn losses_and_clipped_gradients_do_not_depend_on_the_layout() {
    Scene::new().expect_the_same_training(&LAYOUTS, "train.microbatches=4");
}

#[test]
fn a_run_over_data_ranks_writes_the_files_of_any_run() {
    let scene = Scene::new();
    // Without a learning rate weights stay as they were drawn.
    let still = "train.lr=0 train.min_lr=0 train.steps=1 train.microbatches=4";
    for (name, layout) in LAYOUTS {
        let out = scene.train(name, &format!("{still} {layout}"));
        let weights = |run: &str| scene.read(&format!("{run}/model/model.safetensors"));
        assert!(weights(name) == weights("one"), "{name}");
        let size = |key: &str| -> usize {
            layout.split(key).nth(1).map_or(1, |rest| rest[..1].parse().unwrap())
        };
        let ranks = size("pipeline=") * size("data=");
        let steps = scene.metrics(name);
        assert_eq!(steps[0].ranks.len(), ranks, "{name}");
        assert!(out.contains(&format!("\n{:>4}  ", ranks - 1)), "{name}: {out}");
        let programs = scene.text(&format!("{name}/schedule.txt"));
        let timeline = scene.text(&format!("{name}/timeline.json"));
        assert_eq!(programs.contains("reduce:"), size("data=") > 1, "{name}");
        assert_eq!(timeline.contains("data reduce c0"), size("data=") > 1, "{name}");
        scene.succeed(&format!("simulate --measured {name}/timeline.json"));
    }
}

#[test]
fn data_ranks_that_do_not_fit_are_refused() {
    let scene = Scene::new();
    let fits = ["setting `parallel.data`", "divisor of train.microbatches 2"];
    scene.refuse_settings("parallel.data=3", &fits);
    scene.refuse_settings("parallel.data=0", &fits);
    scene.train("run", "parallel.data=2 train.steps=1");
    for (settings, expected) in [
        ("parallel.data=1", "resume with parallel.pipeline=2 and parallel.data=2"),
        ("parallel.data=1 --set parallel.pipeline=4", "written by 4 ranks"),
    ] {
        let words = format!("train --resume run --set train.steps=2 --set {settings}");
        scene.refuse(&words, &["checkpoint ", expected]);
    }
    scene.succeed("train --resume run --set train.steps=2");
}
