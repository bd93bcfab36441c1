// RMSNorm of rows, y = x r w with r = 1 / sqrt(mean(x^2) + eps), and its backward: with g = dy w,
// dx = r (g - x r^2 mean(g x)), dw = sum over rows of dy x r. FLOAT: f32 or bf16.
#include "tile/column_sums.cuh"
#include "tile/row.cuh"

constexpr int N = PACK_BYTES / sizeof(FLOAT);

DEVICE void apply(const FLOAT* x, const FLOAT* weight, f32 r, u32 width, bool packed, FLOAT* y) {
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto in = pack.load(x + i), w = pack.load(weight + i);
    pack.store(y + i, [&](int k) { return in[k] * r * w[k]; });
  });
}

extern "C" __global__ void __launch_bounds__(512)
    rms_norm(const FLOAT* x, const FLOAT* weight, f32 eps, u64 rows, u32 width, FLOAT* y,
             f32* rstd) {
  u64 row = own_row();
  if (row >= rows) return;
  x += row * width;
  y += row * width;
  bool packed = width % N == 0 && aligned(x, weight, y);
  f32 squares = 0.0f;
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto in = pack.load(x + i);
#pragma unroll
    for (int k = 0; k < pack.SIZE; ++k) squares += in[k] * in[k];
  });
  f32 r = 1.0f / sqrtf(row_sum(squares) / width + eps);
  if (threadIdx.x == 0) rstd[row] = r;
  apply(x, weight, r, width, packed, y);
}

// The same y again, bit for bit.
extern "C" __global__ void __launch_bounds__(512)
    rms_norm_apply(const FLOAT* x, const FLOAT* weight, const f32* rstd, u64 rows, u32 width,
                   FLOAT* y) {
  u64 row = own_row();
  if (row >= rows) return;
  x += row * width;
  y += row * width;
  apply(x, weight, rstd[row], width, width % N == 0 && aligned(x, weight, y), y);
}

// A block handles `share` rows, one after the other, and leaves their part of dw in its row of
// `partial` [blocks, width], unless that is null.
extern "C" __global__ void __launch_bounds__(512)
    rms_norm_backward(const FLOAT* x, const FLOAT* weight, const f32* rstd, const FLOAT* dy,
                      u64 rows, u32 width, u32 share, FLOAT* dx, f32* partial) {
  bool packed = width % N == 0 && aligned(x, weight, dy, dx);
  ColumnSums dweight(0, width);
  if (partial) dweight.clear<N>(packed);
  u64 first = (u64)blockIdx.x * share, last = min(first + share, rows);
  for (u64 row = first; row < last; ++row) {
    const FLOAT *own_x = x + row * width, *own_dy = dy + row * width;
    f32 r = rstd[row], dot = 0.0f;
    for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
      auto in = pack.load(own_x + i), w = pack.load(weight + i), d = pack.load(own_dy + i);
#pragma unroll
      for (int k = 0; k < pack.SIZE; ++k) dot += d[k] * w[k] * in[k];
    });
    f32 pull = r * r * r * row_sum(dot) / width;
    for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
      auto in = pack.load(own_x + i), w = pack.load(weight + i), d = pack.load(own_dy + i);
      pack.store(dx + row * width + i, [&](int k) { return r * d[k] * w[k] - pull * in[k]; });
      if (partial) dweight.add(pack, i, [&](int k) { return d[k] * in[k] * r; });
    });
  }
  if (partial) dweight.store<N>(packed, partial + (u64)blockIdx.x * width);
}
