//! What is to be trained, with how much.

use super::Model;
use crate::config::Precision;
use crate::{Error, Result};

/// A model, its sequences and the GPUs there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The model.
    pub model: Model,
    /// Tokens in a sequence.
    pub context: u64,
    /// Sequences in a step.
    pub batch: u32,
    /// GPUs.
    pub gpus: u32,
    /// The dtype of weights and activations.
    pub dtype: Precision,
}

/// Tokens of a step, where nobody says how many: 4 M, as in the evaluation of SlimPipe.
const STEP_TOKENS: u64 = 4 << 20;

impl Workload {
    /// `batch` is that of 4 M tokens unless it is given; weights and activations are bf16.
    ///
    /// # Errors
    /// A count of zero or beyond reason.
    pub fn new(model: Model, context: u64, batch: Option<u32>, gpus: u32) -> Result<Self> {
        let batch = batch.unwrap_or_else(|| (STEP_TOKENS / context.max(1)).clamp(1, 65_535) as u32);
        let counts = [
            ("--context", context, 1 << 32),
            ("--batch", u64::from(batch), 65_535),
            ("--gpus", u64::from(gpus), 65_536),
        ];
        for (flag, count, most) in counts {
            if !(1..=most).contains(&count) {
                let what = format!("is {count}; it must be between 1 and {most}");
                return Err(Error::setting(flag, what));
            }
        }
        Ok(Self { model, context, batch, gpus, dtype: Precision::Bf16 })
    }

    /// Reads a number of tokens: `65536`, `64K` or `1M`, in powers of 1,024.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse_context(text: &str) -> Result<u64, String> {
        let (digits, factor) = match text.trim().to_ascii_uppercase() {
            text if text.ends_with('K') => (text[..text.len() - 1].to_owned(), 1 << 10),
            text if text.ends_with('M') => (text[..text.len() - 1].to_owned(), 1 << 20),
            text => (text, 1),
        };
        let number: Option<u64> = digits.parse().ok();
        number.and_then(|number| number.checked_mul(factor)).ok_or_else(|| {
            format!("`{text}` is not a number of tokens; write it as 65536, 64K or 1M")
        })
    }
}
