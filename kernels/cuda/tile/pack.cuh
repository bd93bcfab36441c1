// Neighbouring elements, loaded and stored by as few instructions as their alignment allows.
#pragma once
#include "tile/float.cuh"
#include "tile/grid.cuh"

// Bytes that one thread moves at once.
constexpr int PACK_BYTES = 16;

DEVICE bool aligned(const void* pointer) { return (u64)pointer % PACK_BYTES == 0; }

template <typename... Others>
DEVICE bool aligned(const void* first, Others... others) {
  return aligned(first) && aligned(others...);
}

// N elements at an address that is as aligned as one instruction wants.
template <typename T, int N>
struct alignas(N * sizeof(T) < PACK_BYTES ? N * sizeof(T) : PACK_BYTES) Raw {
  T at[N];

  static DEVICE Raw load(const T* from) { return *(const Raw*)from; }
  DEVICE void store(T* to) const { *(Raw*)to = *this; }
};

// N elements as f32.
template <int N>
struct Pack {
  static constexpr int SIZE = N;
  f32 at[N];

  DEVICE f32& operator[](int i) { return at[i]; }
  DEVICE const f32& operator[](int i) const { return at[i]; }

  template <typename T>
  static DEVICE Pack load(const T* from) {
    auto raw = Raw<T, N>::load(from);
    Pack pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.at[i] = to_f32(raw.at[i]);
    return pack;
  }

  // Element i is f(i).
  template <typename T, typename F>
  static DEVICE void store(T* to, F f) {
    Raw<T, N> raw;
#pragma unroll
    for (int i = 0; i < N; ++i) round_to(f(i), raw.at[i]);
    raw.store(to);
  }
};

// Calls f(pack, start) for elements 0..len, those of thread `thread` of `threads`: packs of N if
// `packed` says that all pointers allow it, and packs of one for the rest.
template <int N, typename F>
DEVICE void for_packs(u64 len, bool packed, u64 thread, u64 threads, F f) {
  u64 many = packed ? len / N * N : 0;
  for (u64 i = thread * N; i < many; i += threads * N) f(Pack<N>(), i);
  for (u64 i = many + thread; i < len; i += threads) f(Pack<1>(), i);
}

// The same, shared by all threads of the grid.
template <int N, typename F>
DEVICE void for_grid_packs(u64 len, bool packed, F f) {
  u64 thread = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  for_packs<N>(len, packed, thread, (u64)gridDim.x * blockDim.x, f);
}
