use std::ops::Range;
use std::sync::Arc;

use super::ScheduleError;

/// How a sequence is cut into slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slices {
    /// Where each slice begins, and where the last one ends.
    bounds: Arc<[usize]>,
}

/// What a token costs in forward, in any unit: only the ratio matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenCost {
    /// Whatever its position: the matrices.
    pub own: f64,
    /// For each earlier token that it attends to.
    pub each_earlier: f64,
}

impl Slices {
    /// `slices` slices of equal length.
    ///
    /// # Errors
    /// The slices do not divide the sequence; the error says which lengths they would.
    pub fn equal(seq_len: usize, slices: u32) -> Result<Self, ScheduleError> {
        let n = slices as usize;
        if n > 0 && seq_len > 0 && seq_len.is_multiple_of(n) {
            let len = seq_len / n;
            return Ok(Self { bounds: (0..=n).map(|slice| slice * len).collect() });
        }
        let n = n.max(1);
        let (below, above) = (seq_len / n * n, seq_len.div_ceil(n).max(1) * n);
        let lengths = if below == 0 { format!("{above}") } else { format!("{below} or {above}") };
        Err(ScheduleError::UnequalSlices { seq_len, slices, lengths })
    }

    /// `slices` slices of equal cost, to a token: with x tokens before its end, a slice's end has
    /// cost a x + b x^2 / 2 (Seq1F1B, arXiv 2406.03488), which is the same share of the whole for
    /// each.
    ///
    /// # Errors
    /// More slices than tokens.
    pub fn balanced(seq_len: usize, slices: u32, cost: TokenCost) -> Result<Self, ScheduleError> {
        let n = slices as usize;
        if n == 0 || seq_len < n {
            return Err(ScheduleError::TooManySlices { seq_len, slices });
        }
        let TokenCost { own: a, each_earlier: b } = cost;
        let total = seq_len as f64;
        let end = |slice: usize| -> usize {
            let share = slice as f64 / n as f64;
            // The root of a x + b x^2 / 2 = share (a s + b s^2 / 2), in a form that b = 0 does not harm.
            let work = share * total * (a + b * total / 2.0);
            let x = 2.0 * work / (a + (a * a + 2.0 * b * work).sqrt());
            // Every slice has a token, whatever the costs.
            (x.round() as usize).clamp(slice, seq_len - (n - slice))
        };
        let mut bounds = vec![0; n + 1];
        for slice in 1..=n {
            bounds[slice] = end(slice).max(bounds[slice - 1] + 1);
        }
        Ok(Self { bounds: bounds.into() })
    }

    /// Tokens in the sequence.
    pub fn seq_len(&self) -> usize {
        self.bounds[self.bounds.len() - 1]
    }

    /// Number of slices.
    pub fn count(&self) -> u32 {
        self.bounds.len() as u32 - 1
    }

    /// The positions of slice `slice`.
    ///
    /// # Panics
    /// There is no such slice.
    pub fn range(&self, slice: u32) -> Range<usize> {
        let slice = slice as usize;
        self.bounds[slice]..self.bounds[slice + 1]
    }

    /// The lengths of all slices, in order.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.bounds.windows(2).map(|ends| ends[1] - ends[0])
    }

    /// Tokens in the shortest slice and in the longest.
    pub fn extremes(&self) -> (usize, usize) {
        let (shortest, longest) = (self.lengths().min(), self.lengths().max());
        (shortest.unwrap_or(0), longest.unwrap_or(0))
    }
}
