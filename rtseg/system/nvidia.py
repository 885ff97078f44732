"""The NVIDIA GPUs of this machine, from the driver's own library: no CUDA toolkit, no torch, no context.

Cheap where there is none (one failed dlopen), so that choosing an engine can always look here; engines do so before
they import a GPU library, because some of those crash without a GPU.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSORS = 75, 76, 16
"""CU_DEVICE_ATTRIBUTE_... of cuda.h."""
DRIVER_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """One device. capability: (major, minor). memory_bytes: total. cuda: the newest CUDA version of its driver."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    multiprocessors: int
    cuda: tuple[int, int]


@lru_cache(maxsize=1)
def gpus() -> tuple[Gpu, ...] | str:
    """The GPUs that a program here may use, or in one line why there are none.

    Initialises the driver in this process, once: a process forked after that cannot use the GPU.
    """
    # The driver's own library, which every machine with a working GPU has; the toolkit's need not be installed.
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return f"no NVIDIA driver here: {library} is not found"
    # Fails where a driver is installed and its GPU is not there, as in many containers.
    problem = cuda.cuInit(0)
    if problem:
        return f"no usable NVIDIA GPU here: cuInit says {_error(cuda, problem)}"
    count = ctypes.c_int()
    if cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "an NVIDIA driver but no GPU here"
    return tuple(_gpu(cuda, number) for number in range(count.value))


def target(gpu: Gpu) -> str:
    """A GPU's architecture as compilers name it, `sm_86`."""
    return f"sm_{gpu.capability[0]}{gpu.capability[1]}"


def driver_version() -> str | None:
    """Version of the NVIDIA kernel driver (Linux); None where the system does not say."""
    try:
        words = DRIVER_FILE.read_text(encoding="utf-8").split()
    except OSError:
        return None
    numbers = [word for word in words if word[:1].isdigit() and word.count(".") >= 1]
    return numbers[0] if numbers else None


def _gpu(cuda: ctypes.CDLL, number: int) -> Gpu:
    device, value, size, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(128)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)

    def attribute(which: int) -> int:
        cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
        return value.value

    capability = attribute(CAPABILITY_MAJOR), attribute(CAPABILITY_MINOR)
    multiprocessors = attribute(MULTIPROCESSORS)
    cuda.cuDriverGetVersion(ctypes.byref(value))
    # The driver gives 1000 * major + 10 * minor.
    newest = value.value // 1000, value.value % 1000 // 10
    return Gpu(name.value.decode(errors="replace"), capability, size.value, multiprocessors, newest)


def _error(cuda: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    if cuda.cuGetErrorString(code, ctypes.byref(text)) or text.value is None:
        return f"error {code}"
    return text.value.decode(errors="replace")
