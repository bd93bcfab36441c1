// Bars: [kind, microbatch, begin, end, label]. The microbatch sets the hue, the kind how strong it is.
const charts = JSON.parse(byId("data").textContent);
const KINDS = ["forward", "backward", "backward: inputs", "backward: weights", "attention for others", "vocabulary", "waiting, messages"];
const STRENGTH = [0.45, 1, 0.8, 0.62, 0.9, 0.9, 0.25];
const ROW = 18, GAP = 3, HELD = 84, LEFT = 64, AXIS = 20;
const end = Math.max(...charts.map(c => c.end), Number.MIN_VALUE);
let view = { from: 0, to: end };

const colour = ([kind, microbatch]) =>
  kind === 6 ? style("--faint") : kind === 4 ? "#999999" : kind === 5 ? "#5b3fa0" : css(HUES[Math.max(microbatch, 0) % HUES.length]);
const rankHue = (rank, count) => css(ramp(count > 1 ? rank / (count - 1) : 0));

const time = (chart, t) => (chart.seconds ? seconds(t) : String(+t.toPrecision(6)));
const amount = (chart, x) => (chart.bytes ? bytes(x) : `${x} units in flight`);
// The last position whose value is at most x, or -1.
function last(list, x, value) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value(list[middle]) <= x) low = middle + 1; else high = middle;
  }
  return low - 1;
}

for (const chart of charts) {
  const section = element("section", "", byId("charts"));
  element("h2", chart.title, section);
  element("p", `ends at ${time(chart, chart.end)}, idle ${(100 * chart.bubble).toFixed(2)} %`, section).className = "facts";
  chart.canvas = element("canvas", "", section);
  chart.canvas.tabIndex = 0;
  chart.canvas.setAttribute("role", "img");
  chart.canvas.setAttribute("aria-label", `${chart.title}: what each rank does over time, and what it holds`);
  chart.height = chart.ranks.length * (ROW + GAP) + HELD + AXIS + 12;
  chart.canvas.style.height = `${chart.height}px`;
  chart.most = Math.max(...chart.ranks.map(r => r.peak), Number.MIN_VALUE);
  const details = element("details", "", section);
  element("summary", "ranks in numbers", details);
  const table = element("table", "", details);
  const head = element("tr", "", table);
  for (const name of ["rank", "busy", "idle", "holds at most"]) element("th", name, head);
  chart.ranks.forEach((rank, index) => {
    const row = element("tr", "", table);
    const idle = `${(100 * (1 - rank.busy / chart.end)).toFixed(2)} %`;
    for (const text of [index, time(chart, rank.busy), idle, amount(chart, rank.peak)]) element("td", text, row);
  });
  listen(chart);
}

const used = new Set();
for (const chart of charts) for (const rank of chart.ranks) for (const bar of rank.bars) used.add(bar[0]);
for (const kind of [...used].sort()) {
  const span = element("span", "", byId("legend"));
  const box = element("i", "", span);
  box.style.background = colour([kind, 0]);
  box.style.opacity = STRENGTH[kind];
  span.append(KINDS[kind]);
}
if (used.size) element("span", "one hue per microbatch; lines: what ranks hold, the first darkest", byId("legend"));

function draw(chart) {
  const canvas = chart.canvas, ratio = devicePixelRatio || 1, width = canvas.clientWidth;
  canvas.width = width * ratio;
  canvas.height = chart.height * ratio;
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  g.font = "11px system-ui, sans-serif";
  g.textBaseline = "middle";
  const scale = (width - LEFT) / (view.to - view.from), x = t => LEFT + (t - view.from) * scale;
  g.save();
  g.beginPath();
  g.rect(LEFT, 0, width - LEFT, chart.height);
  g.clip();
  chart.ranks.forEach((rank, index) => {
    const y = index * (ROW + GAP);
    g.fillStyle = style("--line");
    g.fillRect(LEFT, y + ROW - 1, Math.max(0, x(chart.end) - LEFT), 1);
    // Bars that are not computing may overlap others: they are lower.
    let painted = -1;
    for (let i = Math.max(0, last(rank.bars, view.from, b => b[3])); i < rank.bars.length; i++) {
      const bar = rank.bars[i], left = x(bar[2]), right = x(bar[3]);
      if (bar[2] > view.to) break;
      // Bars narrower than a pixel are drawn once per pixel.
      if (right - left < 1 && Math.floor(right) === painted) continue;
      painted = Math.floor(right);
      g.globalAlpha = STRENGTH[bar[0]];
      g.fillStyle = colour(bar);
      const top = bar[0] === 6 ? ROW - 5 : 0;
      g.fillRect(left, y + top, Math.max(right - left - 0.5, 0.5), ROW - top);
      g.globalAlpha = 1;
      if (bar[0] !== 6 && right - left > 30) {
        const text = right - left > 74 ? bar[4] : (/ s(\d+)/.exec(bar[4]) || ["", ""])[1];
        g.fillStyle = bar[0] === 0 ? style("--ink") : "#fff";
        g.fillText(text, Math.max(left, LEFT) + 4, y + ROW / 2 + 0.5);
      }
    }
  });
  const bottom = chart.height - AXIS, top = bottom - HELD;
  chart.ranks.forEach((rank, index) => {
    g.strokeStyle = rankHue(index, chart.ranks.length);
    g.lineWidth = 1.3;
    g.beginPath();
    const level = a => bottom - (a / chart.most) * (HELD - 8);
    const first = Math.max(0, last(rank.held, view.from, h => h[0]));
    let before = bottom, pixel = -1;
    for (let i = first; i < rank.held.length; i++) {
      const [t, held] = rank.held[i];
      if (i === first) g.moveTo(x(t), level(held)); else {
        if (Math.floor(x(t)) !== pixel) g.lineTo(x(t), before);
        g.lineTo(x(t), level(held));
      }
      pixel = Math.floor(x(t));
      before = level(held);
      if (t > view.to) break;
    }
    g.lineTo(x(chart.end), before);
    g.stroke();
  });
  if (chart.cursor !== undefined) {
    g.fillStyle = style("--faint");
    g.fillRect(x(chart.cursor), 0, 1, bottom);
  }
  g.restore();
  g.fillStyle = style("--faint");
  chart.ranks.forEach((_, index) => g.fillText(`rank ${index}`, 0, index * (ROW + GAP) + ROW / 2));
  g.fillText(chart.bytes ? amount(chart, chart.most) : `${chart.most} units`, 0, top + 8);
  g.fillText("0", 0, bottom - 4);
  const step = nice((view.to - view.from) / Math.max(2, width / 140));
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    g.fillRect(x(t), bottom, 1, 4);
    g.fillText(tick(time(chart, t)), x(t) + 3, bottom + 11);
  }
}
let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; charts.forEach(draw); });
}
function zoom(factor, around) {
  const span = Math.min(Math.max((view.to - view.from) * factor, end * 1e-7), end);
  const share = (around - view.from) / (view.to - view.from);
  move(around - share * span, span);
}
function move(from, span = view.to - view.from) {
  from = Math.min(Math.max(from, 0), end - span);
  view = { from, to: from + span };
  redraw();
}
function listen(chart) {
  const { canvas } = chart;
  const at = event => view.from + ((event.clientX - canvas.getBoundingClientRect().left - LEFT) / (canvas.clientWidth - LEFT)) * (view.to - view.from);
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(view.from + (event.deltaX / canvas.clientWidth) * (view.to - view.from));
    else zoom(Math.exp(event.deltaY / 400), at(event));
  }, { passive: false });
  let grabbed = null;
  canvas.addEventListener("pointerdown", event => { grabbed = { x: event.clientX, from: view.from }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { grabbed = null; });
  canvas.addEventListener("pointermove", event => {
    if (grabbed) return move(grabbed.from - ((event.clientX - grabbed.x) / (canvas.clientWidth - LEFT)) * (view.to - view.from));
    const t = at(event), y = event.clientY - canvas.getBoundingClientRect().top;
    for (const other of charts) other.cursor = t;
    redraw();
    const index = Math.floor(y / (ROW + GAP)), rank = chart.ranks[index];
    say(event, rank ? about(chart, index, rank, t) : holding(chart, t), t < 0 || t > chart.end);
  });
  canvas.addEventListener("pointerleave", () => {
    byId("tip").hidden = true;
    for (const other of charts) delete other.cursor;
    redraw();
  });
}
const heldAt = (rank, t) => { const i = last(rank.held, t, h => h[0]); return i < 0 ? 0 : rank.held[i][1]; };
function about(chart, index, rank, t) {
  const bar = rank.bars.find(b => b[2] <= t && t < b[3]);
  const what = bar ? `${bar[4]}: ${KINDS[bar[0]]}\n${time(chart, bar[2])} to ${time(chart, bar[3])}, ${time(chart, bar[3] - bar[2])}` : `idle at ${time(chart, t)}`;
  return `rank ${index}: ${what}\nholds ${amount(chart, heldAt(rank, t))}`;
}
function holding(chart, t) {
  return [time(chart, t), ...chart.ranks.slice(0, 32).map((rank, index) => `rank ${index}: ${amount(chart, heldAt(rank, t))}`)].join("\n");
}
addEventListener("keydown", event => {
  const middle = (view.from + view.to) / 2, span = view.to - view.from;
  const keys = {
    "+": () => zoom(0.7, middle), "=": () => zoom(0.7, middle), "-": () => zoom(1 / 0.7, middle),
    ArrowLeft: () => move(view.from - span / 8), ArrowRight: () => move(view.from + span / 8),
    0: () => move(0, end), Home: () => move(0), End: () => move(end - span),
  };
  if (!event.ctrlKey && !event.metaKey && keys[event.key]) { keys[event.key](); event.preventDefault(); }
});
addEventListener("resize", redraw);
dark.addEventListener("change", redraw);
redraw();
