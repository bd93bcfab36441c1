#!/usr/bin/env python3
"""Training speed and memory beside PyTorch's, on the same machine in the same run.

Alternates `torch_llama.py` and `slimpipe bench train` and prints the median of each as one JSON line
per setting. Needs PyTorch (pip install torch) and a release build:

    cargo build --release && python3 scripts/compare_torch.py --rounds 3
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def run(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seq", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--dtype", nargs="+", default=["f32", "bf16"])
    args = parser.parse_args()
    ours = HERE.parent / "target" / "release" / "slimpipe"
    for seq in args.seq:
        for dtype in args.dtype:
            flags = ["--seq", str(seq), "--dtype", dtype, "--steps", str(args.steps), "--threads", "2"]
            peers, own = [], []
            for _ in range(args.rounds):
                peers.append(run([sys.executable, str(HERE / "torch_llama.py"), *flags]))
                own.append(run([str(ours), "bench", "train", *flags]))
            middle = lambda runs, key: statistics.median(r[key] for r in runs)
            row = {"seq": seq, "dtype": dtype, "peer": peers[0]["peer"]}
            for key in ("tokens_per_s", "gflops", "peak_rss_mib"):
                row["torch_" + key], row[key] = middle(peers, key), middle(own, key)
            row["speed_ratio"] = round(row["tokens_per_s"] / row["torch_tokens_per_s"], 3)
            row["memory_ratio"] = round(row["peak_rss_mib"] / row["torch_peak_rss_mib"], 3)
            print(json.dumps(row), flush=True)


main()
