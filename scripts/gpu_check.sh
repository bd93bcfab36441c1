#!/usr/bin/env bash
# Checks and measures on a real GPU, on a machine that has neither Rust nor a network.
#
#   scripts/gpu_check.sh pack      where the code is built: puts what the other machine needs into carry/, which git ignores
#   scripts/gpu_check.sh [PART..]  there: runs all parts, or those named; results go to $OUT or carry/out
#
# Parts: facts kernels train nccl bench sanitizer. Each runs alone. At the end come a table and a line of JSON;
# the exit code is 1 if a part failed.
set -uo pipefail
cd "$(dirname "$0")/.."
here=carry
out=${OUT:-$here/out}
limit=${SLIMPIPE_GPU_CHECK_SECONDS:-150} # for each part, so that all fit in ten minutes

pack() {
  set -e
  rm -rf "$here" && mkdir -p "$here/tests"
  cargo build --release
  cp target/release/slimpipe "$here/"
  # Test executables that can run on a GPU, as cargo names them.
  cargo test --release -p slimpipe-kernels -p slimpipe-ops -p slimpipe-autograd --no-run --message-format=json 2>/dev/null |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] in sys.argv[1:]:
        package = message["package_id"].split("#")[0].rsplit("/", 1)[-1]
        print(package + "-" + message["target"]["name"], message["executable"])' tensor_cores launchers gpu |
    while read -r name path; do cp "$path" "$here/tests/$name"; done
  strip "$here/slimpipe" "$here"/tests/*
  # Machine code, so that nothing is compiled there; a compiler there is used where this is missing.
  SLIMPIPE_KERNEL_IMAGE=cubin "$here/slimpipe" kernels build --pack "$here/kernels" ||
    echo "no kernels are carried: the other machine must have NVRTC" >&2
  du -sh "$here"
}

facts() { "$here/slimpipe" doctor && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv; }

# The bodies that CI runs on the emulator, on the GPU.
kernels() {
  local failed=0
  for test in "$here"/tests/*; do
    SLIMPIPE_TEST_GPU=real "$test" --test-threads=1 || failed=1
  done
  return $failed
}

# Losses beside the CPU's and memory peaks beside the plan's; then a Llama of 1 B parameters for its speed.
train() {
  "$here/slimpipe" bench gpu | tee "$out/train.jsonl" &&
    "$here/slimpipe" bench gpu --alone --dtype bf16 --hidden 2048 --layers 16 --seq 32768 -m 1 | tee "$out/speed.jsonl"
}

# Two ranks as processes on this one GPU, over NCCL where the library lets them share it, beside two threads.
nccl() {
  local settings="--set train.device=cuda --set parallel.pipeline=2 --set train.steps=4"
  rm -rf "$out/threads" "$out/processes"
  # shellcheck disable=SC2086
  "$here/slimpipe" train $settings --out "$out/threads" >"$out/threads.txt" || return 1
  local pids=()
  for rank in 1 0; do
    # shellcheck disable=SC2086
    NCCL_MULTI_RANK_GPU_ENABLE=1 RANK=$rank WORLD_SIZE=2 LOCAL_RANK=0 timeout 100 \
      "$here/slimpipe" train $settings --set parallel.timeout=60 --out "$out/processes" &
    pids+=($!)
  done
  wait "${pids[0]}" && wait "${pids[1]}" || return 1
  python3 - "$out" <<'PYTHON'
import json, sys
threads, processes = ([json.loads(line)["loss"] for line in open(f"{sys.argv[1]}/{run}/metrics.jsonl")]
                      for run in ("threads", "processes"))
print("losses of threads and of processes:", threads, processes)
assert len(threads) == len(processes) == 4
assert all(abs(a / b - 1) < 1e-5 for a, b in zip(threads, processes))
PYTHON
}

sanitizer() {
  local tool
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -1)
  if [ -z "$tool" ]; then
    echo "no compute-sanitizer on this machine"
    return 77
  fi
  for test in "$here"/tests/kernels-*; do
    SLIMPIPE_TEST_GPU=real "$tool" --error-exitcode 9 "$test" --test-threads=1 attention gemm || return 1
  done
}

bench() {
  "$here/slimpipe" bench kernels | tee "$out/kernels.jsonl" &&
    python3 scripts/gpu_torch.py "$out/kernels.jsonl" | tee "$out/torch.txt"
}

if [ "${1:-}" = pack ]; then
  pack
  exit
fi
test -x "$here/slimpipe" || { echo "no $here/slimpipe: run scripts/gpu_check.sh pack where the code is built"; exit 2; }
mkdir -p "$out"
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(facts kernels train nccl bench sanitizer)
results=()
failed=0
export -f facts kernels train nccl bench sanitizer
export here out
export SLIMPIPE_KERNEL_PACK=$PWD/$here/kernels SLIMPIPE_KERNEL_CACHE=$PWD/$here/cache
for part in "${parts[@]}"; do
  printf '\n== %s\n' "$part"
  start=$SECONDS
  timeout "$limit" bash -c "set -o pipefail; $part" > >(tee "$out/$part.log") 2>&1
  code=$?
  case $code in 0) state=passed ;; 77) state=skipped ;; 124) state="ran out of $limit s" ;; *) state=failed ;; esac
  [ "$code" = 0 ] || [ "$code" = 77 ] || failed=1
  results+=("$part|$state|$((SECONDS - start))")
done
printf '\n%-12s %-24s %s\n' part result seconds
json=""
for line in "${results[@]}"; do
  IFS='|' read -r part state seconds <<<"$line"
  printf '%-12s %-24s %s\n' "$part" "$state" "$seconds"
  json+="${json:+,}\"$part\":{\"result\":\"$state\",\"seconds\":$seconds}"
done
echo "{$json}" | tee "$out/summary.json"
exit $failed
