#!/usr/bin/env python3
"""How long the page of a log takes to open, and how many frames a second it draws while it pans.

    cargo bench -p slimpipe-train --bench trace -- 1000000 target/browser/large.events
    python3 scripts/browser/measure_memory_page.py target/browser/large.events

Frames are counted by requestAnimationFrame, of which Chromium gives at most 60 a second.
"""

import pathlib
import re
import subprocess
import sys
import time

from devtools import Browser
from scene import SLIMPIPE

# Pans for four seconds, a screen a second, over this part of the log's time.
PAN = """new Promise(done => {
  const reach = end / PARTS, frames = [];
  let last = performance.now(), left = true;
  view = { from: (end - reach) / 2, to: (end + reach) / 2 };
  const frame = now => {
    frames.push(now - last);
    const by = (reach * (now - last)) / 1000;
    last = now;
    if (frames.length > 1 && now - begin > 4000) return done(frames.slice(1));
    if (view.from <= 0 || view.to >= end) left = !left;
    move(view.from + (left ? by : -by));
    requestAnimationFrame(frame);
  };
  const begin = last;
  requestAnimationFrame(frame);
})"""


def measure(browser, what, target):
    start = time.monotonic()
    page = browser.open(target)
    page.until("panels.every(panel => panel.whole?.done)")
    print(f"{what}: opened and drawn in {time.monotonic() - start:.1f} s")
    for parts in [1.25, 10, 100, 1000]:
        frames = page.evaluate(PAN.replace("PARTS", str(parts)))
        rate, worst = 1000 * len(frames) / sum(frames), max(frames)
        print(f"{what}: {rate:.0f} frames/s over 1/{parts:g} of the time, the longest {worst:.0f} ms")
    if page.errors:
        sys.exit(f"error: the page threw {page.errors}")
    page.close()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    log = pathlib.Path(sys.argv[1])
    out = log.with_suffix(".html")
    start = time.monotonic()
    subprocess.run([SLIMPIPE, "trace", "view", log, "--out", out], check=True, stdout=subprocess.DEVNULL)
    print(f"written in {time.monotonic() - start:.1f} s: {out.stat().st_size / 1e6:.0f} MB")
    with Browser() as browser:
        measure(browser, "file", out)
        with subprocess.Popen([SLIMPIPE, "trace", "view", log, "--serve", "0"], stdout=subprocess.PIPE, text=True) as server:
            try:
                address = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())[0]
                measure(browser, "served", address)
            finally:
                server.kill()


if __name__ == "__main__":
    main()
