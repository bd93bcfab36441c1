// bfloat16 to and from f32.
#pragma once
#include "ptx/types.cuh"

DEVICE float to_f32(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

// Rounds to nearest even; the first argument goes to the low half.
DEVICE u32 pack_bf16(float low, float high) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

DEVICE float low_bf16(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float high_bf16(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
