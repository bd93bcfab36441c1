// What attention's backward needs of each row: its log-sum-exp to base 2 and the product of its output
// with the output's gradient. A warp computes one row of one head. Rows that see nothing, and the rows
// between q_len and `padded`, get probability 0 everywhere: plus infinity and 0.
#include "ptx/bf16.cuh"
#include "ptx/math.cuh"

struct Args {
  const bf16 *out, *dout;         // [row][head][dim]
  long long out_row, dout_row;    // elements between rows
  const float* lse;               // [heads][q_len]
  float *lse2, *delta;            // [heads][padded]
  int heads, q_len, padded, head_dim;  // head_dim is even
};

extern "C" __global__ void __launch_bounds__(256) attention_bwd_prepare(const __grid_constant__ Args args) {
  int index = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (index >= args.heads * args.padded) return;
  int head = index / args.padded, row = index % args.padded;
  float lse2 = -NEG_INF, delta = 0.0f;
  if (row < args.q_len) {
    const bf16* out = args.out + row * args.out_row + head * args.head_dim;
    const bf16* dout = args.dout + row * args.dout_row + head * args.head_dim;
    for (int i = 2 * lane; i < args.head_dim; i += 64) {
      u32 a = *(const u32*)(out + i), b = *(const u32*)(dout + i);
      delta += low_bf16(a) * low_bf16(b) + high_bf16(a) * high_bf16(b);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      delta += __shfl_xor_sync(~0u, delta, distance);
    float lse = args.lse[(long long)head * args.q_len + row];
    if (lse > NEG_INF) lse2 = lse * LOG2_E;
  }
  if (lane == 0) {
    args.lse2[index] = lse2;
    args.delta[index] = delta;
  }
}
