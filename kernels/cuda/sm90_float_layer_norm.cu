// LayerNorm of rows, y = n w + b with n = (x - mean) r and r = 1 / sqrt(variance + eps), and its
// backward: with g = dy w, dx = r (g - mean(g) - n mean(g n)), dw = sum over rows of dy n, db of
// dy. FLOAT: f32 or bf16.
#include "tile/column_sums.cuh"
#include "tile/row.cuh"

constexpr int N = PACK_BYTES / sizeof(FLOAT);

// What is saved of a row.
struct Statistics {
  f32 mean, r;
};

DEVICE void apply(const FLOAT* x, const FLOAT* weight, const FLOAT* bias, Statistics s, u32 width,
                  bool packed, FLOAT* y) {
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto in = pack.load(x + i), w = pack.load(weight + i), b = pack.load(bias + i);
    pack.store(y + i, [&](int k) { return (in[k] - s.mean) * s.r * w[k] + b[k]; });
  });
}

extern "C" __global__ void __launch_bounds__(512)
    layer_norm(const FLOAT* x, const FLOAT* weight, const FLOAT* bias, f32 eps, u64 rows, u32 width,
               FLOAT* y, Statistics* statistics) {
  u64 row = own_row();
  if (row >= rows) return;
  x += row * width;
  y += row * width;
  bool packed = width % N == 0 && aligned(x, weight, bias, y);
  f32 sum = 0.0f, squares = 0.0f;
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto in = pack.load(x + i);
#pragma unroll
    for (int k = 0; k < pack.SIZE; ++k) sum += in[k];
  });
  Statistics own;
  own.mean = row_sum(sum) / width;
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
    auto in = pack.load(x + i);
#pragma unroll
    for (int k = 0; k < pack.SIZE; ++k) squares += (in[k] - own.mean) * (in[k] - own.mean);
  });
  own.r = 1.0f / sqrtf(row_sum(squares) / width + eps);
  if (threadIdx.x == 0) statistics[row] = own;
  apply(x, weight, bias, own, width, packed, y);
}

// The same y again, bit for bit.
extern "C" __global__ void __launch_bounds__(512)
    layer_norm_apply(const FLOAT* x, const FLOAT* weight, const FLOAT* bias,
                     const Statistics* statistics, u64 rows, u32 width, FLOAT* y) {
  u64 row = own_row();
  if (row >= rows) return;
  x += row * width;
  y += row * width;
  apply(x, weight, bias, statistics[row], width, width % N == 0 && aligned(x, weight, bias, y), y);
}

// A block handles `share` rows, one after the other, and leaves their part of dw and db in its rows
// of `partial` [2, blocks, width], unless that is null.
extern "C" __global__ void __launch_bounds__(512)
    layer_norm_backward(const FLOAT* x, const FLOAT* weight, const Statistics* statistics,
                        const FLOAT* dy, u64 rows, u32 width, u32 share, FLOAT* dx, f32* partial) {
  bool packed = width % N == 0 && aligned(x, weight, dy, dx);
  ColumnSums dweight(0, width), dbias(1, width);
  if (partial) {
    dweight.clear<N>(packed);
    dbias.clear<N>(packed);
  }
  u64 first = (u64)blockIdx.x * share, last = min(first + share, rows);
  for (u64 row = first; row < last; ++row) {
    const FLOAT *own_x = x + row * width, *own_dy = dy + row * width;
    Statistics own = statistics[row];
    f32 sum_g = 0.0f, sum_gn = 0.0f;
    for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
      auto in = pack.load(own_x + i), w = pack.load(weight + i), d = pack.load(own_dy + i);
#pragma unroll
      for (int k = 0; k < pack.SIZE; ++k) {
        sum_g += d[k] * w[k];
        sum_gn += d[k] * w[k] * ((in[k] - own.mean) * own.r);
      }
    });
    f32 mean_g = row_sum(sum_g) / width, mean_gn = row_sum(sum_gn) / width;
    for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
      auto in = pack.load(own_x + i), w = pack.load(weight + i), d = pack.load(own_dy + i);
      auto n = [&](int k) { return (in[k] - own.mean) * own.r; };
      pack.store(dx + row * width + i,
                 [&](int k) { return own.r * (d[k] * w[k] - mean_g - n(k) * mean_gn); });
      if (!partial) return;
      dweight.add(pack, i, [&](int k) { return d[k] * n(k); });
      dbias.add(pack, i, [&](int k) { return d[k]; });
    });
  }
  if (!partial) return;
  dweight.store<N>(packed, partial + (u64)blockIdx.x * width);
  dbias.store<N>(packed, partial + ((u64)gridDim.x + blockIdx.x) * width);
}
