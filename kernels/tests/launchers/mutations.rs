//! Bugs planted in the texts of kernels on plain cores.

use super::planted::{Mutant, assert_caught, mutant};
use super::util::gpu;

const NORMS: &str = "norm::more_rows_than_blocks_and_rows_wider_than_a_warp_match";
const ROTATIONS: &str = "rope::heads_are_turned_by_their_positions_and_back";
const WIDE_HEADS: &str = "rope::heads_of_more_pairs_than_a_warp_has_threads_are_turned";
const LOSSES: &str = "loss::losses_and_gradients_match_for_any_vocabulary_and_alignment";
const WIDE: &str = "loss::a_vocabulary_wider_than_a_pass_of_all_threads_matches";
const OUTSIDE: &str = "loss::a_label_outside_the_vocabulary_gives_nan";
const PARTS: &str = "vocabulary::parts_come_to_the_loss_and_gradient_of_the_whole";
const STEPS: &str = "adamw::many_parameters_take_steps_of_the_cpus_bits";
const EMBEDDED: &str =
    "embedding::one_id_in_more_rows_than_a_block_has_threads_and_wide_rows_match";
const MISSING: &str = "embedding::an_id_outside_the_table_gives_nan_and_counts_for_nothing";
const SUMS: &str = "reduce::sums_over_any_dimensions_match";
const SOFTMAX: &str = "softmax::rows_of_any_width_and_alignment_match";
const ATTENTION: &str =
    "attention::results_and_gradients_match_over_chunks_heads_offsets_and_strides";
const PRODUCTS: &str = "gemm::products_of_any_strides_and_batches_match";

const RMS: &str = "sm90_float_rms_norm.cu";
const LAYER: &str = "sm90_float_layer_norm.cu";
const ROPE: &str = "sm90_float_rope.cu";
const LOSS: &str = "sm90_float_cross_entropy.cu";
const VOCABULARY: &str = "sm90_float_vocabulary.cu";
const ADAMW: &str = "sm90_f32_adamw.cu";
const SCATTER: &str = "sm90_float_scatter_add.cu";
const ATTENTION_FWD: &str = "sm90_float_attention_fwd.cu";
const ATTENTION_BWD: &str = "sm90_float_attention_bwd.cu";
const GEMM: &str = "sm90_float_gemm.cu";

const MUTANTS: &[Mutant] = &[
    // Rows.
    mutant("squares are not averaged", RMS, "row_sum(squares) / width", "row_sum(squares)", NORMS),
    mutant(
        "a row's scale does not move with its elements",
        RMS,
        "r * d[k] * w[k] - pull * in[k]",
        "r * d[k] * w[k]",
        NORMS,
    ),
    mutant("a mean is not taken off", LAYER, "(in[k] - s.mean) * s.r", "in[k] * s.r", NORMS),
    mutant(
        "a sum is read before all warps have written theirs",
        "tile/row.cuh",
        "  __syncthreads();\n  value = warps[0];",
        "  value = warps[0];",
        NORMS,
    ),
    mutant(
        "a sum is written while warps read the one before",
        "tile/row.cuh",
        "  __syncthreads();  // nobody reads what the last call left\n",
        "",
        NORMS,
    ),
    mutant(
        "rows overwrite each other's sums of columns",
        "tile/column_sums.cuh",
        "old[k] + f(k)",
        "f(k)",
        NORMS,
    ),
    mutant(
        "exponentials so far are not scaled to a larger maximum",
        "tile/sum_exp.cuh",
        "    sum *= expf(max - base(top));\n",
        "",
        WIDE,
    ),
    mutant(
        "a gradient of softmax is not centred",
        "sm90_float_softmax.cu",
        "(d[k] - dot)",
        "d[k]",
        SOFTMAX,
    ),
    mutant(
        "columns are added up before all terms are there",
        "sm90_float_sum.cu",
        "  __syncthreads();\n  if (threadIdx.y > 0",
        "  if (threadIdx.y > 0",
        SUMS,
    ),
    // Positions.
    mutant(
        "a slice's first position is taken off instead of added",
        ROPE,
        "c[k] * base_c - s[k] * base_s",
        "c[k] * base_c + s[k] * base_s",
        ROTATIONS,
    ),
    mutant(
        "the first row's angles are read before they are there",
        ROPE,
        "  __syncthreads();\n",
        "",
        WIDE_HEADS,
    ),
    mutant("the way back turns on", ROPE, "sign * (", "(", ROTATIONS),
    // Losses.
    mutant(
        "the label's probability counts as any other",
        "tile/labels.cuh",
        "(i64)i + k == label ? p - scale : p",
        "p",
        LOSSES,
    ),
    mutant(
        "a label's logit is read when its gradient lies over it",
        LOSS,
        "  if (threadIdx.x == 0) losses[row] = all.max + logf(all.sum) - own;\n  write_gradient<N>(z, all, label, scale, vocab, packed, gradient);",
        "  write_gradient<N>(z, all, label, scale, vocab, packed, gradient);\n  if (threadIdx.x == 0) losses[row] = all.max + logf(all.sum) - z[label];",
        LOSSES,
    ),
    mutant(
        "a label is not compared with the vocabulary",
        LOSS,
        "0 <= label && label < vocab",
        "true",
        OUTSIDE,
    ),
    mutant(
        "labels of a part are counted from the whole vocabulary's start",
        VOCABULARY,
        "write_gradient<N>(z, all, label - first,",
        "write_gradient<N>(z, all, label,",
        PARTS,
    ),
    mutant(
        "parts' sums are added whatever their maxima",
        VOCABULARY,
        "part.sum * exp((f64)(part.max - max))",
        "part.sum",
        PARTS,
    ),
    // The optimizer.
    mutant("a gradient counts in full", ADAMW, "__fmul_rn(rest1, grad)", "grad", STEPS),
    mutant("weights do not decay", ADAMW, "__fmul_rn(w[k], p.decay)", "w[k]", STEPS),
    mutant(
        "gradients are not clipped",
        ADAMW,
        "clip ? __fmul_rn(s.grad_scale, *clip) : s.grad_scale",
        "s.grad_scale",
        STEPS,
    ),
    // Embeddings.
    mutant(
        "each row with an id adds them all",
        SCATTER,
        "if (any(row < own && ids[row] == id)) return;",
        "",
        EMBEDDED,
    ),
    mutant(
        "rows that were found are read before all are noted",
        SCATTER,
        "lanes;\n    __syncthreads();\n",
        "lanes;\n",
        EMBEDDED,
    ),
    mutant(
        "one id too many is looked up",
        "sm90_any_gather.cu",
        "id < vocab",
        "id <= vocab",
        MISSING,
    ),
    // Attention and products.
    mutant(
        "a query does not see its own position",
        ATTENTION_FWD,
        "<= position + row",
        "< position + row",
        ATTENTION,
    ),
    mutant(
        "keys are overwritten while they are multiplied",
        ATTENTION_FWD,
        "      __syncthreads();  // the last tiles were used\n",
        "",
        ATTENTION,
    ),
    mutant("a row's delta is not subtracted", ATTENTION_BWD, "(dp - delta)", "dp", ATTENTION),
    mutant(
        "gradients of keys overwrite",
        ATTENTION_BWD,
        "chunk.dk[at + column] += value",
        "chunk.dk[at + column] = value",
        ATTENTION,
    ),
    mutant(
        "the last step reads beyond the operands",
        GEMM,
        "line < lines && step < steps",
        "line < lines",
        PRODUCTS,
    ),
    mutant(
        "tiles are overwritten while they are multiplied",
        GEMM,
        "      __syncthreads();\n    }\n    OUT* to",
        "    }\n    OUT* to",
        PRODUCTS,
    ),
];

#[test]
fn every_planted_bug_is_caught() {
    // A planted bug may hang a GPU. The lock goes before the mutants, which run other processes.
    let is_mock = gpu().is_none_or(|gpu| gpu.mock.is_some());
    if is_mock {
        assert_caught(MUTANTS);
    }
}
