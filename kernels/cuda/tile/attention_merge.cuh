// Two partial results of attention as one.
#pragma once
#include "tile/float.cuh"

// The log-sum-exp over both sets of keys, and what each partial output counts in the whole.
struct Merged {
  f32 lse, old_part, new_part;

  static DEVICE Merged of(f32 old, f32 more) {
    f32 top = fmaxf(old, more);
    if (top == -infinity()) return {top, 0.0f, 0.0f};  // neither has seen a key
    f32 lse = top + logf(expf(old - top) + expf(more - top));
    return {lse, expf(old - lse), expf(more - lse)};
  }
};
