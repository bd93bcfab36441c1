// Attention over a list of chunks of keys and values, on plain cores.
//
// A block works on tiles of TILE rows and TILE keys (or keys and rows) by 16 x 16 threads: thread
// (x, y) has lines y OWN, ..., y OWN + OWN - 1 and, across them, lines x, x + 16, x + 32, ... A
// query sees keys at positions up to its own. FLOAT: f32 or bf16. HEAD_DIM: elements of a head.
#pragma once
#include "ptx/math.cuh"
#include "tile/float.cuh"

constexpr int SIDE = 16;
constexpr int THREADS = SIDE * SIDE;
constexpr int OWN = TILE / SIDE;
constexpr int COLUMNS = (HEAD_DIM + SIDE - 1) / SIDE;  // of a head, of one thread
constexpr int LINE = HEAD_DIM + 1;  // f32 between rows in shared memory: no two banks meet
constexpr u32 MOST = 256;

// Keys and values of `len` positions from `start` on. Rows lie `k_stride` and `v_stride` elements
// apart, and heads in them side by side.
struct Chunk {
  const FLOAT *k, *v;
  u64 k_stride, v_stride;
  u32 len, start;
  f32 *dk, *dv;  // backward adds their gradients here, [len, kv_heads, head_dim]
};

struct Chunks {
  Chunk list[MOST];
  u32 count;
};

struct Queries {
  u32 rows, heads, kv_heads, offset;  // `offset` is the position of the first row
  f32 scale;

  DEVICE u32 group() const { return heads / kv_heads; }
};

DEVICE u32 own_x() { return threadIdx.x % SIDE; }
DEVICE u32 own_y() { return threadIdx.x / SIDE; }

// The sum or maximum over the threads that share lines y.
template <typename F>
DEVICE f32 across(f32 value, F f) {
#pragma unroll
  for (int mask = SIDE / 2; mask > 0; mask /= 2)
    value = f(value, __shfl_xor_sync(0xffffffffu, value, mask));
  return value;
}

DEVICE f32 sum_across(f32 value) {
  return across(value, [](f32 a, f32 b) { return a + b; });
}

DEVICE f32 max_across(f32 value) {
  return across(value, [](f32 a, f32 b) { return fmaxf(a, b); });
}

// TILE rows of a head in shared memory.
struct Tile {
  f32* at;

  DEVICE f32* row(u32 i) const { return at + i * LINE; }

  // Rows 0..count of one head that begin at `from`; the rest is zero.
  DEVICE void load(const FLOAT* from, u64 stride, u32 count) const {
    for (u32 i = threadIdx.x; i < TILE * HEAD_DIM; i += THREADS) {
      u32 line = i / HEAD_DIM, column = i % HEAD_DIM;
      row(line)[column] = line < count ? to_f32(from[line * stride + column]) : 0.0f;
    }
  }
};

// A square of numbers by line y and line x in shared memory.
struct Square {
  f32* at;

  DEVICE f32& operator()(u32 y, u32 x) const { return at[y * (TILE + 1) + x]; }
};

// This block's shared memory, handed out from the beginning.
struct Shared {
  f32* next;

  DEVICE Shared() {
    extern __shared__ f32 attention_tiles[];
    next = attention_tiles;
  }

  DEVICE Tile tile() {
    next += TILE * LINE;
    return {next - TILE * LINE};
  }

  DEVICE Square square() {
    next += TILE * (TILE + 1);
    return {next - TILE * (TILE + 1)};
  }
};

// products[i][j] = a[y OWN + i] . b[x + 16 j], rows of two tiles.
DEVICE void multiply(Tile a, Tile b, f32 (&products)[OWN][OWN]) {
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
#pragma unroll
    for (int j = 0; j < OWN; ++j) products[i][j] = 0.0f;
  }
#pragma unroll 4
  for (int e = 0; e < HEAD_DIM; ++e) {
    f32 x[OWN], y[OWN];
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
      x[i] = a.row(own_y() * OWN + i)[e];
      y[i] = b.row(own_x() + SIDE * i)[e];
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
#pragma unroll
      for (int j = 0; j < OWN; ++j) products[i][j] = fmaf(x[i], y[j], products[i][j]);
    }
  }
}

// A thread's lines y of a result, at columns x, x + 16, ... of the head.
struct Lines {
  f32 at[OWN][COLUMNS] = {};

  // Adds the product of a square, by line y, with the rows of a tile.
  DEVICE void add(Square weights, Tile rows) {
#pragma unroll 4
    for (int k = 0; k < TILE; ++k) {
      f32 weight[OWN];
#pragma unroll
      for (int i = 0; i < OWN; ++i) weight[i] = weights(own_y() * OWN + i, k);
      const f32* row = rows.row(k);
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) {
        u32 column = own_x() + SIDE * c;
        f32 value = column < HEAD_DIM ? row[column] : 0.0f;
#pragma unroll
        for (int i = 0; i < OWN; ++i) at[i][c] = fmaf(weight[i], value, at[i][c]);
      }
    }
  }

  // Calls f(i, column, value) for each element of line i.
  template <typename F>
  DEVICE void for_each(int i, F f) {
#pragma unroll
    for (int c = 0; c < COLUMNS; ++c) {
      u32 column = own_x() + SIDE * c;
      if (column < HEAD_DIM) f(column, at[i][c]);
    }
  }
};
