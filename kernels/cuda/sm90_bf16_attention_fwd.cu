// Flash attention forward over a list of K/V chunks. A block computes TILE_Q = 64 CONSUMERS queries of
// one head: one thread loads by TMA, each consumer warpgroup has 64 queries. While the tensor cores
// multiply by the values of one block of keys, the softmax of the next is computed; and consumers take
// turns, so that while one computes its softmax, the tensor cores have the products of another.
//
// A query at position i sees keys at positions up to i. A query that sees nothing gets output 0 and
// log-sum-exp minus infinity.
//
// Constants: HEAD (64 or 128; smaller heads are filled up with zeros), KEYS in a block, STAGES,
// CONSUMERS, LIST_BYTES.
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
  TensorMap q, out;    // [row][head][dim], boxes of TILE_Q and of 64 rows
  const bf16* old;     // `out`, read where results are merged
  long long old_row;   // elements between its rows
  float* lse;          // [heads][q_len]
  int q_len, q_offset, group, head_dim;
  float scale;         // of scores, times log2(e)
  int merge;           // `out` and `lse` hold a result over other keys
  ListArgs chunks;
};

struct Shared {
  u64 q_full;
  Ring<STAGES> k, v;
};

DEVICE void produce(const Args& args, const ChunkList& chunks, Shared& shared, u32 q, u32 ks, u32 vs,
                    int first, int last, int head) {
  u32 bar = shared_address(&shared.q_full);
  mbarrier::arrive_expecting(bar, Q::BYTES);
  Q::load(q, &args.q, bar, 0, head, first);
  int kv_head = head / args.group;
  Cursor<STAGES> at;
  for (BlockWalk<KEYS> block(chunks, last); block.advance(); at.advance()) {
    u32 bar = shared.k.acquire(at, KV::BYTES);
    KV::load(ks + at.stage * KV::BYTES, chunks.k(block.chunk), bar, 0, kv_head, block.first);
    bar = shared.v.acquire(at, KV::BYTES);
    KV::load(vs + at.stage * KV::BYTES, chunks.v(block.chunk), bar, 0, kv_head, block.first);
  }
}

// The order in which consumers give products to the tensor cores. Each has a named barrier, to which
// the one before it comes when it has given its own.
struct Turns {
  int own, next;

  DEVICE explicit Turns(int consumer)
      : own(FIRST + consumer), next(FIRST + (consumer + 1) % CONSUMERS) {
    if (consumer == 0) barrier::arrive(own, 256);
  }

  DEVICE void begin() const { barrier::sync(own, 256); }
  DEVICE void end() const { barrier::arrive(next, 256); }

  // The last consumer's last turn called the first consumer once more.
  DEVICE void finish() const {
    if (own == FIRST) begin();
  }

 private:
  static constexpr int FIRST = 1 + CONSUMERS;  // behind those that consumers have to themselves
};

// Scores of a block of keys, to be waited for.
DEVICE void multiply_keys(float (&s)[KEYS / 2], u32 q, int row, u32 k) {
  wgmma::fence();
#pragma unroll
  for (int step = 0; step < HEAD / 16; ++step)
    wgmma::multiply<Major::K, Major::K>(s, Q::along_columns(q, row, step),
                                        KV::along_columns(k, 0, step), step != 0);
  wgmma::commit();
}

// Adds the values of a block, each times its probability.
DEVICE void add_values(float (&o)[HEAD / 2], const u32 (&p)[KEYS / 4], u32 v) {
  wgmma::fence();
#pragma unroll
  for (int step = 0; step < KEYS / 16; ++step)
    wgmma::multiply<Major::MN>(o, p + 4 * step, KV::along_rows(v, 0, step), true);
  wgmma::commit();
}

DEVICE void round_to_bf16(const float (&s)[KEYS / 2], u32 (&p)[KEYS / 4]) {
#pragma unroll
  for (int i = 0; i < KEYS / 4; ++i) p[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
}

// Divides by the sums, merges with what is there and stores.
DEVICE void finish(const Args& args, float (&o)[HEAD / 2], RowStats& stats, u32 staging, int row,
                   int head, int consumer) {
  int mine = row + fragment_row();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int r = mine + 8 * half;
    float sum = row_sum(stats.sum[half]);
    float total = sum > 0.0f ? stats.max[half] * args.scale + log2_approx(sum) : NEG_INF;
    float factor = sum > 0.0f ? 1.0f / sum : 0.0f, old_factor = 0.0f;
    float* lse = args.lse + (long long)head * args.q_len + r;
    if (args.merge && r < args.q_len && *lse > NEG_INF) {
      float old = *lse * LOG2_E, top = fmaxf(old, total), own = total;
      total = top + log2_approx(exp2_approx(old - top) + exp2_approx(own - top));
      factor *= exp2_approx(own - total);
      old_factor = exp2_approx(old - total);
    }
    // All lanes of a row have read it.
    __syncwarp();
    if (r < args.q_len && threadIdx.x % 4 == 0) *lse = total * LN_2;
#pragma unroll
    for (int i = 2 * half; i < HEAD / 2; i += 4) {
      o[i] *= factor;
      o[i + 1] *= factor;
    }
    if (old_factor > 0.0f) {
      const bf16* old = args.old + r * args.old_row + head * args.head_dim;
      add_head_row(o, half, old, old_factor, args.head_dim);
    }
  }
  store_head_rows(&args.out, o, staging, Q::PANEL, row, head, 1 + consumer);
}

DEVICE void consume(const Args& args, const ChunkList& chunks, Shared& shared, u32 q, u32 ks, u32 vs,
                    int first, int last, int head, int consumer) {
  int row = 64 * consumer, position = args.q_offset + first + row;
  float o[HEAD / 2] = {}, s[KEYS / 2], decay[2];
  u32 p[KEYS / 4];
  RowStats stats;

  // Keys that are not there, or come after a query.
  auto mask = [&](const BlockWalk<KEYS>& block) {
    int visible = position + 1 - block.position, rows = block.seen - block.first;
    if (min(visible, rows) < KEYS) {
      int end = visible + fragment_row();
      mask_columns(s, min(end, rows), min(end + 8, rows));
    }
  };

  mbarrier::wait(shared_address(&shared.q_full), 0);
  BlockWalk<KEYS> block(chunks, last);
  if (block.advance()) {
    Cursor<STAGES> k_at, v_at;
    shared.k.wait(k_at);
    multiply_keys(s, q, row, ks);
    wgmma::wait<0>();
    shared.k.release(k_at);
    k_at.advance();
    mask(block);
    stats.add(s, args.scale, decay);
    round_to_bf16(s, p);
    Turns turns(consumer);
    while (block.advance()) {
      shared.k.wait(k_at);
      turns.begin();
      multiply_keys(s, q, row, ks + k_at.stage * KV::BYTES);
      shared.v.wait(v_at);
      add_values(o, p, vs + v_at.stage * KV::BYTES);
      turns.end();
      wgmma::wait<1>();
      shared.k.release(k_at);
      k_at.advance();
      mask(block);
      stats.add(s, args.scale, decay);
      wgmma::wait<0>();
      shared.v.release(v_at);
      v_at.advance();
#pragma unroll
      for (int i = 0; i < HEAD / 2; ++i) o[i] *= decay[i % 4 / 2];
      round_to_bf16(s, p);
    }
    shared.v.wait(v_at);
    add_values(o, p, vs + v_at.stage * KV::BYTES);
    wgmma::wait<0>();
    shared.v.release(v_at);
    turns.finish();
  }
  // A warpgroup's own queries make room for its output, once all its warps have read them.
  barrier::sync(1 + consumer, 128);
  finish(args, o, stats, q + row * 128, first + row, head, consumer);
}

extern "C" __global__ void __launch_bounds__((1 + CONSUMERS) * 128, 1)
    attention_fwd(const __grid_constant__ Args args) {
  extern __shared__ __align__(1024) u8 memory[];
  __shared__ Shared shared;
  u32 q = (shared_address(memory) + 1023) & ~1023u;
  u32 ks = q + Q::BYTES, vs = ks + STAGES * KV::BYTES;
  if (threadIdx.x == 0) {
    mbarrier::init(shared_address(&shared.q_full), 1);
    shared.k.init(CONSUMERS * 4);
    shared.v.init(CONSUMERS * 4);
    fence::mbarrier_init();
  }
  __syncthreads();
  ChunkList chunks(args.chunks);
  // The last queries see the most keys: they go first.
  int head = blockIdx.x, first = (gridDim.y - 1 - blockIdx.y) * TILE_Q;
  int last = args.q_offset + min(first + TILE_Q, args.q_len) - 1;
  int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    registers::give_up_to<CONSUMERS == 2 ? 24 : 32>();
    if (threadIdx.x == 0) produce(args, chunks, shared, q, ks, vs, first, last, head);
  } else {
    registers::take_up_to<CONSUMERS == 2 ? 240 : 160>();
    consume(args, chunks, shared, q, ks, vs, first, last, head, warpgroup - 1);
  }
}
