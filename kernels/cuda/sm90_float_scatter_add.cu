// Adds row i of `dout` to row ids[i] of `dtable` (f32), in the order of i. FLOAT: f32 or bf16.
//
// No two blocks write the same row: among rows of one id, the block of the first adds them all.
#include "tile/pack.cuh"

constexpr int THREADS = 256;
constexpr int COLUMNS = 4;  // of one thread, THREADS apart

// Whether any of the block's threads says so.
DEVICE bool any(bool said) { return __syncthreads_or(said); }

extern "C" __global__ void __launch_bounds__(THREADS)
    scatter_add(const FLOAT* dout, const u32* ids, u32 rows, u32 width, u32 vocab, f32* dtable) {
  u32 own = blockIdx.x, id = ids[own];
  if (id >= vocab) return;
  for (u32 start = 0; start < own; start += THREADS) {
    u32 row = start + threadIdx.x;
    if (any(row < own && ids[row] == id)) return;
  }
  __shared__ u32 found[THREADS / 32];
  f32* to = dtable + (u64)id * width;
  u32 first = blockIdx.y * THREADS * COLUMNS + threadIdx.x;
  f32 sums[COLUMNS];
#pragma unroll
  for (int k = 0; k < COLUMNS; ++k)
    sums[k] = first + k * THREADS < width ? to[first + k * THREADS] : 0.0f;
  for (u32 start = own; start < rows; start += THREADS) {
    u32 row = start + threadIdx.x;
    u32 lanes = __ballot_sync(0xffffffffu, row < rows && ids[row] == id);
    if (!any(lanes != 0)) continue;  // all have read what was found before
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = lanes;
    __syncthreads();
    for (u32 warp = 0; warp < THREADS / 32; ++warp) {
      for (u32 rest = found[warp]; rest != 0; rest &= rest - 1) {
        const FLOAT* from = dout + (u64)(start + warp * 32 + __ffs(rest) - 1) * width;
#pragma unroll
        for (int k = 0; k < COLUMNS; ++k) {
          if (first + k * THREADS < width) sums[k] += to_f32(from[first + k * THREADS]);
        }
      }
    }
  }
#pragma unroll
  for (int k = 0; k < COLUMNS; ++k) {
    if (first + k * THREADS < width) to[first + k * THREADS] = sums[k];
  }
}
