// SwiGLU: out = silu(gate) up, and its backward. FLOAT: f32 or bf16.
#include "tile/math.cuh"
#include "tile/pack.cuh"

const int N = PACK_BYTES / sizeof(FLOAT);

extern "C" __global__ void __launch_bounds__(256)
    swiglu(const FLOAT* gate, const FLOAT* up, u64 len, FLOAT* out) {
  for_grid_packs<N>(len, aligned(gate, up, out), [&](auto pack, u64 i) {
    auto g = pack.load(gate + i), u = pack.load(up + i);
    pack.store(out + i, [&](int k) { return g[k] * sigmoid(g[k]) * u[k]; });
  });
}

extern "C" __global__ void __launch_bounds__(256)
    swiglu_backward(const FLOAT* gate, const FLOAT* up, const FLOAT* dout, u64 len, FLOAT* dgate,
                    FLOAT* dup) {
  for_grid_packs<N>(len, aligned(gate, up, dout, dgate, dup), [&](auto pack, u64 i) {
    auto g = pack.load(gate + i), u = pack.load(up + i), d = pack.load(dout + i);
    decltype(pack) s;
#pragma unroll
    for (int k = 0; k < pack.SIZE; ++k) s[k] = sigmoid(g[k]);
    pack.store(dup + i, [&](int k) { return d[k] * g[k] * s[k]; });
    pack.store(dgate + i,
               [&](int k) { return d[k] * u[k] * s[k] * (1.0f + g[k] * (1.0f - s[k])); });
  });
}
