// What the page holds: of each rank columns of 32-bit numbers, in base 64. Blocks, in the order in which they
// were placed: begin and end in ticks, place and size in lines over all regions, and the number of the owner.
// Owners: region, microbatch, slice, chunk, layer, name (-1: none). Stretches, in which a rank ran a unit:
// phase, unit, begin and end in ticks. Pauses, which are shorter in ticks than they lasted.
const { runs: traces, pauses } = JSON.parse(byId("data").textContent);
const OF_BLOCKS = ["begins", "ends", "places", "sizes", "owners"];
const OF_OWNERS = ["region", "microbatch", "slice", "chunk", "layer", "name"];
const OF_STRETCHES = ["phase", "microbatch", "slice", "chunk", "begin", "end"];
// Blocks that are passed over together where all of them have ended.
const CHUNK = 512;

function decode(id) {
  const element = byId(id), text = element.textContent;
  element.remove();
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text).buffer;
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}
// Puts `count` numbers of each name at `at` into `to`; gives where the next begin.
function columns(to, names, Type, buffer, at, count) {
  for (const name of names) {
    to[name] = new Type(buffer, at, count);
    at += 4 * count;
  }
  return at;
}
// Indices by ascending key; of equal keys in their order.
function orderOf(keys) {
  let order = new Uint32Array(keys.length).map((_, i) => i), next = new Uint32Array(keys.length);
  for (const shift of [0, 11, 22]) {
    const starts = new Uint32Array(2049);
    for (let i = 0; i < keys.length; i++) starts[((keys[i] >>> shift) & 2047) + 1]++;
    for (let i = 1; i < starts.length; i++) starts[i] += starts[i - 1];
    for (let i = 0; i < order.length; i++) next[starts[(keys[order[i]] >>> shift) & 2047]++] = order[i];
    [order, next] = [next, order];
  }
  return order;
}
// How many of an ascending column are at most x.
function countTo(column, x, at = i => column[i]) {
  let low = 0, high = column.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (at(middle) <= x) low = middle + 1; else high = middle;
  }
  return low;
}
// Blocks stay text until a rank is looked at.
function open(rank) {
  if (rank.begins) return rank;
  const buffer = decode(rank.data);
  const at = columns(rank, OF_BLOCKS, Uint32Array, buffer, 0, rank.blocks);
  columns(rank.about = {}, OF_OWNERS, Int32Array, buffer, at, rank.kinds);
  rank.frees = orderOf(rank.ends);
  const { ends } = rank, latest = rank.latest = new Uint32Array(Math.ceil(ends.length / CHUNK));
  for (let i = 0; i < ends.length; i++) {
    const chunk = (i / CHUNK) | 0;
    if (ends[i] > latest[chunk]) latest[chunk] = ends[i];
  }
  return rank;
}
for (const { ranks } of traces) for (const rank of ranks) {
  columns(rank.stretches = {}, OF_STRETCHES, Uint32Array, decode(rank.units), 0, rank.runs);
}
// The time since the first log began, of a time on the page. Ticks are rounded: what is at an edge of a fold
// belongs to what is beside it.
function real(t) {
  let hidden = 0;
  for (const { at, shown, lasted } of pauses) if (t > at + shown / 2) hidden += lasted - shown;
  return t + hidden;
}
const lines = rank => Math.max(1, rank.bases.at(-1) + rank.extents.at(-1));
const end = Math.max(1e-9, ...traces.flatMap(t => t.ranks.map(r => r.end * r.tick)));
const most = { microbatch: 0, slice: 0, layer: 0 };
for (const { ranks } of traces) for (const rank of ranks) for (const name in most) most[name] = Math.max(most[name], rank.most[name]);

// The block that is at that line at that time, or -1.
function blockAt(rank, time, line) {
  const { begins, ends, places, sizes, latest } = rank, tick = time / rank.tick;
  let i = countTo(begins, tick) - 1;
  while (i >= 0) {
    const chunk = (i / CHUNK) | 0;
    if (latest[chunk] <= tick) { i = chunk * CHUNK - 1; continue; }
    if (ends[i] > tick && places[i] <= line && line < places[i] + sizes[i]) return i;
    i--;
  }
  return -1;
}
// The stretch in which the rank is at that time, or -1.
function stretchAt(rank, time) {
  const { begin, end } = rank.stretches, tick = time / rank.tick, i = countTo(begin, tick) - 1;
  return i >= 0 && tick <= end[i] ? i : -1;
}
const unitOf = (table, i) => [table.microbatch[i], table.slice[i], table.chunk[i]];
const unitName = ([microbatch, slice, chunk]) => microbatch < 0 ? "" : `mb${microbatch} s${slice}${chunk > 0 ? ` c${chunk}` : ""}`;

// What is searched for, as a test of owners: words with a number name a unit or layer, others are looked
// for in names of regions, operations and files.
function seeker(rank, text) {
  const { region, microbatch, slice, chunk, layer, name } = rank.about, tests = [];
  for (const word of text.toLowerCase().split(/[\s,]+/).filter(Boolean)) {
    const [, part, number] = /^(mb|s|c|layer|)(\d+)$/.exec(word) || [];
    const column = { mb: microbatch, s: slice, c: chunk, layer, "": layer }[part];
    const has = number === undefined ? text => text.includes(word) : text => text.split(/\s+/).includes(word);
    const named = rank.names.map(texts => has(texts.join(" ").toLowerCase()));
    const placed = rank.regions.map(text => has(text));
    const layered = number === undefined && "layer".includes(word);
    tests.push(i => column && column[i] === +number || named[name[i]] || placed[region[i]] || layered && layer[i] >= 0);
  }
  return i => tests.every(test => test(i));
}
