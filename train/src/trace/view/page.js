"use strict";
// Columns of each rank are typed arrays: begins and ends in ticks, places and sizes in lines of 64
// bytes over all regions, and the number of each block's owner. `about` tells of owners: region,
// microbatch, slice, chunk, layer, name (-1: none).
const traces = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const LEFT = 92, AXIS = 20, STRIP = 34, LINE = 64;
// Okabe and Ito's hues, which colour-blind people can tell apart; ramps are viridis.
const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a800", "#7f7f7f"].map(rgb);
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const PHASES = ["forward", "backward", "backward: weights"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function rgb(text) {
  return [1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16));
}
function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[low].map((c, i) => Math.round(c + (RAMP[low + 1][i] - c) * (at - low)));
}
function decode(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Uint32Array(bytes.buffer);
}
const COLUMNS = ["begins", "ends", "places", "sizes", "owners"];
// Columns stay text until a rank is looked at.
function open(rank) {
  if (typeof rank.begins === "string") for (const name of COLUMNS) rank[name] = decode(rank[name]);
  return rank;
}
function bytes(x) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (x >= 1024 && at < 4) { x /= 1024; at++; }
  return `${at ? x.toFixed(2) : x} ${units[at]}`;
}
function seconds(t) {
  return t >= 1 ? `${t.toFixed(4)} s` : t >= 1e-3 ? `${(t * 1e3).toFixed(3)} ms` : `${(t * 1e6).toFixed(1)} µs`;
}
function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}
const unitName = ([microbatch, slice, chunk]) => microbatch < 0 ? "" : `mb${microbatch} s${slice}${chunk > 0 ? ` c${chunk}` : ""}`;

const end = Math.max(1e-9, ...traces.flatMap(t => t.ranks.map(r => r.end * r.tick)));
let view = { from: 0, to: end };
// The part of a rank's addresses that is shown, from 0 to 1.
let span = { low: 0, high: 1 };
let chosen = 0;
const panels = traces.map(trace => {
  const section = element("section", "", byId("panels"));
  element("h2", trace.name, section);
  const canvas = element("canvas", "", section);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${trace.name}: units of every rank over time, and the memory map of one rank`);
  const panel = { trace, canvas, cache: null };
  listen(panel);
  return panel;
});
const rankOf = panel => open(panel.trace.ranks[Math.min(chosen, panel.trace.ranks.length - 1)]);
const rowHeight = panel => Math.max(3, Math.min(13, Math.floor(170 / panel.trace.ranks.length)));
const chart = panel => panel.trace.ranks.length * rowHeight(panel) + 6;

const most = { microbatch: 0, slice: 0, layer: 0 };
for (const { ranks } of traces) for (const { about } of ranks) for (const [, microbatch, slice, , layer] of about) {
  most.microbatch = Math.max(most.microbatch, microbatch);
  most.slice = Math.max(most.slice, slice);
  most.layer = Math.max(most.layer, layer);
}
// Colour by what is chosen; grey for blocks that have no microbatch, slice or layer.
function colourOf([region, microbatch, slice, , layer], by) {
  const value = { region, microbatch, slice, layer }[by];
  if (value < 0) return [150, 150, 158];
  return by === "region" || by === "microbatch" ? HUES[value % HUES.length] : ramp(most[by] ? value / most[by] : 0.5);
}
function matches([region, microbatch, slice, chunk, layer, name], rank, tokens) {
  const text = `${rank.regions[region]} ${unitName([microbatch, slice, chunk])} ${layer < 0 ? "" : `layer ${layer} layer${layer}`} ${rank.names[name].join(" ")}`.toLowerCase();
  const words = text.split(/\s+/);
  return tokens.every(token => words.includes(token) || (!/^((mb|s|c|layer)?\d+)$/.test(token) && text.includes(token)));
}
// Each owner's colour as a pixel, dimmed unless it is searched for.
function paints(rank) {
  const by = byId("by").value, tokens = byId("search").value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const key = `${by} ${tokens.join(" ")} ${dark.matches}`;
  if (rank.key === key) return rank;
  const dim = style("--dim").match(/\w\w?/g).length === 3 ? rgb(style("--dim")) : [128, 128, 128];
  rank.key = key;
  rank.pixel = new Uint32Array(rank.about.length);
  rank.hit = new Uint8Array(rank.about.length);
  rank.about.forEach((owner, i) => {
    rank.hit[i] = matches(owner, rank, tokens);
    const [r, g, b] = rank.hit[i] ? colourOf(owner, by) : dim;
    rank.pixel[i] = 0xff000000 | (b << 16) | (g << 8) | r;
  });
  rank.searched = tokens.length > 0;
  return rank;
}
const lines = rank => Math.max(1, rank.bases.at(-1) + rank.extents.at(-1));

// Paints a rank's blocks once, for the time shown and as much before and after it: moving only shifts
// the picture.
function paint(panel, width, height) {
  const rank = paints(rankOf(panel)), reach = view.to - view.from;
  const from = view.from - reach, wide = width * 3, scale = (wide / (reach * 3)) * rank.tick;
  const total = lines(rank), low = span.low * total, up = height / ((span.high - span.low) * total);
  const image = new ImageData(wide, height), pixels = new Uint32Array(image.data.buffer);
  const active = new Float64Array(wide + 1);
  const { begins, ends, places, sizes, owners, pixel, hit, searched } = rank;
  const first = from / rank.tick;
  for (let i = 0; i < begins.length; i++) {
    let left = (begins[i] - first) * scale, right = (ends[i] - first) * scale;
    if (right < 0) continue;
    if (left >= wide) break;
    left = left < 0 ? 0 : left | 0;
    right = right >= wide ? wide : Math.max(right | 0, left + 1);
    if (!searched || hit[owners[i]]) {
      active[left] += sizes[i];
      if (right < wide) active[right] -= sizes[i];
    }
    let bottom = height - (places[i] - low) * up, top = bottom - sizes[i] * up;
    if (bottom <= 0 || top >= height) continue;
    top = top < 0 ? 0 : top | 0;
    bottom = bottom > height ? height : Math.max(bottom | 0, top + 1);
    const colour = pixel[owners[i]];
    for (let y = top, row = top * wide; y < bottom; y++, row += wide) pixels.fill(colour, row + left, row + right);
  }
  let sum = 0, peak = 0;
  for (let x = 0; x < wide; x++) {
    active[x] = sum += active[x];
    if (sum > peak) peak = sum;
  }
  const bitmap = document.createElement("canvas");
  bitmap.width = wide;
  bitmap.height = height;
  bitmap.getContext("2d").putImageData(image, 0, 0);
  panel.cache = { bitmap, active, peak, from, reach: reach * 3, key: rank.key, rank, low: span.low, high: span.high, width, height };
}

function draw(panel) {
  const { canvas, trace } = panel, ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  g.font = "11px system-ui, sans-serif";
  g.textBaseline = "middle";
  const inner = Math.max(1, width - LEFT), top = chart(panel) + STRIP, tall = Math.max(1, Math.floor(height - top - AXIS));
  const rank = paints(rankOf(panel)), reach = view.to - view.from, x = t => LEFT + ((t - view.from) / reach) * inner;
  const is = panel.cache;
  const same = is && is.rank === rank && is.key === rank.key && is.width === inner && is.height === tall;
  const fits = same && is.low === span.low && is.high === span.high && Math.abs(is.reach / 3 - reach) < reach * 1e-9;
  if (!fits || view.from < is.from || view.to > is.from + is.reach) {
    // While the scale changes, the old picture is stretched, and a new one painted when that pauses.
    if (!same || panel.ripe || !moving) { paint(panel, inner, tall); panel.ripe = false; }
    else later(panel);
  }
  const cache = panel.cache, cut = g => { g.beginPath(); g.rect(LEFT, 0, inner, height); g.clip(); };
  g.save();
  cut(g);
  gantt(panel, g, x, inner);
  g.imageSmoothingEnabled = false;
  const shown = cache.high - cache.low, up = tall * (shown / (span.high - span.low));
  g.save();
  g.beginPath();
  g.rect(LEFT, top, inner, tall);
  g.clip();
  g.drawImage(cache.bitmap, x(cache.from), top + tall - (cache.high - span.low) / (span.high - span.low) * tall, (cache.reach / reach) * inner, up);
  g.restore();
  strip(cache, g, x, chart(panel), STRIP - 6);
  g.fillStyle = style("--line");
  const total = lines(rank), y = line => top + tall - ((line / total - span.low) / (span.high - span.low)) * tall;
  rank.bases.forEach((base, i) => { if (rank.extents[i]) g.fillRect(LEFT, y(base), inner, 1); });
  if (panel.cursor !== undefined) {
    g.fillStyle = style("--faint");
    g.fillRect(x(panel.cursor), 0, 1, height - AXIS);
  }
  g.restore();
  g.fillStyle = style("--faint");
  const row = rowHeight(panel);
  trace.ranks.forEach((r, i) => {
    if (row < 10 && i % Math.ceil(10 / row)) return;
    g.fillText(`${i === Math.min(chosen, trace.ranks.length - 1) ? "▸ " : "   "}rank ${r.rank}`, 0, i * row + row / 2);
  });
  g.fillText(bytes(cache.peak * LINE), 0, chart(panel) + 8);
  let last = Infinity;
  rank.regions.forEach((name, i) => {
    const at = y(rank.bases[i] + rank.extents[i] / 2);
    if (!rank.extents[i] || at < top || at > top + tall || last - at < 11) return;
    g.fillText(name, 0, last = at);
  });
  const step = nice(reach / Math.max(2, inner / 130));
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    g.fillRect(x(t), height - AXIS, 1, 4);
    g.fillText(seconds(t), x(t) + 3, height - AXIS + 11);
  }
}
function gantt(panel, g, x, inner) {
  const row = rowHeight(panel);
  panel.trace.ranks.forEach((rank, i) => {
    let painted = -1;
    for (const [phase, microbatch, , , begin, finish] of rank.stretches) {
      const left = x(begin * rank.tick), right = x(finish * rank.tick);
      if (right < LEFT || left > LEFT + inner) continue;
      if (right - left < 1 && Math.floor(right) === painted) continue;
      painted = Math.floor(right);
      const [r, gr, b] = HUES[microbatch % HUES.length];
      g.fillStyle = `rgb(${r} ${gr} ${b} / ${[0.5, 1, 0.75][phase]})`;
      g.fillRect(left, i * row, Math.max(right - left - 0.5, 0.5), row - 1);
    }
  });
}
// Active bytes over time, of all blocks or of those searched for.
function strip(cache, g, x, top, height) {
  g.strokeStyle = style("--ink");
  g.lineWidth = 1;
  g.beginPath();
  const wide = cache.active.length - 1;
  for (let i = 0; i < wide; i++) {
    const at = x(cache.from + (i / wide) * cache.reach);
    if (at < LEFT - 1) continue;
    const level = top + height - (cache.active[i] / Math.max(cache.peak, 1)) * (height - 2);
    g.lineTo(at, level);
  }
  g.stroke();
}
function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].find(f => f * power >= step) * power;
}

let asked = false, moving = false, calm = 0;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; panels.forEach(draw); });
}
function later(panel) {
  panel.ripe = false;
  clearTimeout(calm);
  calm = setTimeout(() => { moving = false; panels.forEach(p => { p.ripe = true; }); redraw(); }, 90);
}
function move(from, reach = view.to - view.from) {
  from = Math.min(Math.max(from, 0), end - reach);
  view = { from, to: from + reach };
  redraw();
}
function zoom(factor, around) {
  moving = true;
  const reach = Math.min(Math.max((view.to - view.from) * factor, end * 1e-8), end);
  move(around - ((around - view.from) / (view.to - view.from)) * reach, reach);
}
function zoomAddresses(factor, around) {
  moving = true;
  const tall = Math.min(Math.max((span.high - span.low) * factor, 1e-5), 1);
  const low = Math.min(Math.max(around - ((around - span.low) / (span.high - span.low)) * tall, 0), 1 - tall);
  span = { low, high: low + tall };
  redraw();
}
function all() {
  span = { low: 0, high: 1 };
  move(0, end);
}
// Shows the whole life of a unit: its memory appears in forward and vanishes in backward.
function life(rank, unit) {
  const mine = rank.stretches.filter(s => s[1] === unit[1] && s[2] === unit[2] && s[3] === unit[3]);
  const begin = mine.filter(s => s[0] === 0 && s[4] <= unit[4]).at(-1) || unit;
  // The same unit of the next step begins with a forward again.
  const next = mine.find(s => s[0] === 0 && s[4] > begin[4]);
  const last = mine.filter(s => s[4] >= begin[4] && (!next || s[4] < next[4])).at(-1) || unit;
  const from = begin[4] * rank.tick, to = last[5] * rank.tick, margin = Math.max((to - from) * 0.06, end * 1e-6);
  byId("search").value = `mb${unit[1]} s${unit[2]}${unit[3] > 0 ? ` c${unit[3]}` : ""}`;
  view = { from: Math.max(0, from - margin), to: Math.min(end, to + margin) };
  search();
}

function place(panel, event) {
  const box = panel.canvas.getBoundingClientRect(), top = chart(panel) + STRIP, tall = box.height - top - AXIS;
  const x = event.clientX - box.left, y = event.clientY - box.top;
  const t = view.from + ((x - LEFT) / (box.width - LEFT)) * (view.to - view.from);
  const share = span.low + ((top + tall - y) / tall) * (span.high - span.low);
  return { t, y, share, onMap: y > top && y < top + tall, row: Math.floor(y / rowHeight(panel)) };
}
function blockAt(rank, t, line) {
  const { begins, ends, places, sizes } = rank, tick = t / rank.tick;
  let low = 0, high = begins.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (begins[middle] <= tick) low = middle + 1; else high = middle;
  }
  for (let i = low - 1; i >= 0; i--) if (ends[i] > tick && places[i] <= line && line < places[i] + sizes[i]) return i;
  return -1;
}
function describe(panel, { t, share, onMap, row }) {
  const ranks = panel.trace.ranks;
  if (onMap) {
    const rank = rankOf(panel), i = blockAt(rank, t, share * lines(rank));
    if (i < 0) return `rank ${rank.rank}, ${seconds(t)}: free`;
    const owner = rank.about[rank.owners[i]], [region, , , , layer, name] = owner;
    const [what, where] = rank.names[name];
    const begin = rank.begins[i] * rank.tick, finish = rank.ends[i] * rank.tick;
    return [`${what}${layer < 0 ? "" : ` in layer ${layer}`}: ${bytes(rank.sizes[i] * LINE)}`,
      `${unitName(owner.slice(1, 4)) || "no unit"}, ${rank.regions[region]} at byte ${(rank.places[i] - rank.bases[region]) * LINE}`,
      `${seconds(begin)} to ${seconds(finish)}: lives ${seconds(finish - begin)}`, where].join("\n");
  }
  const rank = ranks[row];
  if (!rank) return seconds(t);
  const stretch = rank.stretches.find(s => s[4] * rank.tick <= t && t <= s[5] * rank.tick);
  return stretch ? `rank ${rank.rank}: ${PHASES[stretch[0]]} ${unitName(stretch.slice(1, 4))}\n${seconds(stretch[4] * rank.tick)}, ${seconds((stretch[5] - stretch[4]) * rank.tick)}` : `rank ${rank.rank}, ${seconds(t)}`;
}
function listen(panel) {
  const { canvas } = panel, tip = byId("tip");
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const { t, share } = place(panel, event), delta = event.deltaY || event.deltaX;
    if (event.shiftKey) zoomAddresses(Math.exp(delta / 400), share);
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(view.from + (event.deltaX / canvas.clientWidth) * (view.to - view.from));
    else zoom(Math.exp(delta / 400), t);
  }, { passive: false });
  let grabbed = null;
  canvas.addEventListener("pointerdown", event => {
    grabbed = { x: event.clientX, y: event.clientY, from: view.from, low: span.low, far: false };
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.add("grabbed");
  });
  canvas.addEventListener("pointerup", event => {
    canvas.classList.remove("grabbed");
    const was = grabbed;
    grabbed = null;
    if (!was || was.far) return;
    const { t, row, onMap } = place(panel, event), rank = panel.trace.ranks[row];
    if (onMap || !rank) return;
    choose(row);
    const unit = rank.stretches.find(s => s[4] * rank.tick <= t && t <= s[5] * rank.tick);
    if (unit) life(rank, unit);
  });
  canvas.addEventListener("pointermove", event => {
    if (grabbed) {
      const [dx, dy] = [event.clientX - grabbed.x, event.clientY - grabbed.y];
      if (!grabbed.far && Math.hypot(dx, dy) < 4) return;
      grabbed.far = true;
      const tall = span.high - span.low, low = Math.min(Math.max(grabbed.low + (dy / canvas.clientHeight) * tall, 0), 1 - tall);
      if (low !== span.low) { moving = true; span = { low, high: low + tall }; }
      return move(grabbed.from - (dx / (canvas.clientWidth - LEFT)) * (view.to - view.from));
    }
    const at = place(panel, event);
    for (const other of panels) other.cursor = at.t;
    redraw();
    tip.hidden = at.t < 0 || at.t > end;
    tip.textContent = describe(panel, at);
    tip.style.left = `${Math.max(0, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(0, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
  });
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
    for (const other of panels) delete other.cursor;
    redraw();
  });
}

function choose(index) {
  const count = Math.max(...traces.map(t => t.ranks.length));
  chosen = Math.min(Math.max(index, 0), count - 1);
  byId("rank").value = String(chosen);
  search();
}
// Counts what is searched for on the ranks shown.
function search() {
  const found = panels.map(panel => {
    const rank = paints(rankOf(panel));
    if (!rank.searched) return "";
    let count = 0, first = Infinity, last = 0;
    for (let i = 0; i < rank.owners.length; i++) if (rank.hit[rank.owners[i]]) {
      count++;
      first = Math.min(first, rank.begins[i]);
      last = Math.max(last, rank.ends[i]);
    }
    panel.found = count ? { from: first * rank.tick, to: last * rank.tick } : null;
    return `${count} of ${rank.owners.length} blocks`;
  });
  byId("found").textContent = found.filter(Boolean).join("; ");
  redraw();
}
function legend() {
  const box = byId("legend"), by = byId("by").value;
  box.textContent = "";
  const item = (colour, text) => { const s = element("span", "", box); element("i", "", s).style.background = `rgb(${colour.join(" ")})`; s.append(text); };
  if (by === "region") traces[0]?.ranks[0]?.regions.forEach((name, i) => item(HUES[i % HUES.length], name));
  else {
    const count = most[by] + 1, shown = by === "microbatch" ? Math.min(count, HUES.length) : Math.min(count, 8);
    for (let i = 0; i < shown; i++) {
      const value = by === "microbatch" || count <= 8 ? i : Math.round((i / 7) * most[by]);
      item(by === "microbatch" ? HUES[i] : ramp(most[by] ? value / most[by] : 0.5), `${by} ${value}${by === "microbatch" && count > HUES.length ? " …" : ""}`);
    }
    item([150, 150, 158], `no ${by}`);
  }
}

Array.from({ length: Math.max(0, ...traces.map(t => t.ranks.length)) }, (_, i) => {
  element("option", String(traces.find(t => t.ranks[i]).ranks[i].rank), byId("rank")).value = String(i);
});
byId("rank").addEventListener("change", event => choose(Number(event.target.value)));
byId("by").addEventListener("change", () => { legend(); redraw(); });
byId("search").addEventListener("input", search);
byId("search").addEventListener("keydown", event => {
  const found = panels.map(p => p.found).find(Boolean);
  if (event.key !== "Enter" || !found) return;
  view = found.to > found.from ? { ...found } : view;
  redraw();
});
byId("all").addEventListener("click", all);
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/INPUT|SELECT/.test(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const middle = (view.from + view.to) / 2, reach = view.to - view.from, tall = span.high - span.low;
  const shift = by => { moving = true; const low = Math.min(Math.max(span.low + by, 0), 1 - tall); span = { low, high: low + tall }; redraw(); };
  const keys = {
    "+": () => zoom(0.7, middle), "=": () => zoom(0.7, middle), "-": () => zoom(1 / 0.7, middle),
    ArrowLeft: () => move(view.from - reach / 8), ArrowRight: () => move(view.from + reach / 8),
    ArrowUp: () => shift(tall / 8), ArrowDown: () => shift(-tall / 8),
    PageUp: () => zoomAddresses(0.7, span.low + tall / 2), PageDown: () => zoomAddresses(1 / 0.7, span.low + tall / 2),
    0: all, Home: () => move(0), End: () => move(end - reach),
    "[": () => choose(chosen - 1), "]": () => choose(chosen + 1), "/": () => byId("search").focus(),
  };
  if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
});
addEventListener("resize", redraw);
dark.addEventListener("change", redraw);
legend();
choose(0);
