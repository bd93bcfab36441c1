// The norm of many tensors, and what clips it.
#include "tile/row.cuh"
#include "tile/tensors.cuh"

constexpr u32 MOST = 128;
constexpr int N = 4;

// The sum of squares of each block's share: f32 within a thread, f64 beyond.
extern "C" __global__ void __launch_bounds__(256)
    sum_squares(const __grid_constant__ Tensors<const f32*, MOST> tensors, f64* partial) {
  Share share = tensors.share();
  const f32* x = tensors.list[share.tensor] + share.start;
  f32 own = 0.0f;
  for_row_packs<N>(share.len, aligned(x), [&](auto pack, u64 i) {
    auto in = pack.load(x + i);
#pragma unroll
    for (int k = 0; k < pack.SIZE; ++k) own += in[k] * in[k];
  });
  f64 sum = row_sum((f64)own);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// What gradients times `scale`, whose squares sum up to `squares` before, are multiplied by so that
// their norm is at most `most` (0: no limit).
extern "C" __global__ void __launch_bounds__(32)
    clip_factor(const f64* squares, f64 scale, f64 most, f32* factor) {
  f64 norm = sqrt(*squares) * scale;
  if (threadIdx.x == 0) *factor = most > 0.0 && norm > most ? (f32)(most / (norm + 1e-6)) : 1.0f;
}
