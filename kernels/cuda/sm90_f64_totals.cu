// Sums of many numbers, in f64 and by one block.
#include "tile/row.cuh"

// The sum of numbers, by one block: written to `total`, or added to it.
extern "C" __global__ void __launch_bounds__(512)
    add_up(const f64* numbers, u64 count, bool accumulate, f64* total) {
  f64 sum = 0.0;
  for (u64 i = threadIdx.x; i < count; i += blockDim.x) sum += numbers[i];
  sum = row_sum(sum);
  if (threadIdx.x == 0) *total = accumulate ? *total + sum : sum;
}

// The sum of rows' losses times a factor.
extern "C" __global__ void __launch_bounds__(512)
    sum_losses(const f32* losses, u64 rows, f32 scale, f32* total) {
  f64 sum = 0.0;
  for (u64 i = threadIdx.x; i < rows; i += blockDim.x) sum += losses[i];
  sum = row_sum(sum);
  if (threadIdx.x == 0) *total = (f32)(sum * scale);
}
