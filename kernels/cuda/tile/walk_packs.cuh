// Packs of elements of strided views of one dtype, FLOAT.
//
// Views are walked in packs of N neighbours if every operand's neighbours lie side by side (or are
// one and the same element) at addresses that allow it, else element by element. Walks count packs.
#pragma once
#include "tile/pack.cuh"
#include "tile/walk.cuh"

constexpr int N = PACK_BYTES / sizeof(FLOAT);

// A pack of neighbours at `from`, or, where `same`, of that one element.
template <typename P>
DEVICE P load(P pack, const FLOAT* from, bool same) {
  if (!same) return pack.load(from);
#pragma unroll
  for (int k = 0; k < pack.SIZE; ++k) pack[k] = to_f32(*from);
  return pack;
}

// Calls f(pack, i) for each of `count` packs, of N or of one.
template <typename F>
DEVICE void for_walked(u64 count, bool packed, F f) {
  if (packed) {
    for_grid(count, [&](u64 i) { f(Pack<N>(), i); });
  } else {
    for_grid(count, [&](u64 i) { f(Pack<1>(), i); });
  }
}
