// Conversion between number types. SOURCE and TARGET: f32, bf16, f16, i32, u32, i64 or u8, two that
// differ.
//
// Floats round to nearest even, integers truncate and saturate, NaN becomes the integer 0.
#include "tile/pack.cuh"

// A number as a type that loses nothing of it, but for large i64: floats as f32, integers as f64.
template <typename T>
DEVICE f64 wide(T x) {
  return (f64)x;
}
DEVICE f32 wide(f32 x) { return x; }
DEVICE f32 wide(bf16 x) { return to_f32(x); }
DEVICE f32 wide(f16 x) { return to_f32(x); }

DEVICE void convert(f64 value, f32& to) { to = (f32)value; }
DEVICE void convert(f64 value, bf16& to) { round_to((f32)value, to); }
DEVICE void convert(f64 value, f16& to) {
  asm("cvt.rn.f16.f64 %0, %1;" : "=h"(to.bits) : "d"(value));
}

// `value`, which is no NaN, between bounds that both types have, without its fraction.
template <typename T>
DEVICE T truncated(f64 value, f64 least, f64 most) {
  return (T)fmin(fmax(value, least), most);
}

DEVICE void convert(f64 value, u8& to) {
  to = value == value ? truncated<u32>(value, 0.0, 255.0) : 0;
}
DEVICE void convert(f64 value, i32& to) {
  to = value == value ? truncated<i32>(value, -2147483648.0, 2147483647.0) : 0;
}
DEVICE void convert(f64 value, u32& to) {
  to = value == value ? truncated<u32>(value, 0.0, 4294967295.0) : 0;
}
DEVICE void convert(f64 value, i64& to) {
  const f64 ABOVE = 9223372036854775808.0;  // 2^63, the first that does not fit
  to = value == value ? truncated<i64>(value, -ABOVE, ABOVE - 1024.0) : 0;
  if (value >= ABOVE) to = 0x7fffffffffffffff;
}

DEVICE void convert(f32 value, f32& to) { round_to(value, to); }
DEVICE void convert(f32 value, bf16& to) { round_to(value, to); }
DEVICE void convert(f32 value, f16& to) { round_to(value, to); }
template <typename T>
DEVICE void convert(f32 value, T& to) {
  convert((f64)value, to);
}

const int LARGER = sizeof(SOURCE) > sizeof(TARGET) ? sizeof(SOURCE) : sizeof(TARGET);
const int N = PACK_BYTES / LARGER;

extern "C" __global__ void __launch_bounds__(256) cast(const SOURCE* from, u64 len, TARGET* to) {
  for_grid_packs<N>(len, aligned(from, to), [&](auto pack, u64 i) {
    constexpr int SIZE = decltype(pack)::SIZE;
    Raw<SOURCE, SIZE> source = *(const Raw<SOURCE, SIZE>*)(from + i);
    Raw<TARGET, SIZE> target;
#pragma unroll
    for (int k = 0; k < SIZE; ++k) convert(wide(source.at[k]), target.at[k]);
    *(Raw<TARGET, SIZE>*)(to + i) = target;
  });
}
