#!/usr/bin/env python3
"""PyTorch on the inputs of `slimpipe bench kernels`: the same numbers, results compared by their norms, times
side by side.

usage: gpu_torch.py KERNELS.jsonl     the lines that `slimpipe bench kernels` printed
Prints a table, then one JSON line with all of it. Exit code 1 if a result differs by more than 1 %.
"""

import json
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

RUNS = 15
MASK = 0xFFFFFFFF


def numbers(seed, *shape):
    """As src/cli/bench/kernels/data.rs makes them."""
    count = 1
    for extent in shape:
        count *= extent
    parts = []
    # 32-bit arithmetic in 64-bit integers, a piece at a time: products stay below 2^63.
    for start in range(0, count, 1 << 24):
        i = torch.arange(start, min(count, start + (1 << 24)), device="cuda", dtype=torch.int64)
        hashed = (times(i, 0x9E3779B1) + (seed * 0x85EBCA77 & MASK)) & MASK
        hashed ^= hashed >> 15
        hashed = times(hashed, 0x2C1B3C6D)
        hashed ^= hashed >> 12
        hashed = times(hashed, 0x297A2D39)
        hashed ^= hashed >> 15
        total = sum((hashed >> shift) & 255 for shift in (0, 8, 16, 24))
        parts.append(((total.float() - 510.0) / 147.8).to(torch.bfloat16))
    return torch.cat(parts).reshape(shape)


def times(x, factor):
    """x * factor modulo 2^32, without an overflow of 64 bits."""
    low, high = factor & 0xFFFF, factor >> 16
    return (x * low + (((x * high) & 0xFFFF) << 16)) & MASK


def timed(call):
    """The median of RUNS calls in milliseconds, and what the last one gave."""
    result, found = call(), []
    for _ in range(RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = call()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end))
    return statistics.median(found), result


def norm(x):
    return x.double().norm().item() if x.numel() < 1 << 26 else x.float().norm().item()


def gemm(case):
    m, n, k = case["m"], case["n"], case["k"]
    a, b = numbers(1, m, k), numbers(2, n, k)
    ms, c = timed(lambda: a @ b.T)
    return {"cublas": ms}, [norm(c)]


def gemm_input_gradient(case):
    m, n, k = case["m"], case["n"], case["k"]
    a, b = numbers(1, m, k), numbers(2, k, n)
    ms, c = timed(lambda: a @ b)
    return {"cublas": ms}, [norm(c)]


def gemm_weight_gradient(case):
    m, n, k = case["m"], case["n"], case["k"]
    a, b = numbers(1, k, m), numbers(2, k, n)
    total = torch.zeros(m, n, device="cuda")

    def add():
        total.add_(a.T @ b)

    ms, _ = timed(add)
    return {"cublas and an addition": ms}, [norm(total) / (RUNS + 1)]


def mlp_swiglu(case):
    tokens, width, hidden = case["tokens"], case["width"], case["hidden"]
    scale = torch.tensor(width**-0.5, dtype=torch.bfloat16, device="cuda")
    x = numbers(1, tokens, width)
    gate, up = (numbers(seed, hidden, width) * scale for seed in (2, 3))

    def forward():
        return F.silu(x @ gate.T) * (x @ up.T)

    found = {}
    found["cublas and activation"], out = timed(forward)
    found["torch.compile"], _ = timed(torch.compile(forward))
    return found, [norm(out)]


def mlp_swiglu_bwd(case):
    tokens, width, hidden = case["tokens"], case["width"], case["hidden"]
    dy, weight = numbers(1, tokens, width), numbers(2, width, hidden)
    gate, up = (numbers(seed, tokens, hidden).requires_grad_() for seed in (3, 4))
    out = F.silu(gate) * up

    def gradients(dy):
        return torch.autograd.grad(out, (gate, up), dy @ weight, retain_graph=True)

    ms, found = timed(lambda: gradients(dy))
    return {"cublas and activation": ms}, [norm(grad) for grad in found]


def attention(case, backward):
    tokens, slices, dim = case["tokens"], case["slices"], case["head_dim"]
    heads, kv_heads = case["heads"], case["kv_heads"]
    rows = tokens // slices

    def tensor(seed, length, count):
        return numbers(seed, length, count, dim).transpose(0, 1)[None].requires_grad_(backward)

    q, k, v = tensor(1, rows, heads), tensor(2, tokens, kv_heads), tensor(3, tokens, kv_heads)
    dout = numbers(4, rows, heads, dim).transpose(0, 1)[None] if backward else None
    how = {"is_causal": True} if slices == 1 else {"attn_mask": causal_lower_right(rows, tokens)}
    found, norms = {}, None
    for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
        try:
            with sdpa_kernel(backend):
                call = lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **how)
                if not backward:
                    found[name], out = timed(call)
                    norms = norms or [norm(out)]
                    continue
                out = call()
                gradients = lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)
                found[name], grads = timed(gradients)
                norms = norms or [norm(grad) for grad in grads]
        except RuntimeError as error:
            print(f"  {name} cannot run {case['case']}: {str(error).splitlines()[0]}", file=sys.stderr)
    return found, norms


RUNNERS = {
    "gemm": gemm,
    "gemm_input_gradient": gemm_input_gradient,
    "gemm_weight_gradient": gemm_weight_gradient,
    "mlp_swiglu": mlp_swiglu,
    "mlp_swiglu_bwd": mlp_swiglu_bwd,
    "attention_fwd": lambda case: attention(case, False),
    "attention_bwd": lambda case: attention(case, True),
}
FIGURES = {"case", "ms", "tflops", "norms"}


def main():
    lines = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
    rows, failed = [], False
    print(f"{'case':<60} {'slimpipe':>10} {'TFLOP/s':>8}  PyTorch ms (ratio of times)")
    for case in (line for line in lines if "case" in line):
        found, norms = RUNNERS[case["case"]](case)
        off = max((abs(a / b - 1) for a, b in zip(case["norms"], norms or [])), default=None)
        wrong = off is not None and not off < 0.01
        failed |= wrong
        sizes = " ".join(f"{key}={value}" for key, value in case.items() if key not in FIGURES)
        best = ", ".join(f"{name} {ms:.3f} ({ms / case['ms']:.2f})" for name, ms in found.items())
        mark = f"  RESULTS DIFFER by {off:.1%}" if wrong else ""
        print(f"{case['case'] + ' ' + sizes:<60} {case['ms']:>10.3f} {case['tflops']:>8.1f}  {best}{mark}")
        rows.append({**case, "torch_ms": found, "norm_difference": off})
        torch.cuda.empty_cache()
    gpu = next((line["gpu"] for line in lines if "gpu" in line), None)
    print(json.dumps({"gpu": gpu, "torch": torch.__version__, "cases": rows}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
