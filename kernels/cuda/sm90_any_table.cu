// Writes words that come as parameters to global memory: a table for kernels that follow on the
// stream, without a copy for which the host would have to keep memory. The table may hold tensor maps.
#include "ptx/fence.cuh"

constexpr int MOST = 3968;  // a kernel's parameters take up to 32764 bytes

struct Args {
  u64* to;
  int count;
  u64 words[MOST];
};

extern "C" __global__ void __launch_bounds__(256) table(const __grid_constant__ Args args) {
  for (int i = threadIdx.x; i < args.count; i += blockDim.x) args.to[i] = args.words[i];
  fence::release_tensor_maps();
}
