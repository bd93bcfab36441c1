#!/usr/bin/env python3
"""Holds `slimpipe trace export --to memory-viz` against PyTorch's own reader and `trace summary`.

    slimpipe trace export RUN --to memory-viz --out snapshot.pickle
    slimpipe trace summary RUN --json > summary.json
    python3 scripts/check_memory_viz.py snapshot.pickle summary.json

The reader is one file of PyTorch without dependencies. It is taken from an installed torch, or else out of
the wheel pinned below, once, into target/memory-viz. Exit code 0: it reads the snapshot and its totals are
the summary's. Without a summary, of a snapshot that has not all entries, it is only read.
"""

import importlib.util
import json
import pathlib
import pickle
import subprocess
import sys
import tempfile
import zipfile

# The smallest wheel of the release: nothing of it runs but this file, so that its platform does not matter.
WHEEL = ["torch==2.7.1", "--platform", "macosx_11_0_arm64", "--python-version", "3.11", "--abi", "none"]
CACHE = pathlib.Path(__file__).resolve().parent.parent / "target/memory-viz/_memory_viz.py"


def reader_file():
    # Finding a package does not run it.
    torch = importlib.util.find_spec("torch")
    for folder in (torch and torch.submodule_search_locations) or []:
        file = pathlib.Path(folder) / "cuda/_memory_viz.py"
        if file.exists():
            return file
    if not CACHE.exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*pip, "--dest", folder, *WHEEL], check=True)
            [wheel] = pathlib.Path(folder).glob("torch-*.whl")
            CACHE.write_bytes(zipfile.ZipFile(wheel).read("torch/cuda/_memory_viz.py"))
    return CACHE


def reader():
    spec = importlib.util.spec_from_file_location("memory_viz", reader_file())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peaks(entries):
    """The highest active and reserved bytes of a device, by its entries alone."""
    sizes = {"active": 0, "reserved": 0}
    peak = dict(sizes)
    steps = {
        "alloc": ("active", 1),
        "free_completed": ("active", -1),
        "segment_map": ("reserved", 1),
        "segment_unmap": ("reserved", -1),
    }
    for entry in entries:
        if step := steps.get(entry["action"]):
            of, sign = step
            sizes[of] += sign * entry["size"]
            peak[of] = max(peak[of], sizes[of])
    return sizes, peak


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: the snapshot has {found}, and {expected} was to be expected")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    snapshot = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
    ranks = [rank for rank, trace in enumerate(snapshot["device_traces"]) if trace]
    logs = json.loads(pathlib.Path(sys.argv[2]).read_text())["logs"] if len(sys.argv) == 3 else []
    if logs:
        check("ranks", ranks, sorted({log["rank"] for log in logs}))
    for rank in ranks:
        left, peak = peaks(snapshot["device_traces"][rank])
        of_rank = [log for log in logs if log["rank"] == rank]
        for which in ("active", "reserved") if of_rank else ():
            expected = max(log[which + "_peak"] for log in of_rank)
            check(f"rank {rank}, {which} peak", peak[which], expected)
        segments = [segment for segment in snapshot["segments"] if segment["device"] == rank]
        check(f"rank {rank}, reserved in the end", sum(s["total_size"] for s in segments), left["reserved"])
        check(f"rank {rank}, active in the end", sum(s["active_size"] for s in segments), left["active"])

    viz = reader()
    # Both of these fail if blocks do not fill their segments.
    total = sum(segment["total_size"] for segment in snapshot["segments"])
    summed = viz.segsum(snapshot)
    check("segsum", f"total_reserved: {viz.Bytes(total)}" in summed, True)
    told = viz.trace(snapshot)
    check("devices in the trace", told.count(" entries\n"), len(ranks))
    lines = viz.memory(snapshot, format_flamegraph=str).splitlines()
    check("bytes in the flame graph", sum(int(line.rsplit(" ", 1)[1]) for line in lines), total)
    viz.segments(snapshot, format_flamegraph=str)
    for page in (viz.trace_plot(snapshot), viz.trace_plot(snapshot, plot_segments=True), viz.segment_plot(snapshot)):
        check("a page", "snapshot.pickle" in page, True)
    entries = sum(map(len, snapshot["device_traces"]))
    print(f"PyTorch reads {entries} entries of {len(ranks)} ranks; totals agree{', with the summary too' if logs else ''}")


if __name__ == "__main__":
    main()
