// The gradients of a SwiGLU MLP's gate and up in one pass: dH = dY Wd, with dY [m, k], Wd [k, n], and
// with s = sigmoid(gate): dUp = dH gate s, dGate = dH up s (1 + gate (1 - s)). dH is never stored.
//
// While a tile is multiplied, TMA brings its gate and up; the gradients take their places in shared
// memory and leave from there.
//
// Constants: STAGES, B_MAJOR (as in a matrix product), HIDDEN (H = gate s up is made again and stored).
#include "ptx/math.cuh"
#include "ptx/registers.cuh"
#include "tile/product.cuh"
#include "tile/staging.cuh"
#include "tile/tile_order.cuh"

constexpr int TILE_M = 128, TILE_N = 128, CONSUMERS = 2, PIECES = TILE_N / 64;
using A = Operand<0, TILE_M>;
using B = Operand<B_MAJOR, TILE_N>;
constexpr u32 STAGE = A::BYTES + B::BYTES;
// A warpgroup's pieces of gate, up and H.
constexpr u32 GATE = 0, UP = PIECES * PIECE, OUT = 2 * PIECES * PIECE;
constexpr u32 BUFFERS = (2 + HIDDEN) * PIECES * PIECE;

struct Args {
  TensorMap dy, weight, gate, up, dgate, dup, hidden;
  int m, n, k;
};

struct Shared {
  Ring<STAGES> ring;
  u64 inputs[CONSUMERS];
};

DEVICE TileOrder tile_order(const Args& args) {
  return {(args.m + TILE_M - 1) / TILE_M, (args.n + TILE_N - 1) / TILE_N, 1};
}

DEVICE void produce(const Args& args, Ring<STAGES>& ring, u32 stages) {
  TileOrder order = tile_order(args);
  Cursor<STAGES> at;
  for (int i = blockIdx.x; i < order.count(); i += gridDim.x) {
    Tile tile = order.at(i);
    for (int k = 0; k < args.k; k += TILE_K, at.advance()) {
      u32 bar = ring.acquire(at, STAGE), a = stages + at.stage * STAGE;
      A::load(a, &args.dy, bar, tile.row * TILE_M, k, 0);
      B::load(a + A::BYTES, &args.weight, bar, tile.column * TILE_N, k, 0);
    }
  }
}

// By one thread: brings gate and up, once what was stored from their places has been read.
DEVICE void load_inputs(const Args& args, u32 bar, u32 buffers, int column, int row) {
  tma::wait_read<0>();
  mbarrier::arrive_expecting(bar, 2 * PIECES * PIECE);
  for (int piece = 0; piece < PIECES; ++piece) {
    tma::load(buffers + GATE + piece * PIECE, &args.gate, bar, column + 64 * piece, row, 0);
    tma::load(buffers + UP + piece * PIECE, &args.up, bar, column + 64 * piece, row, 0);
  }
}

// Two elements of one row: gate and up become their gradients, `d` becomes H.
DEVICE void differentiate(u32& gate, u32& up, float (&d)[2]) {
  float g[2] = {low_bf16(gate), high_bf16(gate)}, u[2] = {low_bf16(up), high_bf16(up)};
  float dgate[2], dup[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float s = sigmoid(g[i]), silu = g[i] * s;
    dup[i] = d[i] * silu;
    dgate[i] = d[i] * u[i] * s * (1.0f + g[i] * (1.0f - s));
    d[i] = silu * u[i];
  }
  gate = pack_bf16(dgate[0], dgate[1]);
  up = pack_bf16(dup[0], dup[1]);
}

// A piece's gradients from its sums of dH (32 registers), in the places of gate and up.
DEVICE void differentiate_piece(u32 buffers, int piece, const float* sums) {
  int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane % 16;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    u32 at = piece_address(buffers + piece * PIECE, row, 2 * i + lane / 16);
    u32 gate[4], up[4], hidden[4];
    matrix::load4(at + GATE, gate[0], gate[1], gate[2], gate[3]);
    matrix::load4(at + UP, up[0], up[1], up[2], up[3]);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float d[2] = {sums[8 * i + 2 * j], sums[8 * i + 2 * j + 1]};
      differentiate(gate[j], up[j], d);
      hidden[j] = pack_bf16(d[0], d[1]);
    }
    matrix::store4(at + GATE, gate[0], gate[1], gate[2], gate[3]);
    matrix::store4(at + UP, up[0], up[1], up[2], up[3]);
    if (HIDDEN) matrix::store4(at + OUT, hidden[0], hidden[1], hidden[2], hidden[3]);
  }
}

DEVICE void consume(const Args& args, Shared& shared, u32 stages, u32 buffers, int consumer) {
  TileOrder order = tile_order(args);
  u32 inputs = shared_address(&shared.inputs[consumer]), phase = 0;
  bool leader = threadIdx.x % 128 == 0;
  Cursor<STAGES> at;
  for (int i = blockIdx.x; i < order.count(); i += gridDim.x, phase ^= 1) {
    Tile tile = order.at(i);
    int column = tile.column * TILE_N, row = tile.row * TILE_M + 64 * consumer;
    if (leader) load_inputs(args, inputs, buffers, column, row);
    __syncwarp();
    float sums[TILE_N / 2];
    multiply_tiles<A, B>(sums, shared.ring, at, stages, 64 * consumer, args.k);
    mbarrier::wait(inputs, phase);
#pragma unroll
    for (int piece = 0; piece < PIECES; ++piece)
      differentiate_piece(buffers, piece, sums + 32 * piece);
    fence::async_proxy();
    barrier::sync(1 + consumer, 128);
    if (leader) {
      for (int piece = 0; piece < PIECES; ++piece) {
        u32 from = buffers + piece * PIECE;
        tma::store(&args.dgate, from + GATE, column + 64 * piece, row, 0);
        tma::store(&args.dup, from + UP, column + 64 * piece, row, 0);
        if (HIDDEN) tma::store(&args.hidden, from + OUT, column + 64 * piece, row, 0);
      }
      tma::commit();
    }
  }
  if (leader) tma::wait_read<0>();
}

extern "C" __global__ void __launch_bounds__((1 + CONSUMERS) * 128, 1)
    mlp_swiglu_bwd(const __grid_constant__ Args args) {
  extern __shared__ __align__(1024) u8 memory[];
  __shared__ Shared shared;
  u32 stages = (shared_address(memory) + 1023) & ~1023u, buffers = stages + STAGES * STAGE;
  if (threadIdx.x == 0) {
    shared.ring.init(CONSUMERS * 4);
    for (int i = 0; i < CONSUMERS; ++i) mbarrier::init(shared_address(&shared.inputs[i]), 1);
    fence::mbarrier_init();
  }
  __syncthreads();
  int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    registers::give_up_to<40>();
    if (threadIdx.x == 0) produce(args, shared.ring, stages);
  } else {
    registers::take_up_to<232>();
    consume(args, shared, stages, buffers + (warpgroup - 1) * BUFFERS, warpgroup - 1);
  }
}
