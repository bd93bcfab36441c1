// Which elements of a warpgroup's 64 rows a thread has in the registers of a product (ptx/wgmma.cuh).
#pragma once
#include "ptx/types.cuh"

// This thread's first row of a warpgroup's 64, and first column.
DEVICE int fragment_row() { return threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4; }
DEVICE int fragment_column() { return threadIdx.x % 4 * 2; }
