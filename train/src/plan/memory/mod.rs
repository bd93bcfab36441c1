//! What a GPU holds when it holds most, in closed form.

mod paper;
pub mod runtime;
mod walk;

use std::fmt;
use std::str::FromStr;

use super::{Setup, Workload};
use crate::Result;

/// Bytes on the GPU that holds most, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Parameters and their gradients.
    pub params_grads: f64,
    /// Moments and master weights.
    pub optimizer: f64,
    /// What forwards keep for backwards.
    pub activations: f64,
    /// What the loss keeps or needs of logits.
    pub logits: f64,
    /// What one unit needs while it runs: what is computed again, temporaries, messages.
    pub recompute: f64,
    /// Keys and values that stay although their activations do not.
    pub kv_cache: f64,
    /// Gradients of keys and values.
    pub kv_grad: f64,
    /// All of it together.
    pub peak: f64,
}

/// Bytes of a GiB.
pub const GIB: f64 = (1u64 << 30) as f64;

impl Memory {
    /// With the sum of all terms as their peak.
    fn sum(self) -> Self {
        let parts = Self { peak: 0.0, ..self };
        Self { peak: parts.terms().iter().map(|(_, bytes)| bytes).sum(), ..self }
    }

    /// Weights, gradients and optimizer: what no shorter sequence makes less.
    pub fn fixed(&self) -> f64 {
        self.params_grads + self.optimizer
    }

    /// The terms by name, and last their peak.
    pub fn terms(&self) -> [(&'static str, f64); 8] {
        [
            ("params_grads", self.params_grads),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("logits", self.logits),
            ("recompute", self.recompute),
            ("kv_cache", self.kv_cache),
            ("kv_grad", self.kv_grad),
            ("peak", self.peak),
        ]
    }
}

/// Whose memory is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accounting {
    /// What this runtime holds.
    #[default]
    Runtime,
    /// What the planner of SlimPipe's authors counts, whose figures are published with their
    /// implementation: gradients of keys and values with all heads and in the dtype of the model, one
    /// table of the vocabulary, logits kept for a whole microbatch, no temporaries but what is
    /// computed again.
    Paper,
}

impl FromStr for Accounting {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "runtime" => Ok(Self::Runtime),
            "paper" => Ok(Self::Paper),
            _ => Err(format!("`{name}` is neither `runtime` nor `paper`")),
        }
    }
}

impl fmt::Display for Accounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runtime => "runtime",
            Self::Paper => "paper",
        })
    }
}

impl Accounting {
    /// What `setup` holds.
    ///
    /// # Errors
    /// Something that this accounting does not know.
    pub fn memory(self, work: &Workload, setup: &Setup) -> Result<Memory> {
        match self {
            Self::Runtime => runtime::memory(work, setup),
            Self::Paper => paper::memory(work, setup),
        }
    }
}
