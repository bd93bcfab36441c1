// Attention's gradient of the queries over a list of K/V chunks. As forward, a block has 64 CONSUMERS
// queries of one head and walks over the keys that they see:
// S = Q K^T, P = 2^(scale S - lse), dS = P (dO V^T - delta), dQ += dS K.
//
// Constants: HEAD (64 or 128), KEYS in a block, STAGES, CONSUMERS, LIST_BYTES.
#include "ptx/registers.cuh"
#include "tile/chunks.cuh"
#include "tile/head_rows.cuh"
#include "tile/panels.cuh"
#include "tile/ring.cuh"
#include "tile/softmax.cuh"

constexpr int TILE_Q = 64 * CONSUMERS;
using Q = Panels<TILE_Q, HEAD>;
using KV = Panels<KEYS, HEAD>;

struct Args {
  TensorMap q, dout, dq;       // [row][head][dim], boxes of TILE_Q rows, dq's of 64
  const bf16* old;             // `dq`, read where it is added to
  long long old_row;           // elements between its rows
  const float *lse2, *delta;   // [heads][padded]
  int q_len, padded, q_offset, group, head_dim;
  float scale, scale_log2;     // of scores, and times log2(e)
  int accumulate;
  ListArgs chunks;
};

struct Shared {
  u64 q_full;
  Ring<STAGES> ring;
};

DEVICE void produce(const Args& args, const ChunkList& chunks, Shared& shared, u32 q, u32 stages,
                    int first, int last, int head) {
  u32 bar = shared_address(&shared.q_full);
  mbarrier::arrive_expecting(bar, 2 * Q::BYTES);
  Q::load(q, &args.q, bar, 0, head, first);
  Q::load(q + Q::BYTES, &args.dout, bar, 0, head, first);
  int kv_head = head / args.group;
  Cursor<STAGES> at;
  for (BlockWalk<KEYS> block(chunks, last); block.advance(); at.advance()) {
    u32 bar = shared.ring.acquire(at, 2 * KV::BYTES), stage = stages + at.stage * 2 * KV::BYTES;
    KV::load(stage, chunks.k(block.chunk), bar, 0, kv_head, block.first);
    KV::load(stage + KV::BYTES, chunks.v(block.chunk), bar, 0, kv_head, block.first);
  }
}

// A product of this warpgroup's rows with a block's, to be waited for.
DEVICE void multiply_rows(float (&s)[KEYS / 2], u32 rows, int row, u32 block) {
#pragma unroll
  for (int step = 0; step < HEAD / 16; ++step)
    wgmma::multiply<Major::K, Major::K>(s, Q::along_columns(rows, row, step),
                                        KV::along_columns(block, 0, step), step != 0);
  wgmma::commit();
}

DEVICE void consume(const Args& args, const ChunkList& chunks, Shared& shared, u32 q, u32 stages,
                    int first, int last, int head, int consumer) {
  int row = 64 * consumer, position = args.q_offset + first + row;
  float dq[HEAD / 2] = {}, s[KEYS / 2], dp[KEYS / 2], lse2[2], delta[2];
  u32 ds[KEYS / 4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    long long at = (long long)head * args.padded + first + row + fragment_row() + 8 * half;
    lse2[half] = args.lse2[at];
    delta[half] = args.delta[at];
  }
  mbarrier::wait(shared_address(&shared.q_full), 0);
  Cursor<STAGES> at;
  for (BlockWalk<KEYS> block(chunks, last); block.advance(); at.advance()) {
    shared.ring.wait(at);
    u32 k = stages + at.stage * 2 * KV::BYTES, v = k + KV::BYTES;
    wgmma::fence();
    multiply_rows(s, q, row, k);
    multiply_rows(dp, q + Q::BYTES, row, v);
    wgmma::wait<1>();
    int visible = position + 1 - block.position, rows = block.seen - block.first;
    if (min(visible, rows) < KEYS) {
      int end = visible + fragment_row();
      mask_columns(s, min(end, rows), min(end + 8, rows));
    }
#pragma unroll
    for (int i = 0; i < KEYS / 2; ++i)
      s[i] = exp2_approx(s[i] * args.scale_log2 - lse2[i % 4 / 2]);
    wgmma::wait<0>();
#pragma unroll
    for (int i = 0; i < KEYS / 2; ++i) s[i] *= dp[i] - delta[i % 4 / 2];
#pragma unroll
    for (int i = 0; i < KEYS / 4; ++i) ds[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
    wgmma::fence();
#pragma unroll
    for (int step = 0; step < KEYS / 16; ++step)
      wgmma::multiply<Major::MN>(dq, ds + 4 * step, KV::along_rows(k, 0, step), true);
    wgmma::commit();
    wgmma::wait<0>();
    shared.ring.release(at);
  }
#pragma unroll
  for (int i = 0; i < HEAD / 2; ++i) dq[i] *= args.scale;
  if (args.accumulate) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int r = first + row + fragment_row() + 8 * half;
      const bf16* old = args.old + r * args.old_row + head * args.head_dim;
      if (r < args.q_len) add_head_row(dq, half, old, 1.0f, args.head_dim);
    }
  }
  // A warpgroup's own queries make room for their gradient, once all its warps have read them.
  barrier::sync(1 + consumer, 128);
  store_head_rows(&args.dq, dq, q + row * 128, Q::PANEL, first + row, head, 1 + consumer);
}

extern "C" __global__ void __launch_bounds__((1 + CONSUMERS) * 128, 1)
    attention_bwd_q(const __grid_constant__ Args args) {
  extern __shared__ __align__(1024) u8 memory[];
  __shared__ Shared shared;
  u32 q = (shared_address(memory) + 1023) & ~1023u, stages = q + 2 * Q::BYTES;
  if (threadIdx.x == 0) {
    mbarrier::init(shared_address(&shared.q_full), 1);
    shared.ring.init(CONSUMERS * 4);
    fence::mbarrier_init();
  }
  __syncthreads();
  ChunkList chunks(args.chunks);
  // The last queries see the most keys: they go first.
  int head = blockIdx.x, first = (gridDim.y - 1 - blockIdx.y) * TILE_Q;
  int last = args.q_offset + min(first + TILE_Q, args.q_len) - 1;
  int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    registers::give_up_to<24>();
    if (threadIdx.x == 0) produce(args, chunks, shared, q, stages, first, last, head);
  } else {
    registers::take_up_to<240>();
    consume(args, chunks, shared, q, stages, first, last, head, warpgroup - 1);
  }
}
