// Rows of a matrix: the threads along x of a block share a row, and those along y have rows of
// their own. A row's threads are whole warps; several rows of a block have one warp each.
#pragma once
#include "tile/pack.cuh"

// The row of this thread.
DEVICE u64 own_row() { return (u64)blockIdx.x * blockDim.y + threadIdx.y; }

template <typename T>
DEVICE T from_lane(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// Puts together one value of each thread of a row by `f`, which is commutative: lanes in a
// butterfly, then warps in their order. All get the result, which depends on nothing but the number
// of threads.
template <typename T, typename F>
DEVICE T combine(T value, F f) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) value = f(value, from_lane(value, mask));
  if (blockDim.x == 32) return value;
  __shared__ T warps[32];
  __syncthreads();  // nobody reads what the last call left
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warps[0];
  for (int warp = 1; warp < blockDim.x / 32; ++warp) value = f(value, warps[warp]);
  return value;
}

template <typename T>
DEVICE T row_sum(T value) {
  return combine(value, [](T a, T b) { return a + b; });
}

DEVICE f32 row_max(f32 value) {
  return combine(value, [](f32 a, f32 b) { return fmaxf(a, b); });
}

// Calls f(pack, start) for this thread's part of a row of `width` elements.
template <int N, typename F>
DEVICE void for_row_packs(u32 width, bool packed, F f) {
  for_packs<N>(width, packed, threadIdx.x, blockDim.x, f);
}
