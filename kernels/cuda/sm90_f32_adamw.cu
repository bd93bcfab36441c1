// One AdamW step on many tensors at once. Rounded after each operation, as on the CPU.
#include "tile/pack.cuh"
#include "tile/tensors.cuh"

// All as long as each other; `low`, the weight's bf16 copy, may be null.
struct Parameter {
  f32 *weight, *m, *v;
  const f32* grad;
  bf16* low;
  f32 decay;  // what the weight is multiplied by
  u32 unused;
};

struct Settings {
  f32 beta1, beta2, eps;
  f32 rate;  // the learning rate over the first moment's bias correction
  f32 root;  // the square root of the second moment's
  f32 grad_scale;
};

constexpr u32 MOST = 64;
constexpr int N = 4;

// Gradients are multiplied by `grad_scale`, and by `*clip` unless that is null.
extern "C" __global__ void __launch_bounds__(256)
    adamw(const __grid_constant__ Tensors<Parameter, MOST> tensors, Settings s, const f32* clip) {
  Share share = tensors.share();
  const Parameter& p = tensors.list[share.tensor];
  f32 scale = clip ? __fmul_rn(s.grad_scale, *clip) : s.grad_scale;
  f32 rest1 = 1.0f - s.beta1, rest2 = 1.0f - s.beta2;
  bool packed = aligned(p.weight, p.m, p.v, p.grad, p.low);
  for_packs<N>(share.len, packed, threadIdx.x, blockDim.x, [&](auto pack, u64 i) {
    i += share.start;
    auto w = pack.load(p.weight + i), m = pack.load(p.m + i), v = pack.load(p.v + i);
    auto g = pack.load(p.grad + i);
#pragma unroll
    for (int k = 0; k < pack.SIZE; ++k) {
      f32 grad = __fmul_rn(g[k], scale);
      m[k] = __fadd_rn(__fmul_rn(s.beta1, m[k]), __fmul_rn(rest1, grad));
      v[k] = __fadd_rn(__fmul_rn(s.beta2, v[k]), __fmul_rn(__fmul_rn(rest2, grad), grad));
      f32 size = __fadd_rn(__fdiv_rn(__fsqrt_rn(v[k]), s.root), s.eps);
      w[k] = __fsub_rn(__fmul_rn(w[k], p.decay), __fdiv_rn(__fmul_rn(s.rate, m[k]), size));
    }
    pack.store(p.weight + i, [&](int k) { return w[k]; });
    pack.store(p.m + i, [&](int k) { return m[k]; });
    pack.store(p.v + i, [&](int k) { return v[k]; });
    if (p.low) pack.store(p.low + i, [&](int k) { return w[k]; });
  });
}
