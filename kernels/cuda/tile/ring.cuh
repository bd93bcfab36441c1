// A ring of SIZE buffers in shared memory. One thread has TMA fill them, warps empty them.
#pragma once
#include "ptx/mbarrier.cuh"

template <int SIZE>
struct Cursor {
  int stage = 0;
  u32 phase = 0;

  DEVICE void advance() {
    if (++stage == SIZE) {
      stage = 0;
      phase ^= 1;
    }
  }
};

template <int SIZE>
struct Ring {
  u64 full[SIZE], empty[SIZE];

  // By one thread, before a fence::mbarrier_init and a __syncthreads.
  DEVICE void init(int consumer_warps) {
    for (int i = 0; i < SIZE; ++i) {
      mbarrier::init(shared_address(&full[i]), 1);
      mbarrier::init(shared_address(&empty[i]), consumer_warps);
    }
  }

  // Producer: waits until the stage is empty; `bytes` loads are to count at the barrier returned.
  DEVICE u32 acquire(Cursor<SIZE> at, u32 bytes) {
    mbarrier::wait(shared_address(&empty[at.stage]), at.phase ^ 1);
    u32 bar = shared_address(&full[at.stage]);
    mbarrier::arrive_expecting(bar, bytes);
    return bar;
  }

  // Consumer: waits until the stage is full.
  DEVICE void wait(Cursor<SIZE> at) { mbarrier::wait(shared_address(&full[at.stage]), at.phase); }

  // Consumer warp: will not read the stage again.
  DEVICE void release(Cursor<SIZE> at) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier::arrive(shared_address(&empty[at.stage]));
  }
};
