// Adds rows to one: sum[c] += part[0][c] + part[1][c] + ..., in this order.
#include "tile/float.cuh"

extern "C" __global__ void __launch_bounds__(128)
    add_rows(const f32* parts, u32 rows, u32 width, f32* sum) {
  u32 column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= width) return;
  f32 all = sum[column];
#pragma unroll 8
  for (u32 row = 0; row < rows; ++row) all += parts[(u64)row * width + column];
  sum[column] = all;
}
