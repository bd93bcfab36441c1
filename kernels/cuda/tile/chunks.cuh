// Keys and values as a list of chunks, each of consecutive positions and with its own tensor maps.
#pragma once
#include "ptx/fence.cuh"
#include "ptx/types.cuh"

// The positions of a chunk's rows.
struct Span {
  int start, len;
};

// Where gradients of a chunk's keys and values are added up: f32, dense.
struct Sums {
  float *dk, *dv;
};

// LIST_BYTES of a list come with the parameters of a kernel; a longer one lies in global memory.
struct ListArgs {
  const u8* table;  // null: `bytes`
  int count;
  alignas(64) u8 bytes[LIST_BYTES];
};

// A list is `count` maps of keys, as many of values, spans and sums.
struct ChunkList {
  const u8* list;
  int count;
  bool in_memory;

  DEVICE explicit ChunkList(const ListArgs& args)
      : list(args.table ? args.table : args.bytes), count(args.count), in_memory(args.table) {}

  DEVICE const TensorMap* k(int chunk) const { return map(chunk); }
  DEVICE const TensorMap* v(int chunk) const { return map(count + chunk); }
  DEVICE Span span(int chunk) const { return ((const Span*)(list + count * 256))[chunk]; }
  DEVICE Sums sums(int chunk) const { return ((const Sums*)(list + count * 264))[chunk]; }

 private:
  DEVICE const TensorMap* map(int index) const {
    const TensorMap* map = (const TensorMap*)list + index;
    if (in_memory) fence::acquire_tensor_map(map);
    return map;
  }
};

// Walks over those blocks of BLOCK keys that a query at position `last` sees some of.
template <int BLOCK>
struct BlockWalk {
  const ChunkList& list;
  int last;
  int chunk = -1;
  int first = 0;  // row of the chunk with which the block begins
  int seen = 0;   // rows of the chunk up to position `last`
  int position = 0;  // of row `first`

  DEVICE BlockWalk(const ChunkList& list, int last) : list(list), last(last) {}

  // Goes to the next block, or the first; false if there is none.
  DEVICE bool advance() {
    first += BLOCK;
    position += BLOCK;
    while (first >= seen) {
      if (++chunk >= list.count) return false;
      Span span = list.span(chunk);
      first = 0;
      position = span.start;
      seen = min(span.len, last + 1 - span.start);
    }
    return true;
  }
};
