// Element types: stored as they are, computed on as f32, rounded to nearest even.
#pragma once
#include "ptx/bf16.cuh"

typedef int i32;
typedef long long i64;
typedef float f32;
typedef double f64;

// A half-precision float in memory.
struct f16 {
  u16 bits;
};

DEVICE f32 infinity() { return __int_as_float(0x7f800000); }
DEVICE f32 not_a_number() { return __int_as_float(0x7fffffff); }

DEVICE f32 to_f32(f32 x) { return x; }

DEVICE f32 to_f32(f16 x) {
  f32 value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
  return value;
}

DEVICE void round_to(f32 value, f32& to) { to = value; }

DEVICE void round_to(f32 value, bf16& to) {
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(value));
}

DEVICE void round_to(f32 value, f16& to) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(value));
}

template <typename T>
DEVICE T rounded(f32 value) {
  T to;
  round_to(value, to);
  return to;
}
