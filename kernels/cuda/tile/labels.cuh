// Gradients of rows of logits.
#pragma once
#include "tile/sum_exp.cuh"

// The label that counts for nothing.
constexpr i64 IGNORE = -100;

template <int N, typename T>
DEVICE void clear_row(T* row, u32 width, bool packed) {
  for_row_packs<N>(width, packed,
                   [&](auto pack, u64 i) { pack.store(row + i, [](int) { return 0.0f; }); });
}

// (softmax - onehot) scale of a row of logits, whose exponentials sum up to `all` (here and
// elsewhere), to `gradient`, which may be the row itself. `label` counts from the row's first
// element and may lie outside.
template <int N, typename T>
DEVICE void write_gradient(const f32* z, SumExp all, i64 label, f32 scale, u32 width, bool packed,
                           T* gradient) {
  f32 factor = scale / all.sum;
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto in = pack.load(z + i);
    pack.store(gradient + i, [&](int k) {
      f32 p = expf(in[k] - all.max) * factor;
      return (i64)i + k == label ? p - scale : p;
    });
  });
}
