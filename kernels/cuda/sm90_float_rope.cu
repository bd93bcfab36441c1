// Rotary position embedding, half-split: in each head, elements j and j + head_dim / 2 are rotated
// by the angle of their row. FLOAT: f32 or bf16. y may be x.
#include "tile/pack.cuh"

// Pairs of a head, at most.
constexpr int MAX_PAIRS = 256;

// The rotation of the first row, by pair.
struct Base {
  f32 cosine[MAX_PAIRS], sine[MAX_PAIRS];
};

constexpr int N = PACK_BYTES / sizeof(FLOAT);

// Blocks along y are rows. `cosines` and `sines` [rows, pairs] are the rotations of local
// positions; `sign` is 1, or -1 to rotate back.
extern "C" __global__ void __launch_bounds__(256)
    rope(const FLOAT* x, const f32* cosines, const f32* sines, const __grid_constant__ Base base,
         u64 rows, u32 heads, u32 pairs, f32 sign, FLOAT* y) {
  // Lanes read different pairs, which is slow among a kernel's parameters.
  __shared__ Base first;
  for (u32 j = threadIdx.x; j < pairs; j += blockDim.x) {
    first.cosine[j] = base.cosine[j];
    first.sine[j] = base.sine[j];
  }
  __syncthreads();
  bool packed = pairs % N == 0 && aligned(x, y, cosines, sines);
  u32 together = packed ? N : 1;
  for (u64 row = blockIdx.y; row < rows; row += gridDim.y) {
    const f32 *cosine = cosines + row * pairs, *sine = sines + row * pairs;
    auto rotate = [&](auto pack, u64 i) {
      u32 head = (u32)i / (pairs / together), j = (u32)i % (pairs / together) * together;
      auto c = pack.load(cosine + j), s = pack.load(sine + j);
      auto turned_c = pack, turned_s = pack;
#pragma unroll
      for (int k = 0; k < pack.SIZE; ++k) {
        // cos(a + b) and sin(a + b) of the row's own angle and the first row's.
        f32 base_c = first.cosine[j + k], base_s = first.sine[j + k];
        turned_c[k] = c[k] * base_c - s[k] * base_s;
        turned_s[k] = sign * (s[k] * base_c + c[k] * base_s);
      }
      u64 at = (row * heads + head) * 2 * pairs + j;
      auto a = pack.load(x + at), b = pack.load(x + at + pairs);
      pack.store(y + at, [&](int k) { return a[k] * turned_c[k] - b[k] * turned_s[k]; });
      pack.store(y + at + pairs, [&](int k) { return b[k] * turned_c[k] + a[k] * turned_s[k]; });
    };
    u64 count = (u64)heads * (pairs / together);
    if (packed) {
      for_grid(count, [&](u64 i) { rotate(Pack<N>(), i); });
    } else {
      for_grid(count, [&](u64 i) { rotate(Pack<1>(), i); });
    }
  }
}
