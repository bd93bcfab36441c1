// Random numbers by their index: Philox4x32-10, bit for bit those of the CPU. Element i of a row of
// numbers is made of block i / 4 of its stream.
#include "tile/float.cuh"
#include "tile/grid.cuh"

struct Four {
  u32 bits[4];
};

DEVICE Four philox(u64 seed, u64 stream, u64 index) {
  u32 key0 = (u32)seed, key1 = (u32)(seed >> 32);
  u32 c0 = (u32)index, c1 = (u32)(index >> 32), c2 = (u32)stream, c3 = (u32)(stream >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    u32 high0 = __umulhi(c0, 0xd2511f53u), low0 = c0 * 0xd2511f53u;
    u32 high1 = __umulhi(c2, 0xcd9e8d57u), low1 = c2 * 0xcd9e8d57u;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return {c0, c1, c2, c3};
}

constexpr f64 UNIT = 1.0 / 4294967296.0;

// Elements first..first + len of a row of normal numbers (Box-Muller, in f64) of mean 0. A thread
// makes a pair.
extern "C" __global__ void __launch_bounds__(256)
    normal(u64 seed, u64 stream, u64 first, u64 len, f64 std, f32* out) {
  u64 pairs = (first + len + 1) / 2 - first / 2;
  for_grid(pairs, [&](u64 i) {
    u64 pair = first / 2 + i;
    Four four = philox(seed, stream, pair / 2);
    u32 length = pair % 2 ? four.bits[2] : four.bits[0],
        turn = pair % 2 ? four.bits[3] : four.bits[1];
    f64 radius = sqrt(-2.0 * log((length + 1.0) * UNIT)), cosine, sine;
    sincospi(2.0 * (turn * UNIT), &sine, &cosine);
    if (2 * pair >= first) out[2 * pair - first] = (f32)(radius * cosine * std);
    if (2 * pair + 1 < first + len) out[2 * pair + 1 - first] = (f32)(radius * sine * std);
  });
}

// Elements first..first + len of a row of numbers spread evenly over low..high.
extern "C" __global__ void __launch_bounds__(256)
    uniform(u64 seed, u64 stream, u64 first, u64 len, f32 low, f32 high, f32* out) {
  for_grid(len, [&](u64 i) {
    u64 element = first + i;
    Four four = philox(seed, stream, element / 4);
    u32 bits = element % 2 ? (element % 4 == 1 ? four.bits[1] : four.bits[3])
                           : (element % 4 == 0 ? four.bits[0] : four.bits[2]);
    f32 unit = (f32)(bits >> 8) * (1.0f / 16777216.0f);
    out[i] = __fadd_rn(low, __fmul_rn(high - low, unit));
  });
}
