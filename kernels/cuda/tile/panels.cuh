// A tile of bf16 in shared memory, ROWS x COLUMNS, in panels of 64 columns: 128 bytes a row, swizzled
// as TMA writes and WGMMA reads them. A panel begins at a multiple of 1024 bytes.
#pragma once
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"

template <int ROWS, int COLUMNS>
struct Panels {
  static constexpr u32 PANEL = ROWS * 128;
  static constexpr u32 BYTES = PANEL * (COLUMNS / 64);
  static_assert(ROWS % 8 == 0 && ROWS <= 256 && COLUMNS % 64 == 0, "");

  // Loads the tile whose first element is (x, y, z) of a map with boxes of 64 columns; BYTES come.
  static DEVICE void load(u32 tile, const TensorMap* map, u32 bar, int x, int y, int z) {
#pragma unroll
    for (int i = 0; i < COLUMNS / 64; ++i) tma::load(tile + i * PANEL, map, bar, x + i * 64, y, z);
  }

  // Rows from `row` on as an operand that is contracted along the columns; 16 of them from 16 step.
  static DEVICE u64 along_columns(u32 tile, int row, int step) {
    return wgmma::descriptor(tile + step / 4 * PANEL + row * 128 + step % 4 * 32, 1024, 0);
  }

  // Columns from `column`, a multiple of 64, as an operand that is contracted along the rows; 16 of
  // them from 16 step.
  static DEVICE u64 along_rows(u32 tile, int column, int step) {
    return wgmma::descriptor(tile + column / 64 * PANEL + step * 2048, 1024, PANEL);
  }
};
