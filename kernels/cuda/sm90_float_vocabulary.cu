// Cross-entropy where rows of logits z (f32) are one part of a vocabulary, from token `first` on.
// FLOAT: f32 or bf16, of the gradient.
//
// A part of a row comes to three numbers: the largest logit, the sum of exponentials less it, and
// the label's logit, or 0 if that is elsewhere. The rows of all parts come to two: the largest
// logit and the sum. Ignored labels give zeros.
#include "tile/labels.cuh"
#include "tile/sum_exp.cuh"

constexpr int N = PACK_BYTES / sizeof(FLOAT);

struct Part {
  f32 max, sum, own;
};

struct Total {
  f32 max, sum;
};

extern "C" __global__ void __launch_bounds__(512)
    vocabulary_sums(const f32* z, const i64* labels, i64 first, u64 rows, u32 width, Part* parts) {
  u64 row = own_row();
  if (row >= rows) return;
  z += row * width;
  i64 label = labels[row];
  Part part = {0.0f, 0.0f, 0.0f};
  if (label != IGNORE) {
    auto all = row_sum_exp<4>(z, width, width % 4 == 0 && aligned(z));
    i64 place = label - first;
    part = {all.max, all.sum, 0 <= place && place < width ? z[place] : 0.0f};
  }
  if (threadIdx.x == 0) parts[row] = part;
}

// `parts` is [count, rows]; each row's loss goes to `losses`. A label outside the whole vocabulary gives NaN.
extern "C" __global__ void __launch_bounds__(256)
    vocabulary_combine(const Part* parts, u32 count, const i64* labels, i64 vocab, u64 rows,
                       Total* totals, f32* losses) {
  for_grid(rows, [&](u64 row) {
    i64 label = labels[row];
    if (label == IGNORE) {
      totals[row] = {0.0f, 0.0f};
      losses[row] = 0.0f;
      return;
    }
    f32 max = -infinity();
    for (u32 i = 0; i < count; ++i) max = fmaxf(max, parts[i * rows + row].max);
    f64 sum = 0.0, own = 0.0;
    for (u32 i = 0; i < count; ++i) {
      Part part = parts[i * rows + row];
      sum += part.sum * exp((f64)(part.max - max));
      own += part.own;
    }
    if (label < 0 || label >= vocab) sum = not_a_number();
    totals[row] = {max, (f32)sum};
    losses[row] = (f32)(max + log(sum) - own);
  });
}

// `gradient` may be the logits.
extern "C" __global__ void __launch_bounds__(512)
    vocabulary_gradient(const f32* z, const i64* labels, i64 first, const Total* totals, f32 scale,
                        u64 rows, u32 width, FLOAT* gradient) {
  u64 row = own_row();
  if (row >= rows) return;
  z += row * width;
  gradient += row * width;
  bool packed = width % N == 0 && aligned(z, gradient);
  i64 label = labels[row];
  if (label == IGNORE) {
    clear_row<N>(gradient, width, packed);
    return;
  }
  SumExp all;
  all.max = totals[row].max;
  all.sum = totals[row].sum;
  write_gradient<N>(z, all, label - first, scale, width, packed, gradient);
}
