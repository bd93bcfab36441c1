// Shares of a grid.
#pragma once
#include "ptx/types.cuh"

// Calls f(i) for each i below `count`, shared by all threads of the grid's first dimension.
template <typename F>
DEVICE void for_grid(u64 count, F f) {
  u64 threads = (u64)gridDim.x * blockDim.x;
#pragma unroll 1
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += threads) f(i);
}
