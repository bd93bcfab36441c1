// What is drawn over a panel: each rank's peak, and pauses. Both are few, whatever a log holds.

const peakAt = rank => rank.peaked * rank.tick;
// The panel whose peak was gone to by key: what is said of it stays until the mouse says something else.
let pinned = null;

// A notch in each rank's row, and for the chosen one a line through its curve and its map.
function peaks(panel, g, x, inner, top, tall) {
  const row = rowHeight(panel), ink = style("--ink"), paper = style("--paper");
  const line = (at, y, height) => {
    g.fillStyle = paper;
    g.fillRect(at - 1, y, 3, height);
    g.fillStyle = ink;
    g.fillRect(at, y, 1, height);
  };
  panel.trace.ranks.forEach((rank, i) => { if (rank.peak) line(Math.round(x(peakAt(rank))), i * row, row - 1); });
  const rank = rankOf(panel), at = Math.round(x(peakAt(rank)));
  if (!rank.peak || at < LEFT || at > LEFT + inner) return;
  line(at, top - STRIP, STRIP - 6);
  for (let y = top; y < top + tall; y += 8) line(at, y, Math.min(4, top + tall - y));
  const text = `peak of rank ${rank.rank}: ${bytes(rank.peak)}`, wide = g.measureText(text).width + 6;
  // Below the curve, which is at its highest here.
  const left = at + 2 + wide < LEFT + inner ? at + 2 : at - 1 - wide, y = top - STRIP + 13;
  g.globalAlpha = 0.85;
  g.fillStyle = paper;
  g.fillRect(left, y, wide, 15);
  g.globalAlpha = 1;
  g.fillStyle = ink;
  g.fillText(text, left + 3, y + 8);
}
function aboutPeak(rank) {
  const t = peakAt(rank), i = stretchAt(rank, t), { phase } = rank.stretches;
  const ran = i < 0 ? "between units" : `${PHASES[phase[i]]} ${unitName(unitOf(rank.stretches, i))}`;
  return `rank ${rank.rank}'s peak: ${bytes(rank.peak)}\n${seconds(real(t))}, ${ran}`;
}

// Paper torn at both sides, with how long it was between them.
function tears(g, x, inner, bottom) {
  const paper = style("--paper"), faint = style("--faint");
  for (const { at, shown, lasted } of pauses) {
    const left = x(at), right = x(at + shown);
    if (right < LEFT || left > LEFT + inner) continue;
    g.fillStyle = paper;
    g.fillRect(left, 0, right - left, bottom);
    g.strokeStyle = g.fillStyle = faint;
    g.lineWidth = 1;
    const sides = right - left < 10 ? [(left + right) / 2 - 1.5] : [left, right - 3];
    for (const side of sides) {
      g.beginPath();
      for (let y = 0; y <= bottom; y += 4) g.lineTo(side + (y % 8 ? 3 : 0), y);
      g.stroke();
    }
    const text = `pause of ${lasting(lasted)}`, seen = [Math.max(left, LEFT), Math.min(right, LEFT + inner)];
    if (seen[1] - seen[0] < 20) continue;
    g.save();
    g.translate((seen[0] + seen[1]) / 2, bottom / 2);
    g.rotate(-Math.PI / 2);
    g.fillText(text, -g.measureText(text).width / 2, 0);
    g.restore();
  }
}
function lasting(t) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]], first = units.findIndex(([, length]) => t >= 2 * length);
  if (first < 0 || first === 3) return tick(seconds(t));
  const [[name, length], [finer, part]] = units.slice(first), parts = Math.round(t / part), whole = length / part;
  return `${Math.floor(parts / whole)} ${name}${parts % whole ? ` ${parts % whole} ${finer}` : ""}`;
}
function aboutPause({ at, shown, lasted }) {
  return `pause of ${lasting(lasted)}: no log was written\n${seconds(real(at))} to ${seconds(real(at + shown))}`;
}

// Moves the cursor to the chosen rank's peak, and the view with it; of two runs, to one after the other.
function toPeak() {
  const marked = panels.filter(panel => rankOf(panel).peak);
  if (!marked.length) return;
  pinned = marked[(marked.indexOf(pinned) + 1) % marked.length];
  const t = peakAt(rankOf(pinned)), reach = view.to - view.from;
  for (const panel of panels) panel.cursor = t;
  move(t >= view.from && t <= view.to ? view.from : t - reach / 2);
}
function unpin() {
  if (!pinned) return;
  pinned = null;
  byId("tip").hidden = true;
  for (const panel of panels) delete panel.cursor;
}
// Says what the peak is beside its mark, wherever the view goes.
function tell() {
  const box = pinned.canvas.getBoundingClientRect(), t = pinned.cursor;
  const x = box.left + LEFT + ((t - view.from) / (view.to - view.from)) * (box.width - LEFT);
  say({ clientX: x, clientY: box.top + chart(pinned) + STRIP - 14 }, aboutPeak(rankOf(pinned)), t < view.from || t > view.to);
}
