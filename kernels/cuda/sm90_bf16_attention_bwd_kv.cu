// Attention's gradients of keys and values over a list of K/V chunks. A block has KEYS keys of one key
// head and walks over all queries of its group that see them, transposed, so that P and dS are in the
// registers where the next product wants them:
// S^T = K Q^T, P^T = 2^(scale S^T - lse), dV += P^T dO, dS^T = P^T (V dO^T - delta), dK += dS^T Q.
// What the queries of this launch contribute is complete in registers and added once to the chunk's
// sums; no other block has these keys, so the order of all additions is fixed.
//
// Constants: HEAD (64 or 128), KEYS = 64 CONSUMERS, QUERIES in a block, STAGES, LIST_BYTES.
#include "ptx/registers.cuh"
#include "tile/chunks.cuh"
#include "tile/panels.cuh"
#include "tile/ring.cuh"
#include "tile/softmax.cuh"
#include "ptx/bf16.cuh"

constexpr int CONSUMERS = KEYS / 64;
using KV = Panels<KEYS, HEAD>;
using Q = Panels<QUERIES, HEAD>;
// A stage holds queries, their output gradients, log-sum-exps and deltas.
constexpr u32 STATS = QUERIES * 4, STAGE = 2 * Q::BYTES + 1024;
static_assert(2 * STATS <= 1024, "");

struct Args {
  TensorMap q, dout;           // [row][head][dim], boxes of QUERIES rows
  const float *lse2, *delta;   // [heads][padded]
  int q_len, padded, q_offset, group, kv_heads, head_dim;
  float scale, scale_log2;     // of scores, and times log2(e)
  ListArgs chunks;
};

struct Shared {
  u64 kv_full;
  Ring<STAGES> ring;
};

// The keys of a block.
struct Keys {
  int chunk, first;  // row of the chunk
  int rows;          // of the chunk from there on
  int position;      // of the first
  int kv_head;

  // Blocks are numbered through the chunks, as far as the last query sees.
  DEVICE Keys(const Args& args, const ChunkList& chunks, int index, int kv_head) : kv_head(kv_head) {
    for (chunk = 0;; ++chunk) {
      Span span = chunks.span(chunk);
      int seen = min(span.len, args.q_offset + args.q_len - span.start);
      int blocks = max(0, (seen + KEYS - 1) / KEYS);
      if (index < blocks) {
        first = index * KEYS;
        rows = span.len - first;
        position = span.start + first;
        return;
      }
      index -= blocks;
    }
  }

  // The first block of queries with one that sees the keys.
  DEVICE int begin(const Args& args) const {
    return max(0, position - args.q_offset) / QUERIES * QUERIES;
  }
};

DEVICE void produce(const Args& args, const ChunkList& chunks, Shared& shared, u32 kv, u32 stages,
                    Keys keys) {
  u32 bar = shared_address(&shared.kv_full);
  mbarrier::arrive_expecting(bar, 2 * KV::BYTES);
  KV::load(kv, chunks.k(keys.chunk), bar, 0, keys.kv_head, keys.first);
  KV::load(kv + KV::BYTES, chunks.v(keys.chunk), bar, 0, keys.kv_head, keys.first);
  Cursor<STAGES> at;
  for (int i = 0; i < args.group; ++i) {
    int head = keys.kv_head * args.group + i;
    for (int query = keys.begin(args); query < args.q_len; query += QUERIES, at.advance()) {
      u32 bar = shared.ring.acquire(at, 2 * Q::BYTES + 2 * STATS);
      u32 stage = stages + at.stage * STAGE, stats = stage + 2 * Q::BYTES;
      long long row = (long long)head * args.padded + query;
      Q::load(stage, &args.q, bar, 0, head, query);
      Q::load(stage + Q::BYTES, &args.dout, bar, 0, head, query);
      tma::load_bytes(stats, args.lse2 + row, STATS, bar);
      tma::load_bytes(stats + STATS, args.delta + row, STATS, bar);
    }
  }
}

// A product of this warpgroup's keys (or values) with a block of queries, to be waited for.
DEVICE void multiply_queries(float (&s)[QUERIES / 2], u32 kv, int row, u32 queries) {
#pragma unroll
  for (int step = 0; step < HEAD / 16; ++step)
    wgmma::multiply<Major::K, Major::K>(s, KV::along_columns(kv, row, step),
                                        Q::along_columns(queries, 0, step), step != 0);
  wgmma::commit();
}

// Adds to each key's gradient those of the queries, to be waited for.
DEVICE void add_queries(float (&sums)[HEAD / 2], const u32 (&weights)[QUERIES / 4], u32 queries) {
  wgmma::fence();
#pragma unroll
  for (int step = 0; step < QUERIES / 16; ++step)
    wgmma::multiply<Major::MN>(sums, weights + 4 * step, Q::along_rows(queries, 0, step), true);
  wgmma::commit();
}

// Two neighbouring columns' values of a row of statistics.
DEVICE void load_pair(u32 stats, int i, float (&pair)[2]) {
  u32 at = stats + (fragment_column() + i / 4 * 8) * 4;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair[0]), "=f"(pair[1]) : "r"(at) : "memory");
}

// Adds the gradient of this thread's part of the keys to the sums of their chunk.
DEVICE void add_to_sums(const Args& args, float* sums, const float (&grad)[HEAD / 2], float factor,
                        Keys keys, int row) {
  int column = fragment_column();
  long long width = (long long)args.kv_heads * args.head_dim;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int r = row + fragment_row() + 8 * half;
    if (r >= keys.rows) continue;
    float2* to = (float2*)(sums + (keys.first + r) * width + keys.kv_head * args.head_dim + column);
#pragma unroll
    for (int i = 2 * half; i < HEAD / 2; i += 4)
      if (column + i / 4 * 8 < args.head_dim) {
        float2 sum = to[i / 4 * 4];
        sum.x += grad[i] * factor;
        sum.y += grad[i + 1] * factor;
        to[i / 4 * 4] = sum;
      }
  }
}

DEVICE void consume(const Args& args, const ChunkList& chunks, Shared& shared, u32 kv, u32 stages,
                    Keys keys, int consumer) {
  int row = 64 * consumer;
  float dk[HEAD / 2] = {}, dv[HEAD / 2] = {}, s[QUERIES / 2], dp[QUERIES / 2], pair[2];
  u32 p[QUERIES / 4], ds[QUERIES / 4];
  mbarrier::wait(shared_address(&shared.kv_full), 0);
  Cursor<STAGES> at;
  for (int head = 0; head < args.group; ++head)
    for (int query = keys.begin(args); query < args.q_len; query += QUERIES, at.advance()) {
      shared.ring.wait(at);
      u32 q = stages + at.stage * STAGE, dout = q + Q::BYTES, stats = q + 2 * Q::BYTES;
      wgmma::fence();
      multiply_queries(s, kv, row, q);
      multiply_queries(dp, kv + KV::BYTES, row, dout);
      wgmma::wait<1>();
      // Queries before a key do not see it.
      int begin = keys.position + row + fragment_row() - args.q_offset - query;
      if (keys.position + row + 63 > args.q_offset + query) {
        int column = fragment_column();
#pragma unroll
        for (int i = 0; i < QUERIES / 2; ++i)
          if (column + i / 4 * 8 + i % 2 < begin + i % 4 / 2 * 8) s[i] = NEG_INF;
      }
#pragma unroll
      for (int i = 0; i < QUERIES / 2; i += 4) {
        load_pair(stats, i, pair);
#pragma unroll
        for (int j = 0; j < 4; ++j) s[i + j] = exp2_approx(s[i + j] * args.scale_log2 - pair[j % 2]);
      }
#pragma unroll
      for (int i = 0; i < QUERIES / 4; ++i) p[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
      add_queries(dv, p, dout);
      wgmma::wait<1>();
#pragma unroll
      for (int i = 0; i < QUERIES / 2; i += 4) {
        load_pair(stats + STATS, i, pair);
#pragma unroll
        for (int j = 0; j < 4; ++j) s[i + j] *= dp[i + j] - pair[j % 2];
      }
#pragma unroll
      for (int i = 0; i < QUERIES / 4; ++i) ds[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
      add_queries(dk, ds, q);
      wgmma::wait<0>();
      shared.ring.release(at);
    }
  Sums sums = chunks.sums(keys.chunk);
  add_to_sums(args, sums.dk, dk, args.scale, keys, row);
  add_to_sums(args, sums.dv, dv, 1.0f, keys, row);
}

extern "C" __global__ void __launch_bounds__((1 + CONSUMERS) * 128, 1)
    attention_bwd_kv(const __grid_constant__ Args args) {
  extern __shared__ __align__(1024) u8 memory[];
  __shared__ Shared shared;
  u32 kv = (shared_address(memory) + 1023) & ~1023u, stages = kv + 2 * KV::BYTES;
  if (threadIdx.x == 0) {
    mbarrier::init(shared_address(&shared.kv_full), 1);
    shared.ring.init(CONSUMERS * 4);
    fence::mbarrier_init();
  }
  __syncthreads();
  ChunkList chunks(args.chunks);
  Keys keys(args, chunks, blockIdx.y, blockIdx.x);
  int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    registers::give_up_to<24>();
    if (threadIdx.x == 0) produce(args, chunks, shared, kv, stages, keys);
  } else {
    registers::take_up_to<240>();
    consume(args, chunks, shared, kv, stages, keys, warpgroup - 1);
  }
}
