// C = A B or C += A B on tensor cores: A [m, k], B [k, n], C [m, n], batched; bf16 in, f32 sums, f32 or
// bf16 out. One thread of the first warpgroup loads tiles by TMA, two warpgroups multiply 64 rows each.
// Blocks stay and take every gridDim-th tile, so that loads run ahead while a tile is stored.
//
// Constants: TILE_N (128 or 256), STAGES, A_MAJOR and B_MAJOR (0: memory runs along k; 1: along m or
// n), OUT (float or bf16), ACCUMULATE, STAGED (C leaves by TMA, which wants rows of whole 16 bytes and
// adds in f32 only; otherwise threads write their own elements).
#include "ptx/registers.cuh"
#include "tile/float.cuh"
#include "tile/fragment.cuh"
#include "tile/product.cuh"
#include "tile/staging.cuh"
#include "tile/tile_order.cuh"

constexpr int TILE_M = 128, CONSUMERS = 2;
using A = Operand<A_MAJOR, TILE_M>;
using B = Operand<B_MAJOR, TILE_N>;
constexpr u32 STAGE = A::BYTES + B::BYTES;
constexpr bool OUT_F32 = sizeof(OUT) == 4;
static_assert(!STAGED || !ACCUMULATE || OUT_F32, "TMA adds in f32");

struct Args {
  TensorMap a, b, c;         // `c` where it is staged
  OUT* out;                  // C, dense
  int m, n, k, batch;
  int a_batched, b_batched;  // 0 where a matrix is shared by the batch
};

DEVICE TileOrder tile_order(const Args& args) {
  return {(args.m + TILE_M - 1) / TILE_M, (args.n + TILE_N - 1) / TILE_N, args.batch};
}

DEVICE void produce(const Args& args, Ring<STAGES>& ring, u32 stages) {
  TileOrder order = tile_order(args);
  Cursor<STAGES> at;
  for (int i = blockIdx.x; i < order.count(); i += gridDim.x) {
    Tile tile = order.at(i);
    for (int k = 0; k < args.k; k += TILE_K, at.advance()) {
      u32 bar = ring.acquire(at, STAGE), stage = stages + at.stage * STAGE;
      A::load(stage, &args.a, bar, tile.row * TILE_M, k, tile.batch * args.a_batched);
      B::load(stage + A::BYTES, &args.b, bar, tile.column * TILE_N, k, tile.batch * args.b_batched);
    }
  }
}

// Stores a consumer's 64 rows of a tile by way of shared memory.
DEVICE void store_staged(const Args& args, const float (&sums)[TILE_N / 2], Staging& staging, int row,
                         int column, int batch) {
  constexpr int WIDTH = 128 / sizeof(OUT);  // columns of a piece
#pragma unroll
  for (int piece = 0; piece < TILE_N / WIDTH; ++piece) {
    u32 to = staging.begin();
    if (OUT_F32) {
      write_f32(to, sums + piece * WIDTH / 2);
    } else {
      write_bf16(to, sums + piece * WIDTH / 2);
    }
    staging.end<ACCUMULATE>(&args.c, column + piece * WIDTH, row, batch);
  }
}

// Stores them element by element.
DEVICE void store_directly(const Args& args, const float (&sums)[TILE_N / 2], int row, int column,
                           int batch) {
  row += fragment_row();
  column += fragment_column();
#pragma unroll
  for (int i = 0; i < TILE_N / 2; ++i) {
    int r = row + i % 4 / 2 * 8, c = column + i / 4 * 8 + i % 2;
    if (r >= args.m || c >= args.n) continue;
    OUT* to = args.out + ((long long)batch * args.m + r) * args.n + c;
    round_to(ACCUMULATE ? to_f32(*to) + sums[i] : sums[i], *to);
  }
}

DEVICE void consume(const Args& args, Ring<STAGES>& ring, u32 stages, u32 buffers, int consumer) {
  TileOrder order = tile_order(args);
  Staging staging = {buffers + consumer * 2 * PIECE, 1 + consumer};
  Cursor<STAGES> at;
  for (int i = blockIdx.x; i < order.count(); i += gridDim.x) {
    Tile tile = order.at(i);
    float sums[TILE_N / 2];
    multiply_tiles<A, B>(sums, ring, at, stages, 64 * consumer, args.k);
    int row = tile.row * TILE_M + 64 * consumer, column = tile.column * TILE_N;
    if (STAGED) {
      store_staged(args, sums, staging, row, column, tile.batch);
    } else {
      store_directly(args, sums, row, column, tile.batch);
    }
  }
  staging.finish();
}

extern "C" __global__ void __launch_bounds__((1 + CONSUMERS) * 128, 1)
    gemm(const __grid_constant__ Args args) {
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
