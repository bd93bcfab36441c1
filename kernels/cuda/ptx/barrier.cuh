// Named barriers of a block. Barrier 0 is __syncthreads().
#pragma once
#include "ptx/types.cuh"

namespace barrier {

// Waits for `threads` threads at barrier `id`.
DEVICE void sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Counts as having come to barrier `id`, without waiting.
DEVICE void arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace barrier
