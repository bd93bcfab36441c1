//! A full disk, on a small one of its own. Needs the right to mount; says so where there is none.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Outcome, Scene, files, set};

/// A file system in memory, mounted in a scene.
struct Disk(PathBuf);

impl Disk {
    fn mount(scene: &Scene, kib: u64) -> Option<Self> {
        let path = scene.path("disk");
        fs::create_dir(&path).unwrap();
        let size = format!("size={kib}k");
        let mut mount = Command::new("mount");
        let outcome = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        match outcome {
            Ok(output) if output.status.success() => Some(Self(path)),
            Ok(output) => {
                println!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: mount: {error}");
                None
            }
        }
    }

    fn resize(&self, kib: u64) {
        let size = format!("remount,size={kib}k");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn fails_for_want_of_space(outcome: &Outcome) {
    let Outcome { code, err, .. } = outcome;
    assert_eq!(*code, Some(2), "{err}");
    assert!(err.contains("No space left on device"), "{err}");
    assert!(err.contains("free space there, or write to another disk"), "{err}");
    let error = err.split("error: ").nth(1).unwrap();
    assert!(!error.trim_end().contains("\n\n") && !err.contains("panicked"), "{err}");
}

const SETTINGS: &str = "train.steps=6 train.checkpoint_every=2 memory.trace=false";

fn train(scene: &Scene, run: &str, settings: &str) -> Outcome {
    scene.run(&format!(
        "train --config tiny.toml --out {run} {}",
        set(&format!("{SETTINGS} {settings}"))
    ))
}

#[test]
fn a_run_on_a_full_disk_leaves_nothing_of_itself() {
    let scene = Scene::new();
    let Some(disk) = Disk::mount(&scene, 4) else { return };
    for trace in ["memory.trace=false", "memory.trace=true"] {
        fails_for_want_of_space(&train(&scene, "disk/run", trace));
        assert!(!scene.exists("disk/run"), "{:?}", files(&disk.0));
    }
}

#[test]
fn a_disk_that_fills_keeps_whole_steps_and_the_last_checkpoint_to_go_on_from() {
    let scene = Scene::new();
    assert_eq!(train(&scene, "whole", "").code, Some(0));
    let size = |folder: &str| -> u64 {
        let names = files(&scene.path(folder)).into_iter();
        names.map(|name| scene.read(&format!("{folder}/{name}")).len() as u64).sum()
    };
    let checkpoint = size("whole/checkpoint") / 1024;
    // Room for one checkpoint and not for the next beside it.
    let Some(disk) = Disk::mount(&scene, checkpoint + checkpoint / 2) else { return };
    fails_for_want_of_space(&train(&scene, "disk/run", ""));
    let steps = scene.metrics("disk/run");
    assert_eq!(steps.last().unwrap().step, 4);
    let names = files(&scene.path("disk/run"));
    assert!(
        names.contains(&"checkpoint/step-00000002/rank-0001.safetensors".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.contains("partial") || name.contains("0004")),
        "{names:?}"
    );
    fails_for_want_of_space(&scene.run("train --resume disk/run"));

    disk.resize(4 * checkpoint);
    scene.succeed("train --resume disk/run");
    let figures = |run: &str| -> Vec<_> {
        scene
            .metrics(run)
            .iter()
            .map(|s| (s.step, s.loss.to_bits(), s.grad_norm.to_bits()))
            .collect()
    };
    assert_eq!(figures("disk/run"), figures("whole"));
    let weights = |run: &str| scene.read(&format!("{run}/model/model.safetensors"));
    assert!(weights("disk/run") == weights("whole"));
}

#[test]
fn a_disk_too_small_for_the_weights_keeps_the_checkpoint_they_are_written_from() {
    let scene = Scene::new();
    let settings = "train.steps=1 train.checkpoint_every=0";
    assert_eq!(train(&scene, "whole", settings).code, Some(0));
    let checkpoint: usize = files(&scene.path("whole/checkpoint"))
        .iter()
        .map(|name| scene.read(&format!("whole/checkpoint/{name}")).len().next_multiple_of(4096))
        .sum();
    let Some(disk) = Disk::mount(&scene, checkpoint as u64 / 1024 + 24) else { return };
    fails_for_want_of_space(&train(&scene, "disk/run", settings));
    let names = files(&scene.path("disk/run"));
    assert!(!names.iter().any(|name| name.contains("model/")), "{names:?}");
    disk.resize(4096);
    let out = scene.succeed("train --resume disk/run");
    assert!(out.contains("nothing to do"), "{out}");
    let weights = |run: &str| scene.read(&format!("{run}/model/model.safetensors"));
    assert!(weights("disk/run") == weights("whole"));
}

#[test]
fn a_disk_too_small_for_activations_is_an_error_that_names_the_setting() {
    let scene = Scene::new();
    let Some(disk) = Disk::mount(&scene, 8) else { return };
    let settings = "train.microbatches=4 memory.offload=1 memory.offload_folder=disk";
    let outcome = train(&scene, "run", settings);
    fails_for_want_of_space(&outcome);
    for part in ["cannot move activations of unit mb0/slice0", "(memory.offload)", "disk"] {
        assert!(outcome.err.contains(part), "{}", outcome.err);
    }
    assert!(!scene.exists("run"));
    disk.resize(4096);
    assert_eq!(train(&scene, "run", settings).code, Some(0));
    assert!(files(&disk.0).is_empty());
}
