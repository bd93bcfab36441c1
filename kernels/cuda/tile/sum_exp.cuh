// Sums of exponentials that do not overflow.
#pragma once
#include "tile/row.cuh"

// The largest of some numbers, and the sum of the exponentials of all less it. One pass over the
// numbers: when a larger one turns up, the sum so far is scaled.
struct SumExp {
  f32 max = -infinity();
  f32 sum = 0.0f;

  template <int N>
  DEVICE void add(const Pack<N>& numbers) {
    f32 top = max;
#pragma unroll
    for (int k = 0; k < N; ++k) top = fmaxf(top, numbers[k]);
    sum *= expf(max - base(top));
#pragma unroll
    for (int k = 0; k < N; ++k) sum += expf(numbers[k] - base(top));
    max = top;
  }

  // Both together, bit for bit the same either way.
  static DEVICE SumExp of(SumExp a, SumExp b) {
    SumExp both;
    both.max = fmaxf(a.max, b.max);
    f32 scale_a = expf(a.max - base(both.max)), scale_b = expf(b.max - base(both.max));
    both.sum = __fadd_rn(__fmul_rn(a.sum, scale_a), __fmul_rn(b.sum, scale_b));
    return both;
  }

 private:
  // While only -infinity was seen, any finite number keeps its exponentials at 0.
  static DEVICE f32 base(f32 max) { return max == -infinity() ? 0.0f : max; }
};

DEVICE SumExp from_lane(SumExp value, int mask) {
  SumExp other;
  other.max = from_lane(value.max, mask);
  other.sum = from_lane(value.sum, mask);
  return other;
}

// Of a row of `width` numbers; all its threads get the result.
template <int N, typename T>
DEVICE SumExp row_sum_exp(const T* row, u32 width, bool packed) {
  SumExp own;
  for_row_packs<N>(width, packed, [&](auto pack, u64 i) { own.add(pack.load(row + i)); });
  return combine(own, [](SumExp a, SumExp b) { return SumExp::of(a, b); });
}
