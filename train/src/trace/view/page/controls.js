// The panels, and what stands around them: ranks, colours, search, the legend.
const panels = traces.map(trace => {
  const section = element("section", "", byId("panels"));
  element("h2", trace.name, section);
  const canvas = element("canvas", "", section);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${trace.name}: units of every rank over time, and the memory map of one rank`);
  const panel = { trace, canvas, whole: null, cache: null, making: null, rows: null };
  listen(panel);
  return panel;
});

function choose(index) {
  const count = Math.max(...traces.map(t => t.ranks.length));
  chosen = Math.min(Math.max(index, 0), count - 1);
  byId("rank").value = String(chosen);
  unpin();
  search();
}
// Counts what is searched for on the ranks shown.
function search() {
  const found = panels.map(panel => paints(rankOf(panel))).filter(rank => rank.found.sought);
  byId("found").textContent = found.map(rank => `${rank.found.count} of ${rank.blocks} blocks`).join("; ");
  redraw();
}
// Shows the time in which there is what was found.
function show() {
  const found = panels.map(rankOf).find(rank => rank.found.sought && rank.found.count);
  if (!found) return;
  const { first, last } = found.found;
  if (last > first) view = { from: first * found.tick, to: last * found.tick };
  redraw();
}
function legend() {
  const box = byId("legend"), by = byId("by").value;
  box.textContent = "";
  const item = (colour, text) => { const s = element("span", "", box); element("i", "", s).style.background = css(colour); s.append(text); };
  if (by === "region") traces[0]?.ranks[0]?.regions.forEach((name, i) => item(HUES[i % HUES.length], name));
  else {
    const count = most[by] + 1, shown = by === "microbatch" ? Math.min(count, HUES.length) : Math.min(count, 8);
    for (let i = 0; i < shown; i++) {
      const value = by === "microbatch" || count <= 8 ? i : Math.round((i / 7) * most[by]);
      item(by === "microbatch" ? HUES[i] : ramp(most[by] ? value / most[by] : 0.5), `${by} ${value}${by === "microbatch" && count > HUES.length ? " …" : ""}`);
    }
    item(NONE, `no ${by}`);
  }
  element("span", "above: what ranks ran, forward pale, backward full, a hue per microbatch", box);
}

Array.from({ length: Math.max(0, ...traces.map(t => t.ranks.length)) }, (_, i) => {
  element("option", String(traces.find(t => t.ranks[i]).ranks[i].rank), byId("rank")).value = String(i);
});
byId("rank").addEventListener("change", event => choose(Number(event.target.value)));
byId("by").addEventListener("change", () => { legend(); redraw(); });
byId("search").addEventListener("input", search);
byId("search").addEventListener("keydown", event => { if (event.key === "Enter") show(); });
byId("all").addEventListener("click", all);
byId("peak").addEventListener("click", toPeak);
addEventListener("resize", redraw);
dark.addEventListener("change", () => { legend(); redraw(); });
document.title = `${traces.map(trace => trace.name).join(" and ")}: memory`;
legend();
choose(0);
