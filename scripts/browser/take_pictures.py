#!/usr/bin/env python3
"""Takes the pictures of docs/memory-traces.md, which go to docs/pictures, of the logs in docs/traces/kept_slices.

    cargo build --release
    python3 scripts/browser/take_pictures.py

With --train it makes these logs anew before, for which `cargo build --release --examples` is needed too; what
commands print in the document is to be changed then.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from devtools import Browser
from scene import ROOT, SLIMPIPE

RUNS = ["kept", "mended"]
TRACES = ROOT / "docs/traces/kept_slices"
PICTURES = ROOT / "docs/pictures"


def run(*command, cwd=ROOT):
    subprocess.run([str(word) for word in command], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def make_logs(folder):
    run(ROOT / "target/release/examples/kept_slices", cwd=folder)
    for name in RUNS:
        shutil.rmtree(TRACES / name, ignore_errors=True)
        shutil.copytree(folder / "runs/kept_slices" / name, TRACES / name)


def drawn(page):
    page.until("!asked && panels.every(panel => panel.whole && !panel.making)")
    return page


def block(page, unit, op):
    """Where the map has the block of that unit and operation that lives longest."""
    return page.evaluate(
        f"""(() => {{
          const panel = panels[0], box = panel.canvas.getBoundingClientRect(), rank = rankOf(panel);
          const is = i => unitName(unitOf(rank.about, rank.owners[i])) === "{unit}" && rank.names[rank.about.name[rank.owners[i]]][0] === "{op}";
          const lives = i => rank.ends[i] - rank.begins[i], all = [...rank.begins.keys()].filter(is);
          const i = all.reduce((best, i) => (lives(i) > lives(best) ? i : best), all[0]);
          const t = (rank.begins[i] + rank.ends[i]) / 2 * rank.tick, line = rank.places[i] + rank.sizes[i] / 2;
          const top = chart(panel) + STRIP, tall = Math.floor(box.height - top - AXIS);
          return [box.left + LEFT + (t - view.from) / (view.to - view.from) * (box.width - LEFT), box.top + top + tall * (1 - line / lines(rank))];
        }})()"""
    )


def unit(page, name):
    """Where the chart has the forward of that unit on the rank that is shown."""
    return page.evaluate(
        f"""(() => {{
          const panel = panels[0], box = panel.canvas.getBoundingClientRect(), rank = rankOf(panel), is = rank.stretches;
          const i = is.phase.findIndex((phase, i) => phase === 0 && unitName(unitOf(is, i)) === "{name}");
          const t = (is.begin[i] + is.end[i]) / 2 * rank.tick;
          const x = box.left + LEFT + (t - view.from) / (view.to - view.from) * (box.width - LEFT);
          return [x, box.top + (chosen + 0.5) * rowHeight(panel)];
        }})()"""
    )


def search(page, words):
    page.evaluate("byId('search').value = ''")
    page.key("/")
    page.type(words)
    page.key("Escape")


def take_pictures(browser, folder):
    pages = {"one": ["kept"], "both": RUNS}
    for name, runs in pages.items():
        run(SLIMPIPE, "trace", "view", *runs, "--out", folder / f"{name}.html", cwd=TRACES)
    page = browser.open(folder / "one.html", width=1000, height=560)
    drawn(page).screenshot(PICTURES / "trace-all.png")
    page.click(*unit(page, "mb1 s2"))
    page.hover(*block(page, "mb1 s2", "swiglu"))
    drawn(page).screenshot(PICTURES / "trace-unit.png")
    page.key("0")
    search(page, "swiglu slots")
    page.hover(2, 2)
    drawn(page).screenshot(PICTURES / "trace-search.png")
    page = browser.open(folder / "both.html", width=1000, height=760)
    page.evaluate("(s => { s.value = 'layer'; s.dispatchEvent(new Event('change')); })(byId('by'))")
    search(page, "swiglu")
    drawn(page).screenshot(PICTURES / "trace-compared.png")


def main():
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        if sys.argv[1:] == ["--train"]:
            make_logs(pathlib.Path(folder))
        take_pictures(browser, pathlib.Path(folder))
    for picture in sorted(PICTURES.iterdir()):
        print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
