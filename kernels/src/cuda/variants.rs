//! All kernels.

use super::compile::Variant;
use super::{
    adamw, convert, elementwise, embedding, loss, merge_attention, norm, plain_attention,
    plain_gemm, random, reduce, rope, softmax, strided, swiglu, unary, vocabulary,
};

/// Every variant that operations launch, for warming the cache and for the static gates.
pub fn variants() -> Vec<Variant> {
    let launchers: [fn() -> Vec<Variant>; 17] = [
        adamw::variants,
        convert::variants,
        elementwise::variants,
        embedding::variants,
        loss::variants,
        merge_attention::variants,
        norm::variants,
        plain_attention::variants,
        plain_gemm::variants,
        random::variants,
        reduce::variants,
        rope::variants,
        softmax::variants,
        strided::variants,
        swiglu::variants,
        unary::variants,
        vocabulary::variants,
    ];
    launchers.into_iter().flat_map(|variants| variants()).collect()
}
