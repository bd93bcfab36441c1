// Softmax of rows, y = exp(x - max) / sum, and its backward, dx = y (dy - sum(y dy)).
// FLOAT: f32 or bf16.
#include "tile/sum_exp.cuh"

constexpr int N = PACK_BYTES / sizeof(FLOAT);

extern "C" __global__ void __launch_bounds__(512)
    softmax(const FLOAT* x, u64 rows, u32 width, FLOAT* y) {
  u64 row = own_row();
  if (row >= rows) return;
  x += row * width;
  y += row * width;
  bool packed = width % N == 0 && aligned(x, y);
  auto all = row_sum_exp<N>(x, width, packed);
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto in = pack.load(x + i);
    pack.store(y + i, [&](int k) { return expf(in[k] - all.max) / all.sum; });
  });
}

extern "C" __global__ void __launch_bounds__(512)
    softmax_backward(const FLOAT* y, const FLOAT* dy, u64 rows, u32 width, FLOAT* dx) {
  u64 row = own_row();
  if (row >= rows) return;
  y += row * width;
  dy += row * width;
  dx += row * width;
  bool packed = width % N == 0 && aligned(y, dy, dx);
  f32 dot = 0.0f;
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto out = pack.load(y + i), d = pack.load(dy + i);
#pragma unroll
    for (int k = 0; k < pack.SIZE; ++k) dot += out[k] * d[k];
  });
  dot = row_sum(dot);
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto out = pack.load(y + i), d = pack.load(dy + i);
    pack.store(dx + i, [&](int k) { return out[k] * (d[k] - dot); });
  });
}
