// C = A B or C += A B for matrices of any strides, in f32 on plain cores: the product of f32
// operands, and of bf16 ones that tensor cores cannot read. FLOAT: f32 or bf16, of A and B. OUT:
// f32 or FLOAT, of C.
//
// A block computes a tile of C, a thread four by four elements of it. The contracted dimension is
// walked in steps of STEP, so that every element is one sum in order.
#include "tile/pack.cuh"
#include "tile/walk.cuh"

constexpr int TILE = 64;
constexpr int STEP = 16;
constexpr int THREADS = 256;
constexpr int SHARE = TILE * STEP / THREADS;  // elements of each operand's tile that a thread loads
constexpr int OWN = 4;                        // rows and columns of C of a thread

// A matrix: element (i, j) lies at i row_stride + j column_stride.
struct Matrix {
  const FLOAT* data;
  u64 row_stride, column_stride;
};

// How the block's threads divide a TILE by STEP tile of an operand, so that neighbours read
// neighbours: `line` counts along TILE, `step` along STEP.
struct Lines {
  int line, step, line_by, step_by;

  DEVICE Lines(bool along_step)
      : line(along_step ? threadIdx.x / STEP : threadIdx.x % TILE),
        step(along_step ? threadIdx.x % STEP : threadIdx.x / TILE),
        line_by(along_step ? THREADS / STEP : 0),
        step_by(along_step ? 0 : THREADS / TILE) {}
};

// The thread's share of a tile, read ahead while the last tile is worked on.
struct Ahead {
  f32 values[SHARE];

  // Lines are `line_stride` apart, steps `step_stride`; what lies beyond `lines` or `steps` is 0.
  DEVICE void load(const FLOAT* from, Lines own, u64 line_stride, u64 step_stride, u32 lines,
                   u32 steps) {
#pragma unroll
    for (int i = 0; i < SHARE; ++i) {
      u32 line = own.line + i * own.line_by, step = own.step + i * own.step_by;
      bool inside = line < lines && step < steps;
      values[i] = inside ? to_f32(from[line * line_stride + step * step_stride]) : 0.0f;
    }
  }

  DEVICE void store(f32 (&tile)[STEP][TILE + 4], Lines own) const {
#pragma unroll
    for (int i = 0; i < SHARE; ++i)
      tile[own.step + i * own.step_by][own.line + i * own.line_by] = values[i];
  }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    gemm(Matrix a, Matrix b, OUT* c, const __grid_constant__ Walk<2> walk, u32 batch, u32 m, u32 n,
         u32 k, bool accumulate) {
  __shared__ __align__(16) f32 tile_a[STEP][TILE + 4], tile_b[STEP][TILE + 4];
  Lines lines_a(a.column_stride <= a.row_stride), lines_b(b.row_stride < b.column_stride);
  u32 top = blockIdx.y * TILE, left = blockIdx.x * TILE;
  u32 own_row = threadIdx.x / 16 * OWN, own_column = threadIdx.x % 16 * OWN;
  for (u32 matrix = blockIdx.z; matrix < batch; matrix += gridDim.z) {
    u64 at[2];
    walk.find(matrix, at);
    const FLOAT* from_a = a.data + at[0] + top * a.row_stride;
    const FLOAT* from_b = b.data + at[1] + left * b.column_stride;
    f32 sums[OWN][OWN] = {};
    Ahead next_a, next_b;
    auto load = [&](u32 step) {
      next_a.load(from_a + step * a.column_stride, lines_a, a.row_stride, a.column_stride, m - top,
                  k - step);
      next_b.load(from_b + step * b.row_stride, lines_b, b.column_stride, b.row_stride, n - left,
                  k - step);
    };
    if (k > 0) load(0);
    for (u32 step = 0; step < k; step += STEP) {
      next_a.store(tile_a, lines_a);
      next_b.store(tile_b, lines_b);
      __syncthreads();
      if (step + STEP < k) load(step + STEP);
#pragma unroll
      for (int i = 0; i < STEP; ++i) {
        auto x = Pack<OWN>::load(&tile_a[i][own_row]), y = Pack<OWN>::load(&tile_b[i][own_column]);
#pragma unroll
        for (int row = 0; row < OWN; ++row) {
#pragma unroll
          for (int column = 0; column < OWN; ++column) {
            sums[row][column] = fmaf(x[row], y[column], sums[row][column]);
          }
        }
      }
      __syncthreads();
    }
    OUT* to = c + (u64)matrix * m * n;
#pragma unroll
    for (int row = 0; row < OWN; ++row) {
#pragma unroll
      for (int column = 0; column < OWN; ++column) {
        u32 i = top + own_row + row, j = left + own_column + column;
        if (i >= m || j >= n) continue;
        OUT& element = to[(u64)i * n + j];
        round_to(accumulate ? to_f32(element) + sums[row][column] : sums[row][column], element);
      }
    }
  }
}
