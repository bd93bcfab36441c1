// sum += x for a strided view x. FLOAT: f32 or bf16. SUM: f32 or FLOAT.
#include "tile/walk_packs.cuh"

extern "C" __global__ void __launch_bounds__(256)
    accumulate(const FLOAT* x, SUM* sum, const __grid_constant__ Walk<1> walk, u64 count,
               bool packed, bool same) {
  for_walked(count, packed, [&](auto pack, u64 i) {
    u64 at[1];
    walk.find(i, at);
    auto in = load(pack, x + at[0], same), old = pack.load(sum + i * pack.SIZE);
    pack.store(sum + i * pack.SIZE, [&](int k) { return old[k] + in[k]; });
  });
}
