"""The least that a step can take on this GPU, measured: copies and launch, memory, arithmetic.

launch: features in, an empty kernel, probabilities out, as one captured graph with one wait, for every batch size.
memory: bandwidth of a copy on the device. arithmetic: float32 multiply-adds of a large product, without TF32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rtseg.bundle.network import NetworkSpec

COPY_BYTES = 1 << 30
PRODUCT = 4096
REPEATS = 200


def floors(spec: NetworkSpec, batches: list[int]) -> dict[str, Any]:
    """bandwidth_bytes_s, multiply_adds_s, and per batch size launch_us (p50)."""
    source = torch.empty(COPY_BYTES // 4, device="cuda").normal_()
    target = torch.empty_like(source)
    copy_s = _device_s(lambda: target.copy_(source), 20)
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.randn((PRODUCT, PRODUCT), device="cuda") for _ in range(2))
    product_s = _device_s(lambda: torch.mm(a, b), 20)
    return {
        "bandwidth_bytes_s": 2 * COPY_BYTES / copy_s,
        "multiply_adds_s": PRODUCT**3 / product_s,
        "launch_us": {str(batch): _launch_us(spec, batch) for batch in batches},
    }


def least_us(spec: NetworkSpec, batch: int, measured: dict[str, Any]) -> dict[str, float]:
    """launch, memory and arithmetic of one step of a batch, and the floor: the launch plus the larger of the others.

    Memory: every weight read once; for every stream, older taps and states read, new ones written, features, answers.
    """
    taps = spec.kernel - 1
    row = len(spec.heads) * spec.head_channels
    written = len(spec.dilations) * spec.channels + len(spec.head_dilations) * row + sum(c.hidden for c in spec.cells)
    read = taps * (len(spec.dilations) * spec.channels + len(spec.head_dilations) * row)
    read += sum(cell.hidden for cell in spec.cells)
    weights = sum(int(np.prod(shape)) for shape in spec.shapes().values())
    floats = weights + batch * (written + read + spec.n_features + spec.n_outputs)
    launch = float(measured["launch_us"][str(batch)])
    memory = 4 * floats / measured["bandwidth_bytes_s"] * 1e6
    arithmetic = spec.multiply_adds * batch / measured["multiply_adds_s"] * 1e6
    return {
        "launch_us": launch,
        "memory_us": memory,
        "arithmetic_us": arithmetic,
        "floor_us": launch + max(memory, arithmetic),
    }


def _device_s(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of the work on the device, between two events."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return float(np.median(times))


def _launch_us(spec: NetworkSpec, batch: int) -> float:
    host_in = torch.zeros((batch, spec.n_features + 1), pin_memory=True)
    host_out = torch.zeros((batch, spec.n_outputs), pin_memory=True)
    device_in, device_out = host_in.cuda(), host_out.cuda()
    touched = torch.zeros(1, device="cuda")

    def work() -> None:
        device_in.copy_(host_in, non_blocking=True)
        touched.add_(1.0)
        host_out.copy_(device_out, non_blocking=True)

    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter_ns()
        graph.replay()
        torch.cuda.synchronize()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e3
