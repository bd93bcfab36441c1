// Warpgroup matrix products: four warps multiply a 64 x 16 piece of A by a 16 x N piece of B, both
// bf16, into f32 registers, asynchronously.
//
// Register 4 j + i of lane l of warp w is row 16 w + l / 4 + 8 (i / 2), column 8 j + 2 (l % 4) + i % 2.
// Registers of A hold the same rows and columns, two neighbouring columns to a register.
#pragma once
#include "ptx/types.cuh"

// How an operand lies in shared memory: rows of 128 bytes, swizzled, along the contracted dimension
// (K) or along the other (MN).
enum class Major { K = 0, MN = 1 };

namespace wgmma {

// Registers written before are ready for products that follow.
DEVICE void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Ends the current group of products.
DEVICE void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most PENDING groups are unfinished.
template <int PENDING>
DEVICE void wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// What tells a product where its operand lies: groups of eight 128-byte rows are `stride` bytes apart,
// blocks of 64 elements along MN (if that is the major dimension) `leading` bytes.
DEVICE u64 descriptor(u32 address, u32 stride, u32 leading) {
  constexpr u64 SWIZZLE_128 = 1ull << 62;
  return SWIZZLE_128 | (u64)(stride >> 4) << 32 | (u64)(leading >> 4) << 16 | (address & 0x3ffff) >> 4;
}

// The names of 32, 64 or 128 registers in the text of an instruction, and what they stand for.
#define NAMES_32                                                                                   \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                         \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NAMES_64                                                                                   \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                         \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"                               \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"                               \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NAMES_128                                                                                  \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                         \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"                               \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"                               \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"                               \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"                               \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"                               \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"                   \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define SUMS_8(i)                                                                                  \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]),                      \
      "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_32(i) SUMS_8(i), SUMS_8(i + 8), SUMS_8(i + 16), SUMS_8(i + 24)
#define SUMS_64(i) SUMS_32(i), SUMS_32(i + 32)
#define SUMS_128(i) SUMS_64(i), SUMS_64(i + 64)

// D = A B, or D += A B if told to accumulate, with A in shared memory or in registers. N columns take
// COUNT = N / 2 registers; A to G are the numbers of the operands behind them.
#define PRODUCTS(N, COUNT, A, B, C, D, E, F, G)                                                    \
  template <Major MAJOR_A, Major MAJOR_B>                                                          \
  DEVICE void multiply(float (&d)[COUNT], u64 a, u64 b, bool accumulate) {                         \
    asm volatile(                                                                                  \
        "{.reg .pred add;\n"                                                                       \
        "setp.ne.b32 add, %" #C ", 0;\n"                                                           \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 "                                \
        "{" NAMES_##COUNT "}, %" #A ", %" #B ", add, 1, 1, %" #D ", %" #E ";}"                     \
        : SUMS_##COUNT(0)                                                                          \
        : "l"(a), "l"(b), "r"((int)accumulate), "n"((int)MAJOR_A), "n"((int)MAJOR_B));             \
  }                                                                                                \
  template <Major MAJOR_B>                                                                         \
  DEVICE void multiply(float (&d)[COUNT], const u32* a, u64 b, bool accumulate) {                  \
    asm volatile(                                                                                  \
        "{.reg .pred add;\n"                                                                       \
        "setp.ne.b32 add, %" #F ", 0;\n"                                                           \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 "                                \
        "{" NAMES_##COUNT "}, {%" #A ", %" #B ", %" #C ", %" #D "}, %" #E ", add, 1, 1, %" #G ";}" \
        : SUMS_##COUNT(0)                                                                          \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)accumulate),                \
          "n"((int)MAJOR_B));                                                                      \
  }

PRODUCTS(64, 32, 32, 33, 34, 35, 36, 37, 38)
PRODUCTS(128, 64, 64, 65, 66, 67, 68, 69, 70)
PRODUCTS(256, 128, 128, 129, 130, 131, 132, 133, 134)

#undef PRODUCTS

}  // namespace wgmma
