//! A run as a person watches it: a bar in a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use slimpipe::allocator::Bytes;
use slimpipe::train::metrics::StepMetrics;
use slimpipe::train::trainer::Observer;

/// Set when the user asks to end.
static STOP: AtomicBool = AtomicBool::new(false);

/// Watches a run; Ctrl-C ends it after the step in progress.
pub struct Progress {
    bar: ProgressBar,
    lines: bool,
}

impl Progress {
    /// Watches on standard error.
    pub fn new() -> anyhow::Result<Self> {
        ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(130); // asked twice: now
            }
            eprintln!("\nending after this step; once more to end at once");
        })?;
        let lines = !std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len} {eta:>5}  {msg}")?);
        Ok(Self { bar, lines })
    }

    /// Leaves the bar where the run came to.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}

impl Observer for Progress {
    fn begin(&self, done: u64, steps: u64) {
        self.bar.set_length(steps);
        self.bar.set_position(done);
    }

    fn step(&self, m: &StepMetrics) {
        let memory = m.ranks.iter().map(|rank| rank.active_peak_bytes).max().unwrap_or(0);
        let text = format!(
            "loss {:.4}  {:.0} tok/s  MFU {:.1} %  bubble {:.1} %  peak {}",
            m.loss,
            m.tokens_per_second,
            100.0 * m.mfu,
            100.0 * m.bubble_fraction,
            Bytes(memory),
        );
        self.bar.set_position(m.step);
        let len = self.bar.length().unwrap_or(0);
        if self.lines && (m.step <= 3 || m.step.is_multiple_of(10) || m.step == len) {
            eprintln!("step {:>4}/{len}  {text}", m.step);
        }
        self.bar.set_message(text);
    }

    fn should_stop(&self) -> bool {
        STOP.load(Ordering::Relaxed)
    }
}
