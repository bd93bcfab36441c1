// A list of tensors, divided among blocks.
#pragma once
#include "tile/float.cuh"

// Elements of a block, a multiple of every pack.
constexpr u32 SHARE = 1 << 14;

// Elements `start..start + len` of a tensor of the list.
struct Share {
  u32 tensor, len;
  u64 start;
};

// Tensors and their lengths. Blocks in order take shares of the first tensor, then of the second,
// and so on; those of tensor i end before block `ends[i]`.
template <typename T, u32 MOST>
struct Tensors {
  T list[MOST];
  u64 lens[MOST];
  u32 ends[MOST];

  // This block's.
  DEVICE Share share() const {
    Share share;
    share.tensor = 0;
    while (ends[share.tensor] <= blockIdx.x) ++share.tensor;
    u32 before = share.tensor > 0 ? ends[share.tensor - 1] : 0;
    share.start = (u64)(blockIdx.x - before) * SHARE;
    share.len = (u32)min((u64)SHARE, lens[share.tensor] - share.start);
    return share;
  }
};
