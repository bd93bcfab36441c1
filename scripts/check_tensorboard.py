#!/usr/bin/env python3
"""Reads a run's event file with TensorBoard's own reader and holds it against metrics.jsonl.

    python3 scripts/check_tensorboard.py RUN

What of TensorBoard reads files is installed, once, into target/tensorboard: 25 MB, mostly numpy. Exit code 0:
every number of every step is there.
"""

import json
import pathlib
import struct
import subprocess
import sys

PACKAGES = ["tensorboard==2.20.0", "protobuf==6.33.1", "absl-py==2.3.1", "numpy>=1.26,<3"]
ROOM = pathlib.Path(__file__).resolve().parent.parent / "target/tensorboard"


def scalars(run):
    """Numbers by tag and step, as TensorBoard has them."""
    if not (ROOM / "tensorboard").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--only-binary=:all:", "--target", ROOM, *PACKAGES], check=True)
    sys.path.insert(0, str(ROOM))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run))
    read.Reload()
    return {tag: {event.step: event.value for event in read.Scalars(tag)} for tag in read.Tags()["scalars"]}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = pathlib.Path(sys.argv[1])
    found = scalars(run)
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for step in steps:
        for tag in ["loss", "grad_norm", "lr", "speed/tokens_per_second", "speed/mfu", "speed/bubble_fraction"]:
            expected = step[tag.rsplit("/", 1)[-1]]
            # TensorBoard's numbers are single precision.
            [single] = struct.unpack("f", struct.pack("f", expected))
            if found.get(tag, {}).get(step["step"]) != single:
                sys.exit(f"error: step {step['step']}: {tag} is {found.get(tag)}, and {expected} was to be expected")
    if any(set(values) != {step["step"] for step in steps} for values in found.values()):
        sys.exit("error: there are other steps than in metrics.jsonl")
    print(f"TensorBoard reads {len(found)} tags of {len(steps)} steps; they are those of metrics.jsonl")


if __name__ == "__main__":
    main()
