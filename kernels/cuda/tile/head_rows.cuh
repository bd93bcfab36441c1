// A warpgroup's 64 rows of one head, in registers, on their way to a tensor [row][head][dim] of bf16.
#pragma once
#include "tile/softmax.cuh"
#include "tile/staging.cuh"

// Adds `factor` times what memory holds of this thread's rows: of the first (0) or the second (1).
template <int COUNT>
DEVICE void add_head_row(float (&x)[COUNT], int half, const bf16* row, float factor, int head_dim) {
  int column = fragment_column();
#pragma unroll
  for (int i = 2 * half; i < COUNT; i += 4)
    if (column + i / 4 * 8 < head_dim) {
      u32 pair = *(const u32*)(row + column + i / 4 * 8);
      x[i] += low_bf16(pair) * factor;
      x[i + 1] += high_bf16(pair) * factor;
    }
}

// Stores them by way of shared memory, `panel` bytes to each 64 columns, which must be free.
template <int COUNT>
DEVICE void store_head_rows(const TensorMap* map, const float (&x)[COUNT], u32 staging, u32 panel,
                            int row, int head, int barrier) {
#pragma unroll
  for (int i = 0; i < COUNT / 32; ++i) write_bf16(staging + i * panel, x + 32 * i);
  fence::async_proxy();
  barrier::sync(barrier, 128);
  if (threadIdx.x % 128 == 0) {
    for (int i = 0; i < COUNT / 32; ++i) tma::store(map, staging + i * panel, i * 64, head, row);
    tma::commit();
    tma::wait_read<0>();
  }
}
