// y = x factor + term on a strided view. FLOAT: f32 or bf16.
#include "tile/walk_packs.cuh"

// A product alone is rounded once, as is a sum, if the other constant is -0 or 1.
extern "C" __global__ void __launch_bounds__(256)
    affine(const FLOAT* x, f32 factor, f32 term, FLOAT* y, const __grid_constant__ Walk<1> walk,
           u64 count, bool packed, bool same) {
  for_walked(count, packed, [&](auto pack, u64 i) {
    u64 at[1];
    walk.find(i, at);
    auto in = load(pack, x + at[0], same);
    pack.store(y + i * pack.SIZE, [&](int k) { return fmaf(in[k], factor, term); });
  });
}
