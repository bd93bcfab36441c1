// Moving registers between warpgroups: a producer gives, consumers take. Counts are multiples of 8.
#pragma once
#include "ptx/types.cuh"

namespace registers {

template <int COUNT>
DEVICE void give_up_to() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT>
DEVICE void take_up_to() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

}  // namespace registers
