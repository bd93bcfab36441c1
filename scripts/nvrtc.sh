#!/usr/bin/env bash
# Fetches the pinned NVRTC, NVIDIA's run-time compiler, unless it is there, and prints the folder of its
# libraries, where slimpipe finds it. It needs pip and 90 MB once; no GPU, no driver, no toolkit.
set -euo pipefail
version=13.0.88
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-${CARGO_TARGET_DIR:-$root/target}/nvrtc}
libraries=$folder/nvidia/cu13/lib
if [ "$(cat "$folder/version" 2>/dev/null)" != "$version" ]; then
  mkdir -p "$folder"
  part=$(mktemp -d "$folder/part.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --dest "$part" "nvidia-cuda-nvrtc==$version" >&2
  rm -rf "$folder/nvidia"
  python3 -m zipfile -e "$part"/nvidia_cuda_nvrtc-*.whl "$part/unpacked"
  mv "$part/unpacked/nvidia" "$folder/nvidia"
  echo "$version" >"$folder/version"
fi
echo "$libraries"
