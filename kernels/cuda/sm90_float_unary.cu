// Functions of one element, y = f(x), and their backward, dx = dy f'(x).
// FLOAT: f32 or bf16. FUNCTION: one of the structs below.
#include "tile/math.cuh"
#include "tile/pack.cuh"

struct Exp {
  static DEVICE f32 value(f32 x) { return expf(x); }
  static DEVICE f32 derivative(f32 x) { return expf(x); }
};

struct Log {
  static DEVICE f32 value(f32 x) { return logf(x); }
  static DEVICE f32 derivative(f32 x) { return 1.0f / x; }
};

struct Sqrt {
  static DEVICE f32 value(f32 x) { return sqrtf(x); }
  static DEVICE f32 derivative(f32 x) { return 0.5f / sqrtf(x); }
};

struct Rsqrt {
  static DEVICE f32 value(f32 x) { return 1.0f / sqrtf(x); }
  static DEVICE f32 derivative(f32 x) { return -0.5f / (x * sqrtf(x)); }
};

struct Tanh {
  static DEVICE f32 value(f32 x) { return tanhf(x); }
  static DEVICE f32 derivative(f32 x) {
    f32 t = tanhf(x);
    return 1.0f - t * t;
  }
};

struct Sigmoid {
  static DEVICE f32 value(f32 x) { return sigmoid(x); }
  static DEVICE f32 derivative(f32 x) {
    f32 s = sigmoid(x);
    return s * (1.0f - s);
  }
};

struct Silu {
  static DEVICE f32 value(f32 x) { return x * sigmoid(x); }
  static DEVICE f32 derivative(f32 x) {
    f32 s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
};

struct Gelu {
  // The normal distribution function.
  static DEVICE f32 phi(f32 x) { return 0.5f * erfcf(-0.70710678f * x); }
  static DEVICE f32 value(f32 x) { return x * phi(x); }
  static DEVICE f32 derivative(f32 x) { return phi(x) + x * expf(-0.5f * x * x) * 0.3989423f; }
};

struct Relu {
  static DEVICE f32 value(f32 x) { return fmaxf(x, 0.0f); }
  static DEVICE f32 derivative(f32 x) { return x > 0.0f ? 1.0f : 0.0f; }
};

const int N = PACK_BYTES / sizeof(FLOAT);

extern "C" __global__ void __launch_bounds__(256) unary(const FLOAT* x, u64 len, FLOAT* y) {
  for_grid_packs<N>(len, aligned(x, y), [&](auto pack, u64 i) {
    auto in = pack.load(x + i);
    pack.store(y + i, [&](int k) { return FUNCTION::value(in[k]); });
  });
}

extern "C" __global__ void __launch_bounds__(256)
    unary_backward(const FLOAT* x, const FLOAT* dy, u64 len, FLOAT* dx) {
  for_grid_packs<N>(len, aligned(x, dy, dx), [&](auto pack, u64 i) {
    auto in = pack.load(x + i), d = pack.load(dy + i);
    pack.store(dx + i, [&](int k) { return d[k] * FUNCTION::derivative(in[k]); });
  });
}
