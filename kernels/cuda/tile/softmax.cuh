// Scores of a warpgroup's 64 rows in the registers of a product: masks, and softmax as more columns
// come. Of each thread's two rows, 8 apart, four neighbouring lanes hold the columns.
#pragma once
#include "ptx/math.cuh"
#include "tile/fragment.cuh"

DEVICE float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

DEVICE float row_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// Columns from `end` on do not count, or from `end_below` on in this thread's second row.
template <int COUNT>
DEVICE void mask_columns(float (&s)[COUNT], int end, int end_below) {
  int column = fragment_column();
#pragma unroll
  for (int i = 0; i < COUNT; ++i)
    if (column + i / 4 * 8 + i % 2 >= (i % 4 < 2 ? end : end_below)) s[i] = NEG_INF;
}

struct RowStats {
  float max[2] = {NEG_INF, NEG_INF};
  float sum[2] = {0.0f, 0.0f};  // of this thread's columns

  // Scores become 2^(scale (s - max)) with the new maximum; what was summed before counts `decay`.
  template <int COUNT>
  DEVICE void add(float (&s)[COUNT], float scale, float (&decay)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = NEG_INF;
#pragma unroll
      for (int i = 2 * half; i < COUNT; i += 4) top = fmaxf(top, fmaxf(s[i], s[i + 1]));
      top = fmaxf(max[half], row_max(top));
      // A row that has seen nothing yet must not subtract infinities.
      float shift = top == NEG_INF ? 0.0f : top * scale;
      decay[half] = exp2_approx(max[half] * scale - shift);
      max[half] = top;
      float added = 0.0f;
#pragma unroll
      for (int i = 2 * half; i < COUNT; i += 4)
#pragma unroll
        for (int j = i; j < i + 2; ++j) {
          s[j] = exp2_approx(s[j] * scale - shift);
          added += s[j];
        }
      sum[half] = sum[half] * decay[half] + added;
    }
  }
};
