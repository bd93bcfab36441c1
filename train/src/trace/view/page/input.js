// Where the view goes, by wheel, mouse and keys.
function move(from, reach = view.to - view.from) {
  from = Math.min(Math.max(from, 0), end - reach);
  view = { from, to: from + reach };
  redraw();
}
function zoom(factor, around) {
  const reach = Math.min(Math.max((view.to - view.from) * factor, end * 1e-8), end);
  move(around - ((around - view.from) / (view.to - view.from)) * reach, reach);
}
function moveAddresses(low, tall = span.high - span.low) {
  low = Math.min(Math.max(low, 0), 1 - tall);
  span = { low, high: low + tall };
  redraw();
}
function zoomAddresses(factor, around) {
  const tall = Math.min(Math.max((span.high - span.low) * factor, 1e-5), 1);
  moveAddresses(around - ((around - span.low) / (span.high - span.low)) * tall, tall);
}
function all() {
  moveAddresses(0, 1);
  move(0, end);
}
// Shows the whole life of the unit that ran in that stretch: its memory appears in forward and vanishes in
// backward.
function life(rank, at) {
  const { phase, begin, end: finish } = rank.stretches, unit = unitName(unitOf(rank.stretches, at));
  const is = i => unitName(unitOf(rank.stretches, i)) === unit;
  let first = at, last = at;
  while (first > 0 && !(phase[first] === 0 && is(first))) first--;
  // The same unit of the next step begins with a forward again.
  for (let i = first + 1; i < phase.length && !(phase[i] === 0 && is(i)); i++) if (is(i)) last = i;
  const from = begin[first] * rank.tick, to = finish[last] * rank.tick, margin = Math.max((to - from) * 0.06, end * 1e-6);
  byId("search").value = unit;
  view = { from: Math.max(0, from - margin), to: Math.min(end, to + margin) };
  search();
}

function place(panel, event) {
  const box = panel.canvas.getBoundingClientRect(), top = chart(panel) + STRIP, tall = box.height - top - AXIS;
  const x = event.clientX - box.left, y = event.clientY - box.top;
  const t = view.from + ((x - LEFT) / (box.width - LEFT)) * (view.to - view.from);
  const share = span.low + ((top + tall - y) / tall) * (span.high - span.low);
  // Marks are pointed at from a few pixels away.
  const isNear = time => Math.abs(time - t) / (view.to - view.from) * (box.width - LEFT) <= 3;
  return { t, y, share, isNear, onMap: y > top && y < top + tall, row: Math.floor(y / rowHeight(panel)) };
}
function describe(panel, { t, share, isNear, onMap, row }) {
  const ranks = panel.trace.ranks, pause = pauses.find(({ at, shown }) => t > at && t < at + shown);
  if (pause) return aboutPause(pause);
  if (onMap) {
    const rank = rankOf(panel), i = blockAt(rank, t, share * lines(rank));
    if (i < 0) return `rank ${rank.rank}, ${seconds(real(t))}: free`;
    const { about } = rank, owner = rank.owners[i], region = about.region[owner], layer = about.layer[owner];
    const [what, where] = rank.names[about.name[owner]];
    const begin = rank.begins[i] * rank.tick, finish = rank.ends[i] * rank.tick;
    return [`${what}${layer < 0 ? "" : ` in layer ${layer}`}: ${bytes(rank.sizes[i] * rank.line)}`,
      `${unitName(unitOf(about, owner)) || "no unit"}, ${rank.regions[region]} at byte ${(rank.places[i] - rank.bases[region]) * rank.line}`,
      `${seconds(real(begin))} to ${seconds(real(finish))}: lives ${seconds(finish - begin)}`, where].join("\n");
  }
  const rank = ranks[row], marked = rank || rankOf(panel);
  if (marked.peak && isNear(peakAt(marked))) return aboutPeak(marked);
  if (!rank) return seconds(real(t));
  const { phase, begin, end } = rank.stretches, i = stretchAt(rank, t);
  if (i < 0) return `rank ${rank.rank}, ${seconds(real(t))}`;
  return `rank ${rank.rank}: ${PHASES[phase[i]]} ${unitName(unitOf(rank.stretches, i))}\n${seconds(real(begin[i] * rank.tick))}, ${seconds((end[i] - begin[i]) * rank.tick)}`;
}
function listen(panel) {
  const { canvas } = panel;
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
    const stretch = stretchAt(rank, t);
    if (stretch >= 0) life(rank, stretch);
  });
  canvas.addEventListener("pointermove", event => {
    if (grabbed) {
      const [dx, dy] = [event.clientX - grabbed.x, event.clientY - grabbed.y];
      if (!grabbed.far && Math.hypot(dx, dy) < 4) return;
      grabbed.far = true;
      moveAddresses(grabbed.low + (dy / canvas.clientHeight) * (span.high - span.low));
      return move(grabbed.from - (dx / (canvas.clientWidth - LEFT)) * (view.to - view.from));
    }
    const at = place(panel, event);
    pinned = null;
    for (const other of panels) other.cursor = at.t;
    redraw();
    say(event, describe(panel, at), at.t < 0 || at.t > end);
  });
  canvas.addEventListener("pointerleave", () => {
    if (pinned) return;
    byId("tip").hidden = true;
    for (const other of panels) delete other.cursor;
    redraw();
  });
}
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/INPUT|SELECT/.test(event.target.tagName)) {
    // The browser would empty the field too.
    if (event.key === "Escape") { event.target.blur(); event.preventDefault(); }
    return;
  }
  const reach = view.to - view.from, tall = span.high - span.low, peak = pinned?.cursor;
  const middle = peak >= view.from && peak <= view.to ? peak : (view.from + view.to) / 2;
  const keys = {
    "+": () => zoom(0.7, middle), "=": () => zoom(0.7, middle), "-": () => zoom(1 / 0.7, middle),
    ArrowLeft: () => move(view.from - reach / 8), ArrowRight: () => move(view.from + reach / 8),
    ArrowUp: () => moveAddresses(span.low + tall / 8), ArrowDown: () => moveAddresses(span.low - tall / 8),
    PageUp: () => zoomAddresses(0.7, span.low + tall / 2), PageDown: () => zoomAddresses(1 / 0.7, span.low + tall / 2),
    0: all, Home: () => move(0), End: () => move(end - reach), p: toPeak,
    "[": () => choose(chosen - 1), "]": () => choose(chosen + 1), "/": () => byId("search").focus(),
  };
  if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
});
