// Rows of a table, picked by number. UNIT: bytes moved at once, 1, 2, 4, 8 or 16; `width` counts
// them.
//
// A number beyond the table gives a row of set bits, which is not a number in any float type.
#include "tile/pack.cuh"

struct alignas(UNIT) Unit {
  u8 bytes[UNIT];
};

extern "C" __global__ void __launch_bounds__(256)
    gather(const Unit* table, u32 vocab, u32 width, const u32* ids, u64 rows, Unit* out) {
  Unit missing;
#pragma unroll
  for (int i = 0; i < UNIT; ++i) missing.bytes[i] = 0xff;
  for (u64 row = (u64)blockIdx.y * blockDim.y + threadIdx.y; row < rows;
       row += gridDim.y * blockDim.y) {
    u32 id = ids[row];
    for_grid(width, [&](u64 i) {
      out[row * width + i] = id < vocab ? table[(u64)id * width + i] : missing;
    });
  }
}
