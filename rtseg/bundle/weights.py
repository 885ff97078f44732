"""A bundle's weights, read: safetensors (https://huggingface.co/docs/safetensors), with every offset checked.

Not by the library, which parses a header of any length and copies every tensor in one call: for 32 MB it held the
interpreter for 79 ms at the least, in which no frame of a daemon is answered; this file's functions held it for 0.6 ms
(safetensors 0.8.0, two EPYC cores, nine loads each beside a thread that asks for it without end). The size of a file is
bounded before it is read (`bundle.limits`), that of its header here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import BundleError
from rtseg.system.json_parser import parse_json

MAX_HEADER_BYTES = 256 << 10
_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
"""What a wrong weight can be named by; only F32 is accepted later."""


def parse_tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Name -> tensor, read-only, in the memory of `data`. Raises BundleError for bytes that are no safetensors file."""
    try:
        length = int.from_bytes(data[:8], "little")
        if len(data) < 8 or not 2 <= length <= min(len(data) - 8, MAX_HEADER_BYTES):
            raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
        header = parse_json(data[8 : 8 + length])
        return {name: _tensor(data, 8 + length, about) for name, about in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise BundleError(f"the weights are no safetensors: {error!r}"[:300]) from None


def _tensor(data: bytes, begin: int, about: Any) -> NDArray[Any]:
    kind, shape = np.dtype(_TYPES[about["dtype"]]), tuple(about["shape"])
    start, stop = about["data_offsets"]
    # Not isinstance: True is an int.
    if any(type(number) is not int or number < 0 for number in (*shape, start, stop)):
        raise ValueError(f"shape {shape} at {start} .. {stop}")
    if begin + stop > len(data) or stop - start != math.prod(shape) * kind.itemsize:
        raise ValueError(f"shape {shape} in {stop - start} bytes")
    values = np.frombuffer(data, kind, math.prod(shape), begin + start) if stop > start else np.empty(0, kind)
    # Kernels read aligned memory; an odd header length moves all tensors.
    return np.require(values.reshape(shape), requirements=["ALIGNED"])
