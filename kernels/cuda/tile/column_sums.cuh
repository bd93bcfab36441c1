// Sums over the rows that a block handles, column by column, in shared memory.
#pragma once
#include "tile/row.cuh"

// One f32 per column in the block's dynamic shared memory, of which there are `index` times `width`
// before them. A thread has the same columns in every row, so that there is nothing to wait for.
struct ColumnSums {
  f32* sums;
  u32 width;

  DEVICE ColumnSums(u32 index, u32 width) : width(width) {
    extern __shared__ __align__(PACK_BYTES) f32 column_sums[];
    sums = column_sums + (u64)index * width;
  }

  // Zeros this thread's columns.
  template <int N>
  DEVICE void clear(bool packed) {
    for_row_packs<N>(width, packed,
                     [&](auto pack, u64 i) { pack.store(sums + i, [](int) { return 0.0f; }); });
  }

  // Adds f(k) to column i + k, for all of a pack.
  template <typename P, typename F>
  DEVICE void add(P pack, u64 i, F f) {
    auto old = pack.load(sums + i);
    pack.store(sums + i, [&](int k) { return old[k] + f(k); });
  }

  // Writes this thread's columns.
  template <int N>
  DEVICE void store(bool packed, f32* to) const {
    for_row_packs<N>(width, packed, [&](auto pack, u64 i) {
      auto all = pack.load(sums + i);
      pack.store(to + i, [&](int k) { return all[k]; });
    });
  }
};
