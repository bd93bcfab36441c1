"use strict";
// What all pages use: colours, words for amounts, elements.
const byId = id => document.getElementById(id);
// Okabe and Ito's hues, which colour-blind people can tell apart; ramps are viridis, whose lightness alone
// tells values apart.
const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a800", "#7f7f7f"].map(rgb);
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const dark = matchMedia("(prefers-color-scheme: dark)");
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function rgb(text) {
  return [1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16));
}
const css = parts => `rgb(${parts.join(" ")})`;
// The brightest end is dull on white paper, the darkest on black.
function ramp(share) {
  const seen = dark.matches ? 0.35 + 0.65 * share : 0.9 * share, at = Math.min(Math.max(seen, 0), 1) * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[low].map((c, i) => Math.round(c + (RAMP[low + 1][i] - c) * (at - low)));
}
function bytes(x) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (x >= 1024 && at < 4) { x /= 1024; at++; }
  return `${at ? x.toFixed(2) : x} ${units[at]}`;
}
function seconds(t, digits = 4) {
  return t >= 1 ? `${t.toFixed(digits)} s` : t >= 1e-3 ? `${(t * 1e3).toFixed(3)} ms` : `${(t * 1e6).toFixed(1)} µs`;
}
// The round number next above, as steps of an axis are.
function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].find(f => f * power >= step) * power;
}
// Words on an axis are of round numbers: without the zeros at their end.
const tick = text => text.replace(/^0\S* .*$|\.0+(?= |$)|(\.\d*?)0+(?= |$)/, (found, kept) => (found[0] === "0" ? "0" : kept || ""));
function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}
// Shows what is said of a place beside the mouse, in the window.
function say(event, text, hidden) {
  const tip = byId("tip");
  tip.hidden = hidden;
  tip.textContent = text;
  tip.style.left = `${Math.max(0, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(0, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
}
