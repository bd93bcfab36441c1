//! Bugs planted in the texts of tensor-core kernels.

use crate::gpu::gpu;
use crate::planted::{Mutant, assert_caught, mutant};

const PRODUCT: &str = "gemm::a_product_of_ragged_sizes_is_right";
const TURNED: &str = "gemm::products_with_either_operand_turned_are_right";
const ADDED: &str = "gemm::a_gradient_is_added_to_what_is_there";
const FORWARD: &str = "attention::queries_attend_to_ragged_chunks_with_a_causal_end";
const BACKWARD: &str = "attention::gradients_over_ragged_chunks_with_a_causal_end";
const GROUPS: &str = "attention::small_heads_in_groups_with_rows_apart";
const MERGED: &str = "attention::partial_results_are_merged";
const BLIND: &str = "attention::queries_that_see_nothing_get_zero";
const TABLES: &str = "attention::long_lists_go_as_parameters_and_longer_ones_as_a_table";
const HIDDEN: &str = "mlp_swiglu::the_hidden_layer_is_right";
const GRADIENTS: &str = "mlp_swiglu::the_gradients_of_gate_and_up_are_right";
const MANY: &str = "mlp_swiglu::a_block_computes_many_tiles_of_a_hidden_layer_one_after_the_other";

const FWD: &str = "sm90_bf16_attention_fwd.cu";
const BWD_Q: &str = "sm90_bf16_attention_bwd_q.cu";
const BWD_KV: &str = "sm90_bf16_attention_bwd_kv.cu";
const PREPARE: &str = "sm90_bf16_attention_bwd_prepare.cu";
const MLP_FWD: &str = "sm90_bf16_mlp_swiglu_fwd.cu";
const MLP_BWD: &str = "sm90_bf16_mlp_swiglu_bwd.cu";

const MUTANTS: &[Mutant] = &[
    // The ring of stages.
    mutant(
        "a consumer does not wait for its stage",
        "tile/ring.cuh",
        "mbarrier::wait(shared_address(&full[at.stage]), at.phase);",
        "",
        PRODUCT,
    ),
    mutant(
        "the producer does not wait for an empty stage",
        "tile/ring.cuh",
        "mbarrier::wait(shared_address(&empty[at.stage]), at.phase ^ 1);",
        "",
        BACKWARD,
    ),
    mutant(
        "the producer waits for the wrong parity",
        "tile/ring.cuh",
        "at.phase ^ 1",
        "at.phase",
        PRODUCT,
    ),
    mutant("phases do not alternate", "tile/ring.cuh", "phase ^= 1;", "", BACKWARD),
    mutant(
        "a stage is empty when half of the warps say so",
        "tile/ring.cuh",
        "consumer_warps);",
        "consumer_warps / 2);",
        BACKWARD,
    ),
    // Products.
    mutant(
        "fewer bytes are announced than come",
        "sm90_bf16_gemm.cu",
        "ring.acquire(at, STAGE)",
        "ring.acquire(at, STAGE - 128)",
        PRODUCT,
    ),
    mutant(
        "more bytes are announced than come",
        "sm90_bf16_gemm.cu",
        "ring.acquire(at, STAGE)",
        "ring.acquire(at, STAGE + 128)",
        PRODUCT,
    ),
    mutant(
        "a stage is given back while it is multiplied",
        "tile/product.cuh",
        "if (k > 0) ring.release(previous);",
        "ring.release(at);",
        PRODUCT,
    ),
    mutant(
        "the last product is not waited for",
        "tile/product.cuh",
        "  wgmma::wait<0>();\n",
        "",
        PRODUCT,
    ),
    mutant(
        "sums begin with what registers hold",
        "tile/product.cuh",
        "(k | step) != 0",
        "true",
        PRODUCT,
    ),
    mutant(
        "sums begin anew with each stage",
        "tile/product.cuh",
        "(k | step) != 0",
        "step != 0",
        PRODUCT,
    ),
    mutant(
        "rows of eight lie too close in a descriptor",
        "tile/panels.cuh",
        "step % 4 * 32, 1024, 0)",
        "step % 4 * 32, 512, 0)",
        PRODUCT,
    ),
    mutant(
        "panels lie too close in a descriptor",
        "tile/panels.cuh",
        "step * 2048, 1024, PANEL)",
        "step * 2048, 1024, PANEL / 2)",
        TURNED,
    ),
    mutant(
        "a step along a row is half as long",
        "tile/panels.cuh",
        "step % 4 * 32",
        "step % 4 * 16",
        PRODUCT,
    ),
    mutant(
        "a panel is loaded where the one before begins",
        "tile/panels.cuh",
        "x + i * 64, y, z",
        "x, y, z",
        TURNED,
    ),
    mutant(
        "tiles of the last band are counted from the wrong row",
        "tile/tile_order.cuh",
        "within -= first * columns;",
        "within -= first;",
        "gemm::a_block_computes_many_tiles_one_after_the_other",
    ),
    mutant(
        "one column too many is written",
        "sm90_bf16_gemm.cu",
        "c >= args.n",
        "c > args.n",
        "gemm::rows_that_are_no_whole_sixteen_bytes_are_written_and_not_beyond",
    ),
    mutant(
        "a gradient overwrites what is there",
        "tile/staging.cuh",
        "if (ADD)",
        "if (false)",
        ADDED,
    ),
    // The way out.
    mutant(
        "stores read what threads wrote without a fence",
        "tile/staging.cuh",
        "    fence::async_proxy();\n",
        "",
        PRODUCT,
    ),
    mutant(
        "a piece is stored before all have written it",
        "tile/staging.cuh",
        "    fence::async_proxy();\n    barrier::sync(barrier, 128);",
        "    fence::async_proxy();",
        PRODUCT,
    ),
    mutant(
        "a piece is written while it is stored",
        "tile/staging.cuh",
        "if (threadIdx.x % 128 == 0) tma::wait_read<1>();",
        "",
        PRODUCT,
    ),
    mutant("the buffers do not alternate", "tile/staging.cuh", "current ^= 1;", "", PRODUCT),
    mutant(
        "pieces are not swizzled",
        "tile/staging.cuh",
        "(sixteenth ^ row % 8)",
        "sixteenth",
        PRODUCT,
    ),
    // Attention forward.
    mutant(
        "a query does not see its own position",
        FWD,
        "position + 1 - block.position",
        "position - block.position",
        FORWARD,
    ),
    mutant(
        "rows beyond a chunk's end count",
        FWD,
        "mask_columns(s, min(end, rows), min(end + 8, rows));",
        "mask_columns(s, end, end + 8);",
        FORWARD,
    ),
    mutant(
        "a thread's second row is masked as its first",
        FWD,
        "min(end + 8, rows)",
        "min(end, rows)",
        FORWARD,
    ),
    mutant(
        "what was summed before is not rescaled",
        FWD,
        "o[i] *= decay[i % 4 / 2];",
        ";",
        FORWARD,
    ),
    mutant(
        "the sum of before is not rescaled",
        "tile/softmax.cuh",
        "sum[half] * decay[half] + added",
        "sum[half] + added",
        FORWARD,
    ),
    mutant(
        "the maximum is that of a thread's columns",
        "tile/softmax.cuh",
        "fmaxf(max[half], row_max(top))",
        "fmaxf(max[half], top)",
        FORWARD,
    ),
    mutant(
        "values are multiplied before they are there",
        FWD,
        "      shared.v.wait(v_at);\n",
        "",
        FORWARD,
    ),
    mutant(
        "scores are read before they are computed",
        FWD,
        "      turns.end();\n      wgmma::wait<1>();\n",
        "      turns.end();\n",
        FORWARD,
    ),
    mutant(
        "probabilities change while they are multiplied",
        FWD,
        "      wgmma::wait<0>();\n      shared.v.release(v_at);\n      v_at.advance();",
        "      shared.v.release(v_at);\n      v_at.advance();",
        FORWARD,
    ),
    mutant("a consumer never calls the next one", FWD, "      turns.end();\n", "", FORWARD),
    mutant("the last call is not answered", FWD, "    turns.finish();\n", "", FORWARD),
    mutant(
        "queries are used before they are there",
        FWD,
        "  mbarrier::wait(shared_address(&shared.q_full), 0);\n",
        "",
        FORWARD,
    ),
    mutant(
        "every block is a chunk's first",
        FWD,
        "chunks.k(block.chunk), bar, 0, kv_head, block.first",
        "chunks.k(block.chunk), bar, 0, kv_head, 0",
        FORWARD,
    ),
    mutant(
        "a chunk's position is that of the one before",
        "tile/chunks.cuh",
        "      position = span.start;\n",
        "",
        FORWARD,
    ),
    mutant(
        "keys come from the head of the query's number",
        FWD,
        "int kv_head = head / args.group;",
        "int kv_head = head % args.group;",
        GROUPS,
    ),
    mutant(
        "a merged result counts the old one in full",
        FWD,
        "old_factor = exp2_approx(old - total);",
        "old_factor = 1.0f;",
        MERGED,
    ),
    mutant(
        "the old log-sum-exp is taken to base 2",
        FWD,
        "float old = *lse * LOG2_E,",
        "float old = *lse,",
        MERGED,
    ),
    mutant(
        "a row that sees nothing subtracts infinities",
        "tile/softmax.cuh",
        "top == NEG_INF ? 0.0f : top * scale",
        "top * scale",
        BLIND,
    ),
    mutant(
        "values' maps are looked for among those of keys",
        "tile/chunks.cuh",
        "map(count + chunk)",
        "map(chunk)",
        TABLES,
    ),
    // Attention backward.
    mutant(
        "rows' statistics are those of another head",
        PREPARE,
        "(long long)head * args.q_len + row",
        "row",
        BACKWARD,
    ),
    mutant(
        "the rows that fill up a block have no statistics",
        PREPARE,
        "if (lane == 0)",
        "if (lane == 0 && row < args.q_len)",
        GROUPS,
    ),
    mutant("delta is not subtracted", BWD_Q, "dp[i] - delta[i % 4 / 2]", "dp[i]", BACKWARD),
    mutant(
        "the gradient of scores is read before it is computed",
        BWD_Q,
        "    wgmma::wait<0>();\n#pragma unroll\n    for (int i = 0; i < KEYS / 2; ++i) s[i] *=",
        "#pragma unroll\n    for (int i = 0; i < KEYS / 2; ++i) s[i] *=",
        BACKWARD,
    ),
    mutant("the queries' gradient is not scaled", BWD_Q, "dq[i] *= args.scale;", ";", BACKWARD),
    mutant("queries before a key see it", BWD_KV, "s[i] = NEG_INF;", ";", BACKWARD),
    mutant(
        "the walk over queries begins one block late",
        BWD_KV,
        "/ QUERIES * QUERIES;",
        "/ QUERIES * QUERIES + QUERIES;",
        BACKWARD,
    ),
    mutant(
        "the statistics' bytes are not announced",
        BWD_KV,
        "2 * Q::BYTES + 2 * STATS)",
        "2 * Q::BYTES)",
        BACKWARD,
    ),
    mutant(
        "sums of keys are overwritten",
        BWD_KV,
        "sum.x += grad[i] * factor;",
        "sum.x = grad[i] * factor;",
        BACKWARD,
    ),
    mutant(
        "rows beyond a chunk's end are added to",
        BWD_KV,
        "    if (r >= keys.rows) continue;\n",
        "",
        BACKWARD,
    ),
    mutant(
        "a block of queries is given back while it is multiplied",
        BWD_KV,
        "      add_queries(dk, ds, q);\n      wgmma::wait<0>();\n      shared.ring.release(at);",
        "      shared.ring.release(at);\n      add_queries(dk, ds, q);\n      wgmma::wait<0>();",
        BACKWARD,
    ),
    // The MLP.
    mutant(
        "gate and up change places",
        MLP_FWD,
        "Half::load(b + Half::BYTES, &args.up_weight",
        "Half::load(b + Half::BYTES, &args.gate_weight",
        HIDDEN,
    ),
    mutant(
        "silu is a sigmoid",
        MLP_FWD,
        "sums[i] *= sigmoid(sums[i])",
        "sums[i] = sigmoid(sums[i])",
        HIDDEN,
    ),
    mutant(
        "the derivative of silu lacks a term",
        MLP_BWD,
        "(1.0f + g[i] * (1.0f - s))",
        "1.0f",
        GRADIENTS,
    ),
    mutant(
        "gate and up are read before they are there",
        MLP_BWD,
        "    mbarrier::wait(inputs, phase);\n",
        "",
        GRADIENTS,
    ),
    mutant(
        "gate and up come while gradients leave their places",
        MLP_BWD,
        "  tma::wait_read<0>();\n  mbarrier",
        "  mbarrier",
        MANY,
    ),
];

#[test]
fn every_planted_bug_is_caught() {
    // A planted bug may hang a GPU.
    if gpu().is_none_or(|gpu| gpu.is_mock()) {
        assert_caught(MUTANTS);
    }
}
