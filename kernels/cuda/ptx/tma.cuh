// The tensor memory accelerator: boxes of tensors, and rows of bytes, between global and shared
// memory. Elements outside a tensor read as zero and are not written.
#pragma once
#include "ptx/types.cuh"

namespace tma {

// The box at (x, y, z) to shared `to`; its bytes count at `bar`.
DEVICE void load(u32 to, const TensorMap* map, u32 bar, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(map), "r"(bar), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// `bytes` bytes, a multiple of 16 as both addresses are, to shared `to`; they count at `bar`.
DEVICE void load_bytes(u32 to, const void* from, u32 bytes, u32 bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          to),
      "l"(from), "r"(bytes), "r"(bar)
      : "memory");
}

// The box at shared `from` to (x, y, z), in the thread's current group.
DEVICE void store(const TensorMap* map, u32 from, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
          map),
      "r"(from), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// As `store`, but adds to what is there.
DEVICE void add(const TensorMap* map, u32 from, int x, int y, int z) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.tile.bulk_group "
      "[%0, {%2, %3, %4}], [%1];" ::"l"(map),
      "r"(from), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// Ends the thread's current group of stores.
DEVICE void commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until all but the newest PENDING groups have read shared memory.
template <int PENDING>
DEVICE void wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

}  // namespace tma
