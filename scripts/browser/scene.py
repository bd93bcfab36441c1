"""What the checks of pages share: runs to look at, what their exports say of them, and pages that must not throw."""

import atexit
import base64
import functools
import json
import os
import pathlib
import shutil
import struct
import subprocess
import unittest

from devtools import Browser

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Runs, pages and pictures stay here.
OUT = ROOT / "target/browser"
SLIMPIPE = os.environ.get("SLIMPIPE", ROOT / "target/release/slimpipe")
SIZES = f'data.paths=["{ROOT}/docs"] train.steps=2 train.seq_len=64 parallel.pipeline=2 parallel.slices=4'
RUNS = {"kept": "memory.recompute=none", "again": "memory.recompute=full"}

# Where a log says when it began, in nanoseconds.
BEGAN = 16


def slimpipe(words):
    """Runs the command in the folder of what is kept."""
    done = subprocess.run([SLIMPIPE, *words.split()], cwd=OUT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"slimpipe {words}: {done.stderr}")
    return done.stdout


@functools.cache
def train():
    """Trains two runs that differ in what they keep."""
    OUT.mkdir(parents=True, exist_ok=True)
    for run, setting in RUNS.items():
        shutil.rmtree(OUT / run, ignore_errors=True)
        settings = " ".join(f"--set {word}" for word in [*SIZES.split(), setting])
        slimpipe(f"train --out {run} {settings}")
        slimpipe(f"trace export {run} --to jsonl --out {run}.jsonl")


def resume_later(run, seconds):
    """Makes a run whose ranks do all once more, that many seconds after they did so first; gives its name."""
    later = f"{run}-later"
    shutil.rmtree(OUT / later, ignore_errors=True)
    shutil.copytree(OUT / run / "memory.events", OUT / later)
    for log in sorted((OUT / later).iterdir()):
        data = bytearray(log.read_bytes())
        struct.pack_into("<Q", data, BEGAN, struct.unpack_from("<Q", data, BEGAN)[0] + round(seconds * 1e9))
        log.with_suffix(".later.events").write_bytes(data)
    return later


@functools.cache
def browser():
    """One browser for all checks."""
    made = Browser()
    atexit.register(made.close)
    return made


def unit_name(event):
    chunk = f" c{event['chunk']}" if event["chunk"] else ""
    return f"mb{event['microbatch']} s{event['slice']}{chunk}"


class Log:
    """A rank's blocks and phases, by the export of its run; times in seconds since the first rank's log began."""

    def __init__(self, run, rank):
        files = sorted((OUT / run / "memory.events").iterdir())
        began = min(struct.unpack_from("<Q", file.read_bytes(), BEGAN)[0] for file in files)
        with open(OUT / f"{run}.jsonl") as lines:
            events = [event for event in map(json.loads, lines) if event["rank"] == rank]
        self.blocks, self.phases, live = [], [], {}
        for event in events:
            event["begin"] = (event.pop("time_ns") - began) / 1e9
            self.end = event["begin"]
            place = (event.get("region"), event.get("offset"))
            match event["event"]:
                case "alloc":
                    live[place] = event
                    self.blocks.append(event)
                case "free":
                    live.pop(place)["end"] = self.end
                case "phase":
                    self.phases.append(event)
                case "phase_ended":
                    self.phases[-1]["end"] = self.end
        for block in live.values():
            block["end"] = self.end


# Of a picture: how many colours, the part of it that is no shade of grey as paper and words are, and how light
# it is.
LOOK_AT = """(async picture => {
  const image = new Image();
  image.src = `data:image/png;base64,${picture}`;
  await image.decode();
  const g = new OffscreenCanvas(image.width, image.height).getContext("2d");
  g.drawImage(image, 0, 0);
  const pixels = new Uint32Array(g.getImageData(0, 0, image.width, image.height).data.buffer);
  const colours = new Set();
  let vivid = 0, light = 0;
  for (const pixel of pixels) {
    const parts = [pixel & 255, pixel >> 8 & 255, pixel >> 16 & 255];
    colours.add(pixel);
    vivid += Math.max(...parts) - Math.min(...parts) > 40;
    light += parts[0] + parts[1] + parts[2];
  }
  return [colours.size, vivid / pixels.length, light / pixels.length / 765];
})"""


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        browser()
        train()

    def open(self, target, **options):
        """Opens one of the pages that are kept, or an address."""
        page = browser().open(target if "://" in target else OUT / target, **options)
        self.addCleanup(page.close)
        self.addCleanup(lambda: self.assertEqual(page.errors, [], "the page threw"))
        page.settle()
        return page

    def assert_seen(self, page, name):
        """Keeps a picture, which is to show more than paper and words; gives how light it is, from 0 to 1."""
        picture = base64.b64encode(page.screenshot(OUT / name)).decode()
        colours, vivid, light = page.evaluate(f"{LOOK_AT}('{picture}')")
        self.assertGreater(colours, 30, name)
        self.assertGreater(vivid, 0.01, name)
        return light
