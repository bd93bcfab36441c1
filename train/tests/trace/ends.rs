//! Runs that end badly leave whole logs, and say where.

use slimpipe_train::data::Tokens;
use slimpipe_train::run::RunDir;
use slimpipe_train::trace::{Summary, logs};
use slimpipe_train::trainer::{Observer, Output, train};
use slimpipe_train::{Config, metrics::StepMetrics};
use tempfile::TempDir;

const SETTINGS: &str = "
[model]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
[train]
seq_len = 32
steps = 3
[parallel]
pipeline = 2
slices = 2
";

/// Panics on rank 0 when a step is finished, or before.
struct Panics {
    before: bool,
}

impl Observer for Panics {
    fn begin(&self, _: u64, _: u64) {
        assert!(!self.before, "a mistake of the observer");
    }

    fn step(&self, _: &StepMetrics) {
        panic!("a mistake of the observer");
    }
}

#[test]
fn a_panic_leaves_every_ranks_log_whole_and_the_error_names_them() {
    for before in [true, false] {
        let folder = TempDir::new().unwrap();
        let text = folder.path().join("text.txt");
        std::fs::write(&text, "What is sliced is soon forgotten. ".repeat(60)).unwrap();
        let job = Config::parse(SETTINGS, &[]).unwrap().resolve().unwrap();
        let tokens = Tokens::open(&[text], None).unwrap();
        let run = RunDir::create(Some(&folder.path().join("run"))).unwrap();
        let output = Output { run: run.clone(), resume: false };
        let error =
            train(&job, &tokens, Some(&output), &Panics { before }).unwrap_err().to_string();
        let named = format!("slimpipe trace summary {}", run.memory_events().display());
        assert!(error.contains("a mistake of the observer") && error.contains(&named), "{error}");
        let logs = logs(run.path()).unwrap();
        assert_eq!(logs.len(), 2);
        for log in logs {
            let summary = Summary::of(&log).unwrap();
            // All that was live was given back as the ranks ended, and told.
            assert_eq!((summary.cut_at, summary.live_at_end), (None, 0));
            assert!(summary.active_peak > 0);
            // Other ranks may be further than the one that panicked.
            assert!(summary.rank > 0 || summary.steps.is_empty() == before);
        }
        assert_eq!(run.metrics().exists(), !before);
    }
}
