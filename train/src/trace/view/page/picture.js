// Pictures of a rank's blocks: address by time, and how much of what is searched for was live. A picture
// is made a few milliseconds at a time, and shown moved and stretched while the next one is made.

// Pictures of details reach as far before and after what is shown: moving only shifts them.
const AROUND = 1;

function sketch(rank, width, tall, from, reach, wide) {
  return {
    rank, key: rank.key, width, tall, low: span.low, high: span.high, from, reach, wide,
    // Made so far: chunks of blocks, and columns of the curve.
    chunk: 0, columns: 0, done: false,
    image: new ImageData(wide, tall), active: new Float64Array(wide),
  };
}
// Goes on until `until`; true when it is done.
function paint(picture, until) {
  const { rank, from, reach, wide, tall, image } = picture, total = lines(rank);
  picture.pixels ||= new Uint32Array(image.data.buffer);
  const first = from / rank.tick, last = (from + reach) / rank.tick, scale = wide / (last - first);
  const low = picture.low * total, up = tall / ((picture.high - picture.low) * total);
  for (; picture.chunk < rank.latest.length; picture.chunk++) {
    if (performance.now() > until) return false;
    if (rank.begins[picture.chunk * CHUNK] > last) break;
    if (rank.latest[picture.chunk] >= first) paintChunk(picture, first, scale, low, up);
  }
  picture.chunk = rank.latest.length;
  if (!curve(picture, first, 1 / scale, until)) return false;
  const bitmap = picture.bitmap = document.createElement("canvas");
  bitmap.width = wide;
  bitmap.height = tall;
  bitmap.getContext("2d").putImageData(image, 0, 0);
  picture.image = picture.pixels = null;
  return picture.done = true;
}
function paintChunk({ rank, chunk, wide, tall, pixels }, first, scale, low, up) {
  const { begins, ends, places, sizes, owners, pixel } = rank;
  const upto = Math.min((chunk + 1) * CHUNK, begins.length);
  for (let i = chunk * CHUNK; i < upto; i++) {
    let left = (begins[i] - first) * scale, right = (ends[i] - first) * scale;
    if (right < 0) continue;
    if (left >= wide) return;
    let bottom = tall - (places[i] - low) * up, top = bottom - sizes[i] * up;
    if (bottom <= 0 || top >= tall) continue;
    left = left < 0 ? 0 : left | 0;
    right = right >= wide ? wide : Math.max(right | 0, left + 1);
    top = top < 0 ? 0 : top | 0;
    bottom = bottom > tall ? tall : Math.max(bottom | 0, top + 1);
    const colour = pixel[owners[i]];
    if (right - left === 1) for (let at = top * wide + left; top < bottom; top++, at += wide) pixels[at] = colour;
    else for (let row = top * wide; top < bottom; top++, row += wide) pixels.fill(colour, row + left, row + right);
  }
}
// The most that was live in each column: what was placed before less what was freed before.
function curve(picture, first, ticks, until) {
  const { rank, active } = picture, { begins, ends, sizes, owners, frees, hit } = rank;
  if (picture.columns === 0) {
    const placed = picture.placed = countTo(begins, first), freed = picture.freed = countTo(frees, first, i => ends[frees[i]]);
    const sum = (checkpoints, count, at) => {
      let chunk = Math.min((count / CHUNK) | 0, checkpoints.length - 1), sum = chunk < 0 ? 0 : checkpoints[chunk];
      for (let i = Math.max(chunk, 0) * CHUNK; i < count; i++) if (hit[owners[at(i)]]) sum += sizes[at(i)];
      return sum;
    };
    picture.now = sum(rank.placed, placed, i => i) - sum(rank.freed, freed, i => frees[i]);
  }
  let { placed, freed, now } = picture;
  for (; picture.columns < active.length; picture.columns++) {
    if (picture.columns % 16 === 0 && performance.now() > until) break;
    const upto = first + (picture.columns + 1) * ticks;
    let high = now;
    while (true) {
      const begin = placed < begins.length ? begins[placed] : Infinity, free = frees[freed];
      if (freed < frees.length && ends[free] <= begin && ends[free] <= upto) {
        if (hit[owners[free]]) now -= sizes[free];
        freed++;
      } else if (begin <= upto) {
        if (hit[owners[placed]]) now += sizes[placed];
        if (now > high) high = now;
        placed++;
      } else break;
    }
    active[picture.columns] = high;
  }
  Object.assign(picture, { placed, freed, now });
  return picture.columns === active.length;
}

// Decides which picture is made next. A panel has that of all time (`whole`), which is there wherever the view
// goes, and a finer one of about what is shown (`cache`). Until they are made anew, those there are will do.
function look(panel, width, tall) {
  const rank = paints(rankOf(panel)), reach = view.to - view.from;
  if (panel.whole?.rank !== rank) panel.whole = panel.cache = null;
  const same = is => is && is.rank === rank && is.key === rank.key && is.width === width && is.tall === tall;
  if (!same(panel.making)) panel.making = null;
  if (panel.making) return;
  const framed = is => same(is) && is.low === span.low && is.high === span.high;
  const around = AROUND * reach, part = reach + 2 * around;
  // A third of what is around is left when the next one is begun.
  const is = panel.cache, covers = is && is.from <= Math.max(0, view.from - around / 3) && is.from + is.reach >= Math.min(end, view.to + around / 3);
  const fits = reach === end ? framed(panel.whole) : covers && framed(is) && Math.abs(is.reach - part) < 1e-9 * part;
  if (panel.whole && reach < end && !fits) panel.making = sketch(rank, width, tall, view.from - around, part, width * (1 + 2 * AROUND));
  else if (!framed(panel.whole)) panel.making = sketch(rank, width, tall, 0, end, width);
}
// Makes what is to be made for at most so many milliseconds; true if there is more to draw.
function make(panel, milliseconds) {
  const { making } = panel;
  if (!making) return false;
  if (paint(making, performance.now() + milliseconds)) {
    const whole = making.wide === making.width;
    panel[whole ? "whole" : "cache"] = making;
    // What was finer is of other colours or addresses.
    if (whole && view.to - view.from === end) panel.cache = null;
    panel.making = null;
  }
  return true;
}
