#!/usr/bin/env bash
# Builds, checks and times every engine on this machine's NVIDIA GPU; results go to benchmarks/results/gpu-*.json.
#   benchmarks/gpu/run.sh [BUNDLE ...] [--seconds 3] [--only cuda,...] [--device cpu]      (arguments go to run.py)
# Needs a Python with torch (for CUDA), triton, numba and safetensors: PYTHON=... names it, else python3. TensorRT is used if
# that Python has tensorrt or tensorrt_rtx, and onnx to write what plans are built from; TENSORRT_RTX=FOLDER adds an unpacked one.
# Plans are built first and kept (RTSEG_PLANS=FOLDER, else the user's cache). Without a GPU every candidate says why not.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD:$PWD/benchmarks/gpu${TENSORRT_RTX:+:$TENSORRT_RTX}${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" benchmarks/gpu/run.py "$@"
