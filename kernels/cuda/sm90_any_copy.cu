// Copies between strided views. UNIT: bytes moved at once, 1, 2, 4, 8 or 16; strides count such
// units.
#include "tile/pack.cuh"
#include "tile/walk.cuh"

struct alignas(UNIT) Unit {
  u8 bytes[UNIT];
};

// View 0 of `walk` is read, view 1 written.
extern "C" __global__ void __launch_bounds__(256)
    copy(const Unit* from, Unit* to, const __grid_constant__ Walk<2> walk, u64 count) {
  for_grid(count, [&](u64 i) {
    u64 at[2];
    walk.find(i, at);
    to[at[1]] = from[at[0]];
  });
}

// Matrices whose rows lie densely in `to` and whose columns do in `from`, through tiles of shared
// memory, so that both are read and written in whole rows. `walk` finds each matrix of the batch.
extern "C" __global__ void __launch_bounds__(256)
    transpose(const Unit* from, Unit* to, u32 rows, u32 columns, u64 from_stride, u64 to_stride,
              const __grid_constant__ Walk<2> walk, u32 batch) {
  constexpr int TILE = 32, STEP = 8;  // blocks of 32 x 8 threads
  __shared__ Unit tile[TILE][TILE + 1];
  for (u32 matrix = blockIdx.z; matrix < batch; matrix += gridDim.z) {
    u64 at[2];
    walk.find(matrix, at);
    for (u32 top = blockIdx.y * TILE; top < rows; top += gridDim.y * TILE) {
      u32 left = blockIdx.x * TILE;
      for (int i = threadIdx.y; i < TILE; i += STEP) {
        u32 row = top + threadIdx.x, column = left + i;
        if (row < rows && column < columns) {
          tile[i][threadIdx.x] = from[at[0] + row + column * from_stride];
        }
      }
      __syncthreads();
      for (int i = threadIdx.y; i < TILE; i += STEP) {
        u32 row = top + i, column = left + threadIdx.x;
        if (row < rows && column < columns) {
          to[at[1] + row * to_stride + column] = tile[threadIdx.x][i];
        }
      }
      __syncthreads();
    }
  }
}
