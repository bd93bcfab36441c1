//! All kernels.

use super::compile::Variant;
use super::{
    adamw, attention, convert, elementwise, embedding, gemm, loss, merge_attention, mlp_swiglu,
    norm, plain_attention, plain_gemm, random, reduce, rope, softmax, strided, swiglu, table,
    unary, vocabulary,
};

/// Every variant that operations launch, for warming the cache and for the static gates.
pub fn variants() -> Vec<Variant> {
    let launchers: [fn() -> Vec<Variant>; 21] = [
        adamw::variants,
        attention::variants,
        convert::variants,
        elementwise::variants,
        embedding::variants,
        gemm::variants,
        loss::variants,
        merge_attention::variants,
        mlp_swiglu::variants,
        norm::variants,
        plain_attention::variants,
        plain_gemm::variants,
        random::variants,
        reduce::variants,
        rope::variants,
        softmax::variants,
        strided::variants,
        swiglu::variants,
        table::variants,
        unary::variants,
        vocabulary::variants,
    ];
    launchers.into_iter().flat_map(|variants| variants()).collect()
}
