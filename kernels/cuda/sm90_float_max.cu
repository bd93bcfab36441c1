// The maximum of each row and where it is, and the backward: dx is dy there and 0 elsewhere.
// FLOAT: f32 or bf16. The first of equal elements counts; NaN wins over all.
#include "tile/row.cuh"

constexpr int N = PACK_BYTES / sizeof(FLOAT);

struct Best {
  f32 value;
  u32 at;

  // Whether it comes before `other`.
  DEVICE bool beats(Best other) const {
    bool nan = value != value, other_nan = other.value != other.value;
    if (nan != other_nan) return nan;
    if (nan || value == other.value) return at < other.at;
    return value > other.value;
  }
};

DEVICE Best from_lane(Best best, int mask) {
  Best other;
  other.value = from_lane(best.value, mask);
  other.at = from_lane(best.at, mask);
  return other;
}

extern "C" __global__ void __launch_bounds__(512)
    max_rows(const FLOAT* x, u64 rows, u32 width, FLOAT* values, u32* places) {
  u64 row = own_row();
  if (row >= rows) return;
  x += row * width;
  Best best;
  best.value = -infinity();
  best.at = 0xffffffffu;  // threads without elements lose to all others
  for_row_packs<N>(width, width % N == 0 && aligned(x), [&](auto pack, u64 i) {
    auto in = pack.load(x + i);
#pragma unroll
    for (int k = 0; k < pack.SIZE; ++k) {
      Best other;
      other.value = in[k];
      other.at = (u32)i + k;
      if (other.beats(best)) best = other;
    }
  });
  best = combine(best, [](Best a, Best b) { return a.beats(b) ? a : b; });
  if (threadIdx.x > 0) return;
  values[row] = x[best.at];
  places[row] = best.at;
}

extern "C" __global__ void __launch_bounds__(512)
    max_rows_backward(const FLOAT* dy, const u32* places, u64 rows, u32 width, FLOAT* dx) {
  u64 row = own_row();
  if (row >= rows) return;
  dx += row * width;
  u32 place = places[row];
  f32 d = to_f32(dy[row]);
  for_row_packs<N>(width, width % N == 0 && aligned(dx), [&](auto pack, u64 i) {
    pack.store(dx + i, [&](int k) { return i + k == place ? d : 0.0f; });
  });
}
