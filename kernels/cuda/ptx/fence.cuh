// Fences between the ways to memory.
#pragma once
#include "ptx/types.cuh"

namespace fence {

// What this thread wrote to shared memory becomes visible to TMA and WGMMA. Without the space's name
// the fence would also wait until the whole GPU sees what was written to global memory.
DEVICE void async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The barriers that this thread initialised become visible to TMA.
DEVICE void mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// A tensor map in global memory that a kernel wrote may be used by this thread.
DEVICE void acquire_tensor_map(const TensorMap* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}

// The tensor maps that this thread wrote may be acquired.
DEVICE void release_tensor_maps() {
  asm volatile("fence.proxy.tensormap::generic.release.gpu;" ::: "memory");
}

}  // namespace fence
