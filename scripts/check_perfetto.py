#!/usr/bin/env python3
"""Holds `slimpipe trace export --to perfetto` against the trace event format and `trace summary`.

    slimpipe trace export RUN --to perfetto --out trace.json
    slimpipe trace summary RUN --json > summary.json
    python3 scripts/check_perfetto.py trace.json summary.json

Checked are the fields of each kind of event, and what Perfetto's importer asks beyond them: every track has a
name, spans of a track do not overlap, arrows begin and end in spans, counters are numbers. Exit code 0: all of
it holds, and the counters' peaks are the summary's.
"""

import bisect
import collections
import json
import pathlib
import sys

NUMBER, TEXT, WHOLE, OBJECT = (int, float), str, int, dict
EVERY = {"ph": TEXT, "pid": WHOLE}
# Fields by kind of event, and whether it may have others.
SCHEMA = {
    "M": {"name": TEXT, "args": OBJECT},
    "X": {"name": TEXT, "tid": WHOLE, "ts": NUMBER, "dur": NUMBER, "args": OBJECT},
    "C": {"name": TEXT, "ts": NUMBER, "args": OBJECT},
    "i": {"name": TEXT, "tid": WHOLE, "ts": NUMBER, "s": TEXT, "args": OBJECT},
    "s": {"name": TEXT, "cat": TEXT, "id": WHOLE, "tid": WHOLE, "ts": NUMBER},
    "f": {"name": TEXT, "cat": TEXT, "id": WHOLE, "tid": WHOLE, "ts": NUMBER, "bp": TEXT},
}
OPTIONAL = {"M": {"tid": WHOLE}, "X": {"cat": TEXT}}
# Times are written in nanoseconds, of which a span's two are rounded each.
ROUNDING = 0.002


def fail(what):
    sys.exit(f"error: {what}")


def check_fields(event):
    schema = SCHEMA.get(event.get("ph"))
    if schema is None:
        fail(f"no such kind of event: {event}")
    for name, kind in (EVERY | schema).items():
        if not isinstance(event.get(name), kind) or isinstance(event.get(name), bool):
            fail(f"{name} is missing or of another type: {event}")
    others = event.keys() - EVERY.keys() - schema.keys() - OPTIONAL.get(event["ph"], {}).keys()
    if others:
        fail(f"{others} are no fields of it: {event}")


def check_tracks(events):
    named = {(e["pid"], e.get("tid")) for e in events if e["ph"] == "M" and "name" in e["args"]}
    tracks = collections.defaultdict(list)
    for event in events:
        if event["ph"] != "M" and (place := (event["pid"], event.get("tid"))) not in named:
            fail(f"the track {place} has no name")
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"], event["name"]))
    for place, spans in tracks.items():
        spans.sort()
        for (_, end, name), (begin, _, following) in zip(spans, spans[1:]):
            if end > begin + ROUNDING:
                fail(f"{name} and {following} overlap on the track {place}")
    return tracks


def check_arrows(events, tracks):
    ends = collections.defaultdict(dict)
    for event in (e for e in events if e["ph"] in "sf"):
        if event["ph"] in ends[event["id"]]:
            fail(f"two ends with one number: {event}")
        ends[event["id"]][event["ph"]] = event
        spans = tracks[event["pid"], event["tid"]]
        at = bisect.bisect(spans, (event["ts"] + ROUNDING,)) - 1
        if at < 0 or event["ts"] > spans[at][1]:
            fail(f"an arrow ends in no span: {event}")
    for number, pair in ends.items():
        if len(pair) != 2 or pair["s"]["ts"] > pair["f"]["ts"]:
            fail(f"the arrow {number} does not lead from before to after: {pair}")
    sends = sum(name.startswith("send ") for spans in tracks.values() for *_, name in spans)
    if len(ends) != sends:
        fail(f"{len(ends)} arrows for {sends} sends")
    return sends


def check_counters(events, logs):
    peaks = collections.Counter()
    for event in (e for e in events if e["ph"] == "C"):
        for name, value in event["args"].items():
            if not isinstance(value, NUMBER) or value < 0:
                fail(f"{name} is no amount: {event}")
            key = event["pid"], event["name"], name
            peaks[key] = max(peaks[key], value)
    for rank in {log["rank"] for log in logs}:
        of_rank = [log for log in logs if log["rank"] == rank]
        for name in ["active", "reserved"]:
            found = peaks[rank, f"{name} bytes", "all regions"]
            expected = max(log[f"{name}_peak"] for log in of_rank)
            if found != expected:
                fail(f"rank {rank}: the {name} peak is {found}, and {expected} in the summary")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    trace = json.loads(pathlib.Path(sys.argv[1]).read_text())
    logs = json.loads(pathlib.Path(sys.argv[2]).read_text())["logs"]
    if trace.get("displayTimeUnit") not in ("ms", "ns") or not isinstance(trace.get("traceEvents"), list):
        fail("no traceEvents, or no displayTimeUnit")
    events = trace["traceEvents"]
    for event in events:
        check_fields(event)
    tracks = check_tracks(events)
    sends = check_arrows(events, tracks)
    check_counters(events, logs)
    print(f"{len(events)} events, {len(tracks)} tracks, {sends} arrows; peaks are the summary's")


if __name__ == "__main__":
    main()
