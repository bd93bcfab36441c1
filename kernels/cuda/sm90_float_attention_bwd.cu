// The gradients of attention over a list of chunks, on plain cores. With D = sum(dout out): p =
// exp(s - lse), dv = p dout, dp = v dout, ds = scale p (dp - D), dq = ds k, dk = ds q. FLOAT: f32
// or bf16. HEAD_DIM, TILE: see tile/plain_attention.cuh.
//
// Nothing is added by two blocks: one kernel has a block per tile of queries, the other one per
// tile of keys.
#include "tile/plain_attention.cuh"

// What forward took and gave, and the gradient of what it gave. Rows of `q` lie `q_stride` apart,
// and so on.
struct Forward {
  const FLOAT *q, *out, *dout;
  const f32* lse;  // [heads, rows]
  u64 q_stride, out_stride, dout_stride;
};

// Loads `count` rows of a head's queries from row `first` on, the gradients of their outputs, and
// what their probabilities need: the log-sum-exp to base 2 in `lse`, and D in `delta`. All of it by
// line y.
DEVICE void load(const Forward& forward, const Queries& queries, u32 head, u32 first, u32 count,
                 Tile q, Tile dout, f32* lse, f32* delta) {
  q.load(forward.q + first * forward.q_stride + head * HEAD_DIM, forward.q_stride, count);
  dout.load(forward.dout + first * forward.dout_stride + head * HEAD_DIM, forward.dout_stride,
            count);
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    u32 line = own_y() * OWN + i, row = first + line;
    f32 sum = 0.0f, own_lse = -infinity();
    if (line < count) {
      const FLOAT* out = forward.out + row * forward.out_stride + head * HEAD_DIM;
      const FLOAT* d = forward.dout + row * forward.dout_stride + head * HEAD_DIM;
      for (u32 column = own_x(); column < HEAD_DIM; column += SIDE) {
        sum = fmaf(to_f32(out[column]), to_f32(d[column]), sum);
      }
      own_lse = forward.lse[(u64)head * queries.rows + row];
    }
    sum = sum_across(sum);
    if (own_x() > 0) continue;
    delta[line] = sum;
    // A row that is missing or saw nothing has probabilities 2^(-inf) = 0.
    lse[line] = own_lse == -infinity() ? infinity() : own_lse * LOG2_E;
  }
}

// The probability of a score to base 2, and the score's gradient.
struct Probability {
  f32 p, ds;

  DEVICE Probability(f32 product, f32 dp, bool seen, f32 scale, f32 lse, f32 delta) {
    p = seen ? exp2f(product * (scale * LOG2_E) - lse) : 0.0f;
    ds = scale * p * (dp - delta);
  }
};

// Blocks along x are tiles of queries, the last first; along y heads. `dq` has rows `dq_stride`
// apart and is overwritten or added to.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_bwd_dq(const __grid_constant__ Forward forward,
                     const __grid_constant__ Queries queries, const __grid_constant__ Chunks chunks,
                     FLOAT* dq, u64 dq_stride, bool accumulate) {
  Shared shared;
  Tile tile_q = shared.tile(), tile_dout = shared.tile(), tile_k = shared.tile(),
       tile_v = shared.tile();
  Square tile_ds = shared.square();
  __shared__ f32 lse[TILE], delta[TILE];
  u32 first = (gridDim.x - 1 - blockIdx.x) * TILE, head = blockIdx.y,
      kv_head = head / queries.group();
  u32 count = min((u32)TILE, queries.rows - first);
  u32 position = queries.offset + first, last = position + count - 1;
  load(forward, queries, head, first, count, tile_q, tile_dout, lse, delta);
  Lines sums;
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
      f32 products[OWN][OWN], dp[OWN][OWN];
      multiply(tile_q, tile_k, products);
      multiply(tile_dout, tile_v, dp);
#pragma unroll
      for (int i = 0; i < OWN; ++i) {
        u32 row = own_y() * OWN + i;
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
          u32 column = own_x() + SIDE * j;
          bool seen = column < keys && chunk.start + key + column <= position + row;
          Probability own(products[i][j], dp[i][j], seen, queries.scale, lse[row], delta[row]);
          tile_ds(row, column) = own.ds;
        }
      }
      __syncthreads();
      sums.add(tile_ds, tile_k);
    }
  }
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    u32 row = own_y() * OWN + i;
    if (row >= count) continue;
    FLOAT* to = dq + (first + row) * dq_stride + head * HEAD_DIM;
    sums.for_each(i, [&](u32 column, f32 value) {
      round_to(accumulate ? to_f32(to[column]) + value : value, to[column]);
    });
  }
}

// Blocks along x are tiles of keys, chunk after chunk; along y key heads.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_bwd_dkv(const __grid_constant__ Forward forward,
                      const __grid_constant__ Queries queries,
                      const __grid_constant__ Chunks chunks) {
  Shared shared;
  Tile tile_q = shared.tile(), tile_dout = shared.tile(), tile_k = shared.tile(),
       tile_v = shared.tile();
  Square tile_p = shared.square(), tile_ds = shared.square();
  __shared__ f32 lse[TILE], delta[TILE];
  u32 c = 0, tile = blockIdx.x;
  while (tile >= (chunks.list[c].len + TILE - 1) / TILE)
    tile -= (chunks.list[c++].len + TILE - 1) / TILE;
  const Chunk& chunk = chunks.list[c];
  u32 key = tile * TILE, keys = min((u32)TILE, chunk.len - key), kv_head = blockIdx.y;
  u32 position = chunk.start + key, end = queries.offset + queries.rows;
  if (position >= end) return;  // nobody sees these
  tile_k.load(chunk.k + key * chunk.k_stride + kv_head * HEAD_DIM, chunk.k_stride, keys);
  tile_v.load(chunk.v + key * chunk.v_stride + kv_head * HEAD_DIM, chunk.v_stride, keys);
  Lines sums_k, sums_v;
  u32 earliest = position > queries.offset ? (position - queries.offset) / TILE * TILE : 0;
  for (u32 member = 0; member < queries.group(); ++member) {
    u32 head = kv_head * queries.group() + member;
    for (u32 first = earliest; first < queries.rows; first += TILE) {
      u32 count = min((u32)TILE, queries.rows - first);
      __syncthreads();  // the last tiles were used
      load(forward, queries, head, first, count, tile_q, tile_dout, lse, delta);
      __syncthreads();
      f32 products[OWN][OWN], dp[OWN][OWN];
      multiply(tile_k, tile_q, products);
      multiply(tile_v, tile_dout, dp);
#pragma unroll
      for (int i = 0; i < OWN; ++i) {
        u32 row = own_y() * OWN + i;
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
          u32 query = own_x() + SIDE * j;
          bool seen = row < keys && position + row <= queries.offset + first + query;
          Probability own(products[i][j], dp[i][j], seen, queries.scale, lse[query], delta[query]);
          tile_p(row, query) = own.p;
          tile_ds(row, query) = own.ds;
        }
      }
      __syncthreads();
      sums_v.add(tile_p, tile_dout);
      sums_k.add(tile_ds, tile_q);
    }
  }
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    u32 row = own_y() * OWN + i;
    if (row >= keys) continue;
    u64 at = ((u64)(key + row) * queries.kv_heads + kv_head) * HEAD_DIM;
    sums_k.for_each(i, [&](u32 column, f32 value) { chunk.dk[at + column] += value; });
    sums_v.for_each(i, [&](u32 column, f32 value) { chunk.dv[at + column] += value; });
  }
}
