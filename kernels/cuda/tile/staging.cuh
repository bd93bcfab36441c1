// A warpgroup's way from registers to global memory: pieces of 64 rows by 128 bytes are written to
// one of two buffers in shared memory, swizzled, and stored by TMA while the next piece is written.
#pragma once
#include "ptx/barrier.cuh"
#include "ptx/bf16.cuh"
#include "ptx/fence.cuh"
#include "ptx/matrix.cuh"
#include "ptx/tma.cuh"

constexpr u32 PIECE = 64 * 128;

// Where 16 bytes of a row lie in a piece.
DEVICE u32 piece_address(u32 piece, int row, int sixteenth) {
  return piece + row * 128 + ((sixteenth ^ row % 8) << 4);
}

// Sums of 64 rows x 64 columns (32 registers), rounded.
DEVICE void write_bf16(u32 piece, const float* sums) {
  int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane % 16;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float* d = sums + 8 * i;
    matrix::store4(piece_address(piece, row, 2 * i + lane / 16), pack_bf16(d[0], d[1]),
                   pack_bf16(d[2], d[3]), pack_bf16(d[4], d[5]), pack_bf16(d[6], d[7]));
  }
}

// Sums of 64 rows x 32 columns (16 registers).
DEVICE void write_f32(u32 piece, const float* sums) {
  int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < 4; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      u32 to = piece_address(piece, row + 8 * half, 2 * j + lane % 4 / 2) + lane % 2 * 8;
      asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(sums[4 * j + 2 * half]),
                   "f"(sums[4 * j + 2 * half + 1])
                   : "memory");
    }
}

struct Staging {
  u32 buffers;  // two pieces
  int barrier;  // a named barrier of this warpgroup's own
  int current = 0;

  // A buffer that may be written.
  DEVICE u32 begin() {
    if (threadIdx.x % 128 == 0) tma::wait_read<1>();
    barrier::sync(barrier, 128);
    return buffers + current * PIECE;
  }

  // Stores what was written to it.
  template <bool ADD>
  DEVICE void end(const TensorMap* map, int x, int y, int z) {
    fence::async_proxy();
    barrier::sync(barrier, 128);
    if (threadIdx.x % 128 == 0) {
      u32 piece = buffers + current * PIECE;
      if (ADD) {
        tma::add(map, piece, x, y, z);
      } else {
        tma::store(map, piece, x, y, z);
      }
      tma::commit();
    }
    current ^= 1;
  }

  // Shared memory must outlive the last store.
  DEVICE void finish() {
    if (threadIdx.x % 128 == 0) tma::wait_read<0>();
  }
};
