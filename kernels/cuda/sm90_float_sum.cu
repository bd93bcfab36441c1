// Sums of elements of a strided view, in f64, in an order that depends on the shape alone. FLOAT:
// f32 or bf16.
//
// `kept` says where the elements of each output begin, `reduced` where its terms lie from there on.
// Terms are divided among gridDim.y shares of `share` each. If there are several, each leaves its
// part in `partial` [shares, outputs], for `sum_shares` to put together; else the sum is written to
// `out`.
#include "tile/row.cuh"
#include "tile/walk.cuh"

DEVICE void write(f64 sum, u64 output, u64 outputs, FLOAT* out, f64* partial) {
  if (gridDim.y == 1) {
    round_to((f32)sum, out[output]);
  } else {
    partial[blockIdx.y * outputs + output] = sum;
  }
}

// The threads of a row share an output's terms: where terms lie side by side.
extern "C" __global__ void __launch_bounds__(256)
    sum_rows(const FLOAT* x, const __grid_constant__ Walk<1> kept,
             const __grid_constant__ Walk<1> reduced, u64 outputs, u64 terms, u64 share, FLOAT* out,
             f64* partial) {
  u64 output = own_row();
  if (output >= outputs) return;
  u64 start[1], at[1];
  kept.find(output, start);
  u64 first = blockIdx.y * share, last = min(first + share, terms);
  f64 sum = 0.0;
#pragma unroll 1
  for (u64 term = first + threadIdx.x; term < last; term += blockDim.x) {
    reduced.find(term, at);
    sum += to_f32(x[start[0] + at[0]]);
  }
  sum = row_sum(sum);
  if (threadIdx.x == 0) write(sum, output, outputs, out, partial);
}

// Each thread along x has an output of its own, and those along y share its terms: where outputs
// lie side by side.
extern "C" __global__ void __launch_bounds__(256)
    sum_columns(const FLOAT* x, const __grid_constant__ Walk<1> kept,
                const __grid_constant__ Walk<1> reduced, u64 outputs, u64 terms, u64 share,
                FLOAT* out, f64* partial) {
  constexpr int COLUMNS = 32, TERMS = 8;  // blocks of 32 x 8 threads
  __shared__ f64 sums[TERMS][COLUMNS];
  u64 output = (u64)blockIdx.x * COLUMNS + threadIdx.x;
  f64 sum = 0.0;
  if (output < outputs) {
    u64 start[1], at[1];
    kept.find(output, start);
    u64 first = blockIdx.y * share, last = min(first + share, terms);
#pragma unroll 1
    for (u64 term = first + threadIdx.y; term < last; term += TERMS) {
      reduced.find(term, at);
      sum += to_f32(x[start[0] + at[0]]);
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || output >= outputs) return;
  for (int i = 1; i < TERMS; ++i) sum += sums[i][threadIdx.x];
  write(sum, output, outputs, out, partial);
}

extern "C" __global__ void __launch_bounds__(256)
    sum_shares(const f64* partial, u64 outputs, u32 shares, FLOAT* out) {
  u64 output = own_row();
  if (output >= outputs) return;
  f64 sum = 0.0;
  for (u32 i = threadIdx.x; i < shares; i += blockDim.x) sum += partial[i * outputs + output];
  sum = row_sum(sum);
  if (threadIdx.x == 0) round_to((f32)sum, out[output]);
}
