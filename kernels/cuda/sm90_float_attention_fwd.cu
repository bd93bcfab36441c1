// Attention over a list of chunks of keys and values: out = softmax(scale q k^T) v and the natural
// log-sum-exp of the scores, on plain cores. FLOAT: f32 or bf16. HEAD_DIM, TILE: see
// tile/plain_attention.cuh.
#include "tile/attention_merge.cuh"
#include "tile/plain_attention.cuh"

// Blocks along x are tiles of queries, the last first, for they see most; along y heads. `out`
// [rows] has rows `out_stride` apart, `lse` is [heads, rows]. With `merge` both hold a result over
// other keys, and end as that over all.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_fwd(const FLOAT* q, u64 q_stride, const __grid_constant__ Queries queries,
                  const __grid_constant__ Chunks chunks, FLOAT* out, u64 out_stride, f32* lse,
                  bool merge) {
  Shared shared;
  Tile tile_q = shared.tile(), tile_k = shared.tile(), tile_v = shared.tile();
  Square tile_p = shared.square();
  u32 first = (gridDim.x - 1 - blockIdx.x) * TILE, head = blockIdx.y,
      kv_head = head / queries.group();
  u32 count = min((u32)TILE, queries.rows - first);
  u32 position = queries.offset + first, last = position + count - 1;
  tile_q.load(q + first * q_stride + head * HEAD_DIM, q_stride, count);

  // To base 2.
  f32 scale = queries.scale * LOG2_E, max[OWN], sum[OWN];
  Lines sums;
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    max[i] = -infinity();
    sum[i] = 0.0f;
  }
  for (u32 c = 0; c < chunks.count; ++c) {
    const Chunk& chunk = chunks.list[c];
    if (chunk.start > last) continue;
    u32 visible = min(chunk.len, last - chunk.start + 1);
    for (u32 key = 0; key < visible; key += TILE) {
      u32 keys = min((u32)TILE, visible - key);
      __syncthreads();  // the last tiles were used
      tile_k.load(chunk.k + key * chunk.k_stride + kv_head * HEAD_DIM, chunk.k_stride, keys);
      tile_v.load(chunk.v + key * chunk.v_stride + kv_head * HEAD_DIM, chunk.v_stride, keys);
      __syncthreads();
      f32 p[OWN][OWN];
      multiply(tile_q, tile_k, p);
#pragma unroll
      for (int i = 0; i < OWN; ++i) {
        u32 row = own_y() * OWN + i;
        f32 top = max[i];
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
          u32 column = own_x() + SIDE * j;
          bool seen = column < keys && chunk.start + key + column <= position + row;
          p[i][j] = seen ? p[i][j] * scale : -infinity();
          top = fmaxf(top, p[i][j]);
        }
        top = max_across(top);
        // Nothing seen yet: any finite base keeps 2^(-inf - base) at 0.
        f32 base = top == -infinity() ? 0.0f : top, more = 0.0f, rescale = exp2f(max[i] - base);
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
          p[i][j] = exp2f(p[i][j] - base);
          more += p[i][j];
          tile_p(row, own_x() + SIDE * j) = p[i][j];
        }
        max[i] = top;
        sum[i] = sum[i] * rescale + sum_across(more);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) sums.at[i][column] *= rescale;
      }
      __syncthreads();
      sums.add(tile_p, tile_v);
    }
  }
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    u32 row = own_y() * OWN + i;
    if (row >= count) continue;
    bool seen = sum[i] > 0.0f || sum[i] != sum[i];
    f32* saved = lse + (u64)head * queries.rows + first + row;
    Merged merged = {seen ? max[i] * LN_2 + logf(sum[i]) : -infinity(), 0.0f, 1.0f};
    if (merge && *saved > -infinity()) merged = Merged::of(*saved, merged.lse);
    f32 part = seen ? merged.new_part / sum[i] : 0.0f;
    FLOAT* to = out + (first + row) * out_stride + head * HEAD_DIM;
    sums.for_each(i, [&](u32 column, f32 value) {
      f32 old = merged.old_part > 0.0f ? to_f32(to[column]) * merged.old_part : 0.0f;
      round_to(fmaf(value, part, old), to[column]);
    });
    __syncwarp(0xffffu << (threadIdx.x & SIDE));  // all threads of the row have read it
    if (own_x() == 0) *saved = merged.lse;
  }
}
