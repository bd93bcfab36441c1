// A run's panel: above the units of every rank over time, below what the chosen rank's memory held.
const LEFT = 92, AXIS = 20, STRIP = 34;
// Milliseconds of a frame in which pictures are made.
const BUDGET = 7;
const PHASES = ["forward", "backward", "backward: weights"];
const STRENGTH = [128, 255, 190];

let view = { from: 0, to: end };
// The part of a rank's addresses that is shown, from 0 to 1.
let span = { low: 0, high: 1 };
let chosen = 0;
const rankOf = panel => open(panel.trace.ranks[Math.min(chosen, panel.trace.ranks.length - 1)]);
const rowHeight = panel => Math.max(3, Math.min(13, Math.floor(170 / panel.trace.ranks.length)));
const chart = panel => panel.trace.ranks.length * rowHeight(panel) + 6;

// Draws a panel; true if there is more to come.
function draw(panel) {
  const { canvas } = panel, ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return false;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  g.font = "11px system-ui, sans-serif";
  g.textBaseline = "middle";
  g.imageSmoothingEnabled = false;
  const inner = Math.max(1, width - LEFT), top = chart(panel) + STRIP, tall = Math.max(1, Math.floor(height - top - AXIS));
  look(panel, inner, tall);
  // Nothing to show yet: that is worth a longer frame.
  const more = make(panel, (panel.whole || panel.cache ? BUDGET : 8 * BUDGET) / panels.length);
  const reach = view.to - view.from, x = t => LEFT + ((t - view.from) / reach) * inner;
  const clip = (y, height, what) => {
    g.save();
    g.beginPath();
    g.rect(LEFT, y, inner, height);
    g.clip();
    what();
    g.restore();
  };
  clip(0, top - STRIP, () => rows(panel, g, x, inner));
  clip(top - STRIP, STRIP, () => strip(panel, g, x, top - STRIP, STRIP - 6));
  clip(top, tall, () => map(panel, g, x, inner, top, tall));
  if (panel.cursor !== undefined) {
    g.fillStyle = style("--faint");
    clip(0, height - AXIS, () => g.fillRect(x(panel.cursor), 0, 1, height - AXIS));
  }
  clip(0, height - AXIS, () => peaks(panel, g, x, inner, top, tall));
  clip(0, height - AXIS, () => tears(g, x, inner, height - AXIS));
  words(panel, g, inner, top, tall);
  axis(g, x, inner, height);
  return more;
}

// The units of every rank, a row each, from a picture whose rows are a pixel high.
function rows(panel, g, x, inner) {
  const { ranks } = panel.trace, row = rowHeight(panel), reach = view.to - view.from, is = panel.rows;
  if (!is || is.wide !== inner * 3 || Math.abs(is.reach - 3 * reach) > 1e-9 * reach || view.from < is.from || view.to > is.from + is.reach) {
    const wide = inner * 3, from = view.from - reach, image = new ImageData(wide, ranks.length);
    const pixels = new Uint32Array(image.data.buffer);
    ranks.forEach((rank, at) => {
      const { phase, microbatch, begin, end } = rank.stretches, scale = wide / (3 * reach) * rank.tick, first = from / rank.tick;
      for (let i = countTo(end, first); i < begin.length; i++) {
        const left = Math.max(0, Math.round((begin[i] - first) * scale)), right = Math.min(wide, Math.round((end[i] - first) * scale));
        if (left >= wide) break;
        // Units that are wide enough are seen apart.
        const upto = Math.max(left + 1, right - left > 3 ? right - 1 : right);
        pixels.fill(pixelOf(HUES[microbatch[i] % HUES.length], STRENGTH[phase[i]]), at * wide + left, at * wide + upto);
      }
    });
    const bitmap = document.createElement("canvas");
    bitmap.width = wide;
    bitmap.height = ranks.length;
    bitmap.getContext("2d").putImageData(image, 0, 0);
    panel.rows = { bitmap, wide, from, reach: 3 * reach };
  }
  const { bitmap, wide, from } = panel.rows, left = x(from), right = x(from + panel.rows.reach);
  ranks.forEach((_, i) => g.drawImage(bitmap, 0, i, wide, 1, left, i * row, right - left, row - 1));
}
// The pictures there are, the finer one over the coarser one.
function map(panel, g, x, inner, top, tall) {
  const total = lines(rankOf(panel)), y = share => top + tall - ((share - span.low) / (span.high - span.low)) * tall;
  for (const is of [panel.whole, panel.cache]) if (is) {
    const left = x(is.from), right = x(is.from + is.reach), high = y(is.high), low = y(is.low);
    g.clearRect(left, high, right - left, low - high);
    g.drawImage(is.bitmap, left, high, right - left, low - high);
  }
  const { bases, extents } = rankOf(panel);
  g.fillStyle = style("--line");
  bases.forEach((base, i) => { if (extents[i]) g.fillRect(LEFT, y(base / total), inner, 1); });
}
// Active bytes over time, of all blocks or of those searched for.
function strip(panel, g, x, top, height) {
  const covers = is => is && is.from <= Math.max(0, view.from) && is.from + is.reach >= Math.min(end, view.to);
  const is = covers(panel.cache) ? panel.cache : panel.whole || panel.cache;
  if (!is) return;
  g.strokeStyle = style("--ink");
  g.lineWidth = 1;
  g.beginPath();
  const high = Math.max(peak(panel), 1), column = is.reach / is.active.length;
  const first = Math.max(0, Math.floor((view.from - is.from) / column)), last = Math.min(is.active.length - 1, Math.ceil((view.to - is.from) / column));
  for (let i = first; i <= last; i++) g.lineTo(x(is.from + i * column), top + height - (is.active[i] / high) * (height - 2));
  g.stroke();
}
// The most lines that were live, of all blocks or of those searched for.
function peak(panel) {
  const rank = rankOf(panel), is = panel.whole;
  if (!rank.found?.sought) return rank.peak / rank.line;
  if (!is || is.key !== rank.key) return rank.peak / rank.line;
  return is.peak ??= is.active.reduce((most, x) => Math.max(most, x), 0);
}
function words(panel, g, inner, top, tall) {
  const { ranks } = panel.trace, rank = rankOf(panel), row = rowHeight(panel), total = lines(rank);
  g.fillStyle = style("--faint");
  ranks.forEach((r, i) => {
    if (row < 10 && i % Math.ceil(10 / row)) return;
    g.fillText(`${i === Math.min(chosen, ranks.length - 1) ? "▸ " : "   "}rank ${r.rank}`, 0, i * row + row / 2);
  });
  g.fillText(bytes(peak(panel) * rank.line), 0, chart(panel) + 8);
  let last = Infinity;
  rank.regions.forEach((name, i) => {
    const at = top + tall - (((rank.bases[i] + rank.extents[i] / 2) / total - span.low) / (span.high - span.low)) * tall;
    if (!rank.extents[i] || at < top || at > top + tall || last - at < 11) return;
    g.fillText(name, 0, last = at);
  });
}
// Round times, between pauses.
function axis(g, x, inner, height) {
  const step = nice((view.to - view.from) / Math.max(2, inner / 130)), digits = Math.max(4, Math.ceil(-Math.log10(step)));
  g.fillStyle = style("--faint");
  let { from } = view, free = LEFT;
  for (const { at: upto, shown } of [...pauses, { at: view.to, shown: 0 }]) {
    const later = real(from) - from, first = Math.ceil((from + later) / step) * step - later;
    for (let t = first; t <= Math.min(upto, view.to); t += step) {
      const text = tick(seconds(t + later, digits)), at = x(t) + 3, wide = g.measureText(text).width;
      g.fillRect(at - 3, height - AXIS, 1, 4);
      if (at < free || at + wide > LEFT + inner) continue;
      g.fillText(text, at, height - AXIS + 11);
      free = at + wide + 6;
    }
    from = Math.max(from, upto + shown);
  }
}

let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (pinned) tell();
    if (panels.map(draw).some(Boolean)) redraw();
  });
}
