// Arithmetic on strided views: c = a (op) b with broadcasting.
// FLOAT: f32 or bf16. OPERATION: one of the structs below.
#include "tile/walk_packs.cuh"

struct Add {
  static DEVICE f32 of(f32 a, f32 b) { return a + b; }
};

struct Subtract {
  static DEVICE f32 of(f32 a, f32 b) { return a - b; }
};

struct Multiply {
  static DEVICE f32 of(f32 a, f32 b) { return a * b; }
};

struct Divide {
  static DEVICE f32 of(f32 a, f32 b) { return a / b; }
};

extern "C" __global__ void __launch_bounds__(256)
    binary(const FLOAT* a, const FLOAT* b, FLOAT* c, const __grid_constant__ Walk<2> walk,
           u64 count, bool packed, bool same_a, bool same_b) {
  for_walked(count, packed, [&](auto pack, u64 i) {
    u64 at[2];
    walk.find(i, at);
    auto x = load(pack, a + at[0], same_a), y = load(pack, b + at[1], same_b);
    pack.store(c + i * pack.SIZE, [&](int k) { return OPERATION::of(x[k], y[k]); });
  });
}
