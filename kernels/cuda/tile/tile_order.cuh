// The order in which tiles of a matrix are computed.
#pragma once
#include "ptx/types.cuh"

struct Tile {
  int row, column, batch;
};

// Bands of 8 rows of tiles, column by column: blocks that run together share rows and columns in the
// L2 cache.
struct TileOrder {
  int rows, columns, batch;

  DEVICE int count() const { return rows * columns * batch; }

  DEVICE Tile at(int index) const {
    constexpr int BAND = 8;
    int matrix = rows * columns, within = index % matrix;
    int first = within / (BAND * columns) * BAND;
    int height = min(BAND, rows - first);
    within -= first * columns;
    return {first + within % height, within / height, index / matrix};
  }
};
