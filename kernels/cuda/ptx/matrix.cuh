// Four 8x8 matrices of 16-bit elements between registers and shared memory. Lane 8 i + r names row r
// of matrix i; register i of lane l is elements 2 (l % 4) and one more of row l / 4 of matrix i.
#pragma once
#include "ptx/types.cuh"

namespace matrix {

DEVICE void store4(u32 row, u32 a, u32 b, u32 c, u32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}

DEVICE void load4(u32 row, u32& a, u32& b, u32& c, u32& d) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
               : "r"(row)
               : "memory");
}

}  // namespace matrix
