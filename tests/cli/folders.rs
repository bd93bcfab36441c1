//! `--out` and `--resume`: which folders a run takes.

use std::fs;

use crate::support::Scene;

#[test]
fn runs_without_a_name_are_numbered() {
    let scene = Scene::new();
    for number in 1..=3 {
        let out = scene.succeed("train --config tiny.toml --set train.steps=1");
        let metrics = format!("runs/train-{number}/metrics.jsonl");
        assert!(out.contains(&metrics) && scene.exists(&metrics), "{out}");
    }
    fs::remove_dir_all(scene.path("runs/train-2")).unwrap();
    scene.succeed("train --config tiny.toml --set train.steps=1");
    assert!(scene.exists("runs/train-2/metrics.jsonl"));
    assert!(!scene.exists("runs/train-4"));
}

#[test]
fn a_refused_run_takes_no_number_and_makes_no_folder() {
    let scene = Scene::new();
    let quiet = "train --config tiny.toml --set memory.limit=1KiB --set memory.trace=false";
    scene.refuse(quiet, &["memory.limit"]);
    assert!(!scene.exists("runs"));
}

#[test]
fn an_occupied_folder_is_refused_and_left_alone() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    scene.write("papers/thesis.tex", "years of work");
    let refuse = |out: &str, expected: &[&str]| {
        scene.refuse(&format!("train --config tiny.toml --out {out}"), expected);
    };
    refuse("run", &["setting `--out`", "run holds another run", "--resume"]);
    refuse("text.txt", &["setting `--out`", "text.txt is not an empty folder"]);
    refuse("text.txt/below", &["--out", "text.txt/below"]);
    refuse("papers", &["setting `--out`", "papers is not an empty folder", "name a new one"]);
}

#[test]
fn a_folder_that_is_no_run_is_not_resumed() {
    let scene = Scene::new();
    scene.write("papers/thesis.tex", "years of work");
    for folder in ["nowhere", "papers", "text.txt"] {
        let expected = ["setting `--resume`", "is not the folder of a run", "config.toml"];
        scene.refuse(&format!("train --resume {folder}"), &expected);
    }
}

#[test]
fn a_run_without_a_checkpoint_is_not_resumed() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    fs::remove_dir_all(scene.path("run/checkpoint")).unwrap();
    let expected = ["run/checkpoint", "none to resume from", "train.checkpoint_every"];
    scene.refuse("train --resume run", &expected);
    fs::create_dir(scene.path("run/checkpoint")).unwrap();
    scene.refuse("train --resume run", &expected);
}

#[test]
fn a_checkpoint_of_another_layout_is_not_resumed() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    for (settings, expected) in [
        ("parallel.pipeline=4", &["written by 2 ranks", "resume with parallel.pipeline=2"][..]),
        ("parallel.pipeline=1", &["written by 2 ranks", "resume with parallel.pipeline=2"]),
        ("parallel.chunks=2", &["parallel.chunks", "it was written with"]),
        ("train.dtype=bf16", &["train.dtype", "it was written with"]),
        ("model.hidden_size=32", &["shape", "resume with the model"]),
        ("model.tie_word_embeddings=true", &["resume with the model"]),
        ("model.num_hidden_layers=6", &["resume with the model"]),
    ] {
        let words = format!("train --resume run --set {}", settings.replace(' ', " --set "));
        scene.refuse(
            &format!("{words} --set train.steps=2"),
            &[&["checkpoint "], expected].concat(),
        );
    }
    scene.succeed("train --resume run --set train.steps=2");
}

#[test]
fn a_damaged_checkpoint_is_not_resumed() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    let file = "run/checkpoint/step-00000001/rank-0001.safetensors";
    let good = scene.read(file);
    for (damaged, expected) in [
        (good[..good.len() / 2].to_vec(), "truncated"),
        (Vec::new(), "not a safetensors file"),
        (vec![b'x'; good.len()], "not a safetensors file"),
        (scene.read("run/checkpoint/step-00000001/rank-0000.safetensors"), "it was written with"),
    ] {
        scene.write(file, damaged);
        let words = "train --resume run --set train.steps=2";
        scene.refuse(words, &["checkpoint ", "rank-0001.safetensors", expected]);
    }
    fs::remove_file(scene.path(file)).unwrap();
    scene.refuse("train --resume run", &["rank-0001.safetensors", "is damaged", "begin a new run"]);
}

#[test]
fn a_run_whose_settings_are_damaged_is_not_resumed() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    let good = scene.text("run/config.toml");
    for (config, expected) in [
        (good.replace("[train]", "[train"), &["run/config.toml is not valid TOML", "line"][..]),
        (good.replace("seq_len", "length"), &["setting `train.length`"]),
    ] {
        assert_ne!(config, good);
        scene.write("run/config.toml", config);
        scene.refuse("train --resume run", expected);
    }
}

#[test]
fn a_finished_run_has_nothing_to_do_and_keeps_what_it_wrote() {
    let scene = Scene::new();
    scene.train("run", "train.steps=3");
    scene.copy("run", "before");
    let out = scene.succeed("train --resume run");
    assert!(out.contains("nothing to do") && out.contains("--set train.steps=N"), "{out}");
    let names = crate::support::files(&scene.path("before"));
    assert_eq!(names, crate::support::files(&scene.path("run")));
    for name in names {
        assert_eq!(
            scene.read(&format!("run/{name}")),
            scene.read(&format!("before/{name}")),
            "{name}"
        );
    }
}

#[test]
fn a_finished_run_goes_on_when_it_is_given_more_steps() {
    let scene = Scene::new();
    scene.train("run", "train.steps=3");
    let before = scene.text("run/metrics.jsonl");
    let out = scene.succeed("train --resume run --set train.steps=5");
    assert!(out.contains("step 5: loss"), "{out}");
    let after = scene.text("run/metrics.jsonl");
    assert!(after.starts_with(&before));
    let steps: Vec<u64> = scene.metrics("run").iter().map(|step| step.step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
    assert!(scene.text("run/config.toml").contains("steps = 5"));
}

#[test]
fn a_run_is_resumed_from_any_working_directory() {
    let scene = Scene::new();
    // A constant rate after the warm-up, so that it does not depend on the number of steps.
    scene.train("whole", "train.min_lr=0.003 train.steps=3");
    scene.train("run", "train.min_lr=0.003 train.steps=2");
    // The same name there is other data.
    let elsewhere = Scene::new();
    elsewhere.write("text.txt", "Something else altogether. ".repeat(80));
    let run = scene.path("run").display().to_string();
    elsewhere.succeed(&format!("train --resume {run} --set train.steps=3"));
    let losses =
        |run| scene.metrics(run).iter().map(|step| step.loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses("run"), losses("whole"));
}

#[test]
fn a_run_inside_its_own_data_sees_the_same_data_when_it_is_resumed() {
    let scene = Scene::new();
    let of = |out: &str| {
        let tokens = out.split("; ").nth(1).and_then(|rest| rest.split(" tokens").next());
        tokens.map(str::to_owned).unwrap()
    };
    let first = of(&scene.train("mine", "data.paths=. train.steps=2"));
    let second = of(&scene.succeed("train --resume mine --set train.steps=3"));
    assert_eq!(first, second);
}

#[test]
fn a_run_does_not_go_on_with_data_that_was_changed_unless_told_to() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    scene.write("text.txt", scene.text("text.txt") + "One more line.");
    let words = "train --resume run --set train.steps=2";
    let accept = "--set data.tokens=2054";
    scene.refuse(
        words,
        &["setting `data.tokens`", "2054 tokens, and 2040 when the run began", accept],
    );
    scene.succeed(&format!("{words} {accept}"));
    scene.succeed("train --resume run --set train.steps=3");
}
