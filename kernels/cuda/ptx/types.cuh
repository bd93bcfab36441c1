// Names for the machine's types. There are no headers to include: NVRTC gets this text and no other.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__

// A tensor map as the driver encodes it.
struct alignas(64) TensorMap {
  u64 words[16];
};

// A bfloat16 in memory; arithmetic is in f32.
struct bf16 {
  u16 bits;
};

#define NEG_INF __int_as_float(0xff800000)
