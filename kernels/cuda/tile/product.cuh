// Tiles of a matrix product: a ring of stages, each with a tile of A and one of B, 64 deep.
#pragma once
#include "tile/panels.cuh"
#include "tile/ring.cuh"

constexpr int TILE_K = 64;

// A tile of TILE rows of A (columns of B). MAJOR 0: memory runs along k; 1: along m or n.
template <int MAJOR, int TILE>
struct Operand {
  using Tile = Panels<TILE, TILE_K>;
  static constexpr u32 BYTES = Tile::BYTES;
  static constexpr Major ORDER = Major::K;

  static DEVICE void load(u32 to, const TensorMap* map, u32 bar, int mn, int k, int batch) {
    Tile::load(to, map, bar, k, mn, batch);
  }
  // 16 deep from 16 step, from `mn` (a multiple of 64) on.
  static DEVICE u64 part(u32 tile, int mn, int step) { return Tile::along_columns(tile, mn, step); }
};

template <int TILE>
struct Operand<1, TILE> {
  using Tile = Panels<TILE_K, TILE>;
  static constexpr u32 BYTES = Tile::BYTES;
  static constexpr Major ORDER = Major::MN;

  static DEVICE void load(u32 to, const TensorMap* map, u32 bar, int mn, int k, int batch) {
    Tile::load(to, map, bar, mn, k, batch);
  }
  static DEVICE u64 part(u32 tile, int mn, int step) { return Tile::along_rows(tile, mn, step); }
};

// Sums over `depth` of the 64 rows from `row` on. Stages are given back as the tensor cores go on.
template <class A, class B, int SIZE, int COUNT>
DEVICE void multiply_tiles(float (&sums)[COUNT], Ring<SIZE>& ring, Cursor<SIZE>& at, u32 stages,
                           int row, int depth) {
  Cursor<SIZE> previous = at;
  for (int k = 0; k < depth; k += TILE_K) {
    ring.wait(at);
    u32 a = stages + at.stage * (A::BYTES + B::BYTES), b = a + A::BYTES;
    wgmma::fence();
#pragma unroll
    for (int step = 0; step < TILE_K / 16; ++step)
      wgmma::multiply<A::ORDER, B::ORDER>(sums, A::part(a, row, step), B::part(b, 0, step),
                                          (k | step) != 0);
    wgmma::commit();
    wgmma::wait<1>();
    if (k > 0) ring.release(previous);
    previous = at;
    at.advance();
  }
  wgmma::wait<0>();
  ring.release(previous);
}
