// Merges a partial result of attention into another over other keys: lse' = ln(e^lse + e^part_lse),
// out' = e^(lse - lse') out + e^(part_lse - lse') part. FLOAT: f32 or bf16.
#include "tile/attention_merge.cuh"
#include "tile/row.cuh"

constexpr int N = PACK_BYTES / sizeof(FLOAT);

// One warp per head of a row. `out`, `part` [rows, heads, head_dim], `lse`, `part_lse` [heads,
// rows].
extern "C" __global__ void __launch_bounds__(256)
    merge_attention(FLOAT* out, f32* lse, const FLOAT* part, const f32* part_lse, u64 rows,
                    u32 heads, u32 head_dim) {
  u64 own = own_row();
  if (own >= rows * heads) return;
  u64 at = own % heads * rows + own / heads;
  auto merged = Merged::of(lse[at], part_lse[at]);
  out += own * head_dim;
  part += own * head_dim;
  for_row_packs<N>(head_dim, head_dim % N == 0 && aligned(out, part), [&](auto pack, u64 i) {
    auto old = pack.load(out + i), more = pack.load(part + i);
    pack.store(out + i,
               [&](int k) { return fmaf(old[k], merged.old_part, more[k] * merged.new_part); });
  });
  __syncwarp();  // all lanes have read it
  if (threadIdx.x == 0) lse[at] = merged.lse;
}
