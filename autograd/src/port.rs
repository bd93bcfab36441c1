//! Attention that others may take part in.
//!
//! A slice's attention is a sum over keys, so parts of it can be computed elsewhere, in forward and
//! in backward. Who wants that gives the [`KvCache`](crate::KvCache) a port, and every attention
//! over the cache goes through it. Without one nothing changes.

use slimpipe_ops::attention::{Chunk, GradRows};
use slimpipe_runtime::RawTensor;

use crate::Result;

/// What the attention of a slice in one layer reads.
#[derive(Clone, Copy)]
pub struct AttentionCall<'a> {
    /// Queries, [rows, heads, head_dim].
    pub q: &'a RawTensor,
    /// Keys and values of all slices up to this one, oldest first.
    pub chunks: &'a [Chunk<'a>],
    /// What scores are multiplied by.
    pub scale: f32,
    /// Position of the first row of `q`.
    pub offset: usize,
}

/// What attention gives, and its backward needs.
#[derive(Clone, Copy)]
pub struct AttentionResult<'a> {
    /// The output, shaped like the queries.
    pub out: &'a RawTensor,
    /// The natural log-sum-exp of the scaled scores, [heads, rows] (f32).
    pub lse: &'a RawTensor,
    /// The gradient of the output.
    pub grad: &'a RawTensor,
}

/// Computes attention in place of [`slimpipe_ops::attention`], with the same results up to rounding.
///
/// It must allocate what [`attend`](slimpipe_ops::attention::attend) and
/// [`attend_backward`](slimpipe_ops::attention::attend_backward) allocate, in the same order, for
/// that is what the unit's plan knows; anything else outside the plan.
pub trait AttentionPort: Send + Sync {
    /// Output and log-sum-exp, as [`attend`](slimpipe_ops::attention::attend).
    ///
    /// # Errors
    /// Whatever the computation or the others meet.
    fn forward(&self, call: &AttentionCall<'_>) -> Result<(RawTensor, RawTensor)>;

    /// The gradient of the queries; those of keys and values are added to `grads`, one per chunk, as
    /// [`attend_backward`](slimpipe_ops::attention::attend_backward).
    ///
    /// # Errors
    /// Whatever the computation or the others meet.
    fn backward(
        &self,
        call: &AttentionCall<'_>,
        result: &AttentionResult<'_>,
        grads: &mut [GradRows<'_>],
    ) -> Result<RawTensor>;
}
