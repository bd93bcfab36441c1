//! The command in a working directory of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use slimpipe::train::metrics::{self, StepMetrics};
use tempfile::TempDir;

/// A model of four layers on two ranks, four slices, a few steps.
const TINY: &str = r#"
[model]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 4
num_attention_heads = 2
num_key_value_heads = 1
[data]
paths = ["text.txt"]
[train]
seq_len = 32
steps = 4
warmup_steps = 2
[parallel]
pipeline = 2
slices = 4
"#;

/// A working directory that holds `tiny.toml` and `text.txt`.
pub struct Scene {
    dir: TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        scene.write("tiny.toml", TINY);
        scene.write("text.txt", "What is sliced is soon forgotten. ".repeat(60));
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn metrics(&self, run: &str) -> Vec<StepMetrics> {
        metrics::read(&self.path(run).join("metrics.jsonl")).unwrap()
    }

    /// Copies a folder with all that is in it.
    pub fn copy(&self, from: &str, to: &str) {
        for name in files(&self.path(from)) {
            self.write(&format!("{to}/{name}"), self.read(&format!("{from}/{name}")));
        }
    }

    /// `slimpipe` with the arguments `words`, to be run here.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slimpipe"));
        command.args(words.split_whitespace()).current_dir(self.dir.path());
        command
    }

    /// Runs `slimpipe` with the arguments `words`, which are divided at spaces.
    pub fn run(&self, words: &str) -> Outcome {
        Outcome::of(self.command(words).output().unwrap())
    }

    /// Begins a command that runs meanwhile.
    pub fn spawn(&self, words: &str) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a command that is to succeed, and gives what it printed.
    pub fn succeed(&self, words: &str) -> String {
        let outcome = self.run(words);
        assert_eq!(outcome.code, Some(0), "{words}: {}", outcome.err);
        outcome.out
    }

    /// Trains the tiny model into the folder `run`, with `--set` before each of `settings`.
    pub fn train(&self, run: &str, settings: &str) -> String {
        self.succeed(&format!("train --config tiny.toml --out {run} {}", set(settings)))
    }

    /// Trains under every one of `layouts` (a name and its settings) with the settings `more` too, and
    /// expects losses and clipped gradient norms of all to be those of the first, tied or not.
    pub fn expect_the_same_training(&self, layouts: &[(&str, &str)], more: &str) {
        for tied in [false, true] {
            let run = |name: &str| format!("{name}-{tied}");
            for (name, layout) in layouts {
                // So small a norm that every step is clipped.
                let recipe = "train.clip_norm=0.05 train.lr=0.01 train.steps=6";
                let settings = format!("{recipe} model.tie_word_embeddings={tied} {more} {layout}");
                self.train(&run(name), &settings);
            }
            let expected = self.metrics(&run(layouts[0].0));
            for (name, _) in &layouts[1..] {
                for (step, expected) in self.metrics(&run(name)).into_iter().zip(&expected) {
                    assert!(expected.grad_norm > 0.05);
                    for (found, expected) in
                        [(step.loss, expected.loss), (step.grad_norm, expected.grad_norm)]
                    {
                        let off = (found / expected - 1.0).abs();
                        assert!(off < 1e-5, "{name}, tied {tied}, step {}: {off:.1e}", step.step);
                    }
                }
            }
        }
    }

    /// Runs a command that is to be refused: exit code 2, one paragraph that has all of `expected`,
    /// and not a file more, less or changed.
    pub fn refuse(&self, words: &str, expected: &[&str]) {
        let before = self.contents();
        let Outcome { code, err, .. } = self.run(words);
        assert_eq!(code, Some(2), "{words}: {err}");
        assert!(err.starts_with("error: "), "{words}: {err}");
        assert!(!err.trim_end().contains("\n\n") && !err.contains("panicked"), "{words}: {err}");
        for expected in expected {
            assert!(err.contains(expected), "{words}: no {expected:?} in: {err}");
        }
        assert_eq!(err.matches("os error").count().max(1), 1, "{words}: said twice: {err}");
        let after = self.contents();
        let changed: Vec<_> = before.symmetric_difference(&after).map(|(name, _)| name).collect();
        assert!(changed.is_empty(), "{words} left or changed {changed:?}");
    }

    /// As [`Scene::refuse`], for `train` with the tiny model and `settings`.
    pub fn refuse_settings(&self, settings: &str, expected: &[&str]) {
        self.refuse(&format!("train --config tiny.toml --out new/run {}", set(settings)), expected);
    }

    /// Every file and folder, with its bytes.
    fn contents(&self) -> BTreeSet<(String, Option<Vec<u8>>)> {
        let name = |path: &Path| path.strip_prefix(self.dir.path()).unwrap().display().to_string();
        walk(self.dir.path()).into_iter().map(|path| (name(&path), fs::read(&path).ok())).collect()
    }
}

impl Outcome {
    fn of(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What a command came to that was begun before.
    pub fn wait(child: Child) -> Self {
        Self::of(child.wait_with_output().unwrap())
    }
}

/// `--set` before every word.
pub fn set(settings: &str) -> String {
    settings.split_whitespace().map(|setting| format!("--set {setting} ")).collect()
}

/// The names of all files in a folder and its subfolders.
pub fn files(folder: &Path) -> Vec<String> {
    let name = |path: &PathBuf| path.strip_prefix(folder).unwrap().display().to_string();
    walk(folder).iter().filter(|path| path.is_file()).map(name).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}
