// Cross-entropy of rows of logits z (f32) against labels: log(sum(exp(z))) - z[label], and its
// gradient, (softmax - onehot) scale. FLOAT: f32 or bf16, of the gradient.
//
// An ignored label gives zeros, one beyond the vocabulary NaN.
#include "tile/labels.cuh"
#include "tile/sum_exp.cuh"

constexpr int N = PACK_BYTES / sizeof(FLOAT);

DEVICE f32 label_logit(const f32* z, i64 label, u32 vocab) {
  return 0 <= label && label < vocab ? z[label] : not_a_number();
}

extern "C" __global__ void __launch_bounds__(512)
    cross_entropy_loss(const f32* z, const i64* labels, u64 rows, u32 vocab, f32* losses) {
  u64 row = own_row();
  if (row >= rows) return;
  z += row * vocab;
  i64 label = labels[row];
  f32 own = 0.0f;
  if (label != IGNORE) {
    auto all = row_sum_exp<4>(z, vocab, vocab % 4 == 0 && aligned(z));
    own = all.max + logf(all.sum) - label_logit(z, label, vocab);
  }
  if (threadIdx.x == 0) losses[row] = own;
}

// `gradient` may be the logits.
extern "C" __global__ void __launch_bounds__(512)
    cross_entropy(const f32* z, const i64* labels, f32 scale, u64 rows, u32 vocab, f32* losses,
                  FLOAT* gradient) {
  u64 row = own_row();
  if (row >= rows) return;
  z += row * vocab;
  gradient += row * vocab;
  bool packed = vocab % N == 0 && aligned(z, gradient);
  i64 label = labels[row];
  if (label == IGNORE) {
    if (threadIdx.x == 0) losses[row] = 0.0f;
    clear_row<N>(gradient, vocab, packed);
    return;
  }
  // Read before the threads meet, after which others may overwrite it.
  f32 own = label_logit(z, label, vocab);
  auto all = row_sum_exp<N>(z, vocab, packed);
  if (threadIdx.x == 0) losses[row] = all.max + logf(all.sum) - own;
  write_gradient<N>(z, all, label, scale, vocab, packed, gradient);
}
