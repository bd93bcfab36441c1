// Of blocks: by what is chosen, dimmed unless they are searched for.
const NONE = [150, 150, 158];
const pixelOf = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
// Colour by what is chosen; grey for blocks that have no microbatch, slice or layer.
function colourOf(value, by) {
  if (value < 0) return NONE;
  return by === "region" || by === "microbatch" ? HUES[value % HUES.length] : ramp(most[by] ? value / most[by] : 0.5);
}
// Each owner's colour as a pixel, dimmed unless it is searched for; and how much of what is searched for
// has been placed and freed before each chunk of blocks, how much of it there is, and when.
function paints(rank) {
  const by = byId("by").value, sought = byId("search").value.trim();
  const key = `${by} ${sought} ${dark.matches}`;
  if (rank.key === key) return rank;
  rank.key = key;
  const kinds = rank.kinds, is = seeker(rank, sought), dim = pixelOf(rgb(style("--dim")));
  rank.pixel = new Uint32Array(kinds);
  rank.hit = new Uint8Array(kinds);
  for (let i = 0; i < kinds; i++) {
    rank.hit[i] = is(i);
    rank.pixel[i] = rank.hit[i] ? pixelOf(colourOf(rank.about[by][i], by)) : dim;
  }
  const { begins, ends, sizes, owners, frees, hit } = rank;
  const found = rank.found = { sought, count: 0, first: Infinity, last: 0 };
  const placed = rank.placed = new Float64Array(rank.latest.length), freed = rank.freed = new Float64Array(rank.latest.length);
  let up = 0, down = 0;
  for (let i = 0; i < begins.length; i++) {
    if (i % CHUNK === 0) { placed[i / CHUNK] = up; freed[i / CHUNK] = down; }
    if (hit[owners[i]]) {
      up += sizes[i];
      found.count++;
      if (begins[i] < found.first) found.first = begins[i];
      if (ends[i] > found.last) found.last = ends[i];
    }
    const free = frees[i];
    if (hit[owners[free]]) down += sizes[free];
  }
  return rank;
}
