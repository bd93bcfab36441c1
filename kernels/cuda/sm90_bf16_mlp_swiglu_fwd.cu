// The first half of a SwiGLU MLP in one pass: H = silu(X Wg^T) * (X Wu^T), with X [m, k], Wg and Wu
// [n, k], H [m, n]. A tile of B is 128 columns of gate and the same 128 of up, so that both sums of an
// element are in one thread.
//
// Constants: STAGES, B_MAJOR (as in a matrix product), SAVE (gate and up are stored too).
#include "ptx/math.cuh"
#include "ptx/registers.cuh"
#include "tile/product.cuh"
#include "tile/staging.cuh"
#include "tile/tile_order.cuh"

constexpr int TILE_M = 128, TILE_N = 128, CONSUMERS = 2;
using A = Operand<0, TILE_M>;
using Half = Operand<B_MAJOR, TILE_N>;
using B = Operand<B_MAJOR, 2 * TILE_N>;
constexpr u32 STAGE = A::BYTES + B::BYTES;

struct Args {
  TensorMap x, gate_weight, up_weight, out, gate, up;
  int m, n, k;
};

DEVICE TileOrder tile_order(const Args& args) {
  return {(args.m + TILE_M - 1) / TILE_M, (args.n + TILE_N - 1) / TILE_N, 1};
}

DEVICE void produce(const Args& args, Ring<STAGES>& ring, u32 stages) {
  TileOrder order = tile_order(args);
  Cursor<STAGES> at;
  for (int i = blockIdx.x; i < order.count(); i += gridDim.x) {
    Tile tile = order.at(i);
    int column = tile.column * TILE_N;
    for (int k = 0; k < args.k; k += TILE_K, at.advance()) {
      u32 bar = ring.acquire(at, STAGE), a = stages + at.stage * STAGE, b = a + A::BYTES;
      A::load(a, &args.x, bar, tile.row * TILE_M, k, 0);
      Half::load(b, &args.gate_weight, bar, column, k, 0);
      Half::load(b + Half::BYTES, &args.up_weight, bar, column, k, 0);
    }
  }
}

// Stores 64 rows by TILE_N columns.
DEVICE void store(Staging& staging, const TensorMap* map, const float* sums, int column, int row) {
#pragma unroll
  for (int piece = 0; piece < TILE_N / 64; ++piece) {
    write_bf16(staging.begin(), sums + 32 * piece);
    staging.end<false>(map, column + 64 * piece, row, 0);
  }
}

DEVICE void consume(const Args& args, Ring<STAGES>& ring, u32 stages, u32 buffers, int consumer) {
  TileOrder order = tile_order(args);
  Staging staging = {buffers + consumer * 2 * PIECE, 1 + consumer};
  Cursor<STAGES> at;
  for (int i = blockIdx.x; i < order.count(); i += gridDim.x) {
    Tile tile = order.at(i);
    float sums[TILE_N];  // of gate, then of up
    multiply_tiles<A, B>(sums, ring, at, stages, 64 * consumer, args.k);
    int column = tile.column * TILE_N, row = tile.row * TILE_M + 64 * consumer;
    if (SAVE) {
      store(staging, &args.gate, sums, column, row);
      store(staging, &args.up, sums + TILE_N / 2, column, row);
    }
#pragma unroll
    for (int i = 0; i < TILE_N / 2; ++i) sums[i] *= sigmoid(sums[i]) * sums[TILE_N / 2 + i];
    store(staging, &args.out, sums, column, row);
  }
  staging.finish();
}

extern "C" __global__ void __launch_bounds__((1 + CONSUMERS) * 128, 1)
    mlp_swiglu_fwd(const __grid_constant__ Args args) {
  extern __shared__ __align__(1024) u8 memory[];
  __shared__ Ring<STAGES> ring;
  u32 stages = (shared_address(memory) + 1023) & ~1023u, buffers = stages + STAGES * STAGE;
  if (threadIdx.x == 0) {
    ring.init(CONSUMERS * 4);
    fence::mbarrier_init();
  }
  __syncthreads();
  int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    registers::give_up_to<40>();
    if (threadIdx.x == 0) produce(args, ring, stages);
  } else {
    registers::take_up_to<232>();
    consume(args, ring, stages, buffers, warpgroup - 1);
  }
}
