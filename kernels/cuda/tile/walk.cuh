// Elements of strided views.
#pragma once
#include "tile/float.cuh"

constexpr int MAX_RANK = 6;

// Where the elements of N views of one shape lie. Dimensions come innermost first; strides count
// elements. Views of rank 0 have one element, and a dimension of extent 1.
template <int N>
struct Walk {
  u32 rank;
  u32 extents[MAX_RANK];
  u64 strides[N][MAX_RANK];

  // Where element `index`, in row-major order, lies in each view.
  DEVICE void find(u64 index, u64 (&at)[N]) const {
#pragma unroll
    for (int n = 0; n < N; ++n) at[n] = 0;
    u32 axis = 0;
#pragma unroll 1
    for (; axis + 1 < rank; ++axis) {
      u32 position = take(index, extents[axis]);
#pragma unroll
      for (int n = 0; n < N; ++n) at[n] += position * strides[n][axis];
    }
#pragma unroll
    for (int n = 0; n < N; ++n) at[n] += index * strides[n][axis];
  }

 private:
  // The remainder of `index` over `extent`; `index` becomes the quotient.
  static DEVICE u32 take(u64& index, u32 extent) {
    u64 quotient = index >> 32 ? index / extent : (u32)index / extent;
    u32 rest = (u32)(index - quotient * extent);
    index = quotient;
    return rest;
  }
};
