// Barriers in shared memory that count arrivals and the bytes of asynchronous copies. A phase ends
// when all have arrived and all announced bytes are there; phases alternate between parity 0 and 1.
#pragma once
#include "ptx/types.cuh"

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

namespace mbarrier {

DEVICE void init(u32 bar, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}

DEVICE void arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

// Arrives and announces bytes that copies will bring.
DEVICE void arrive_expecting(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
               : "memory");
}

// Waits for the end of the phase of this parity. Of a new barrier, parity 1 counts as ended.
DEVICE void wait(u32 bar, u32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n"
      "}" ::"r"(bar),
      "r"(parity)
      : "memory");
}

}  // namespace mbarrier
