"""What an engine needs of a GPU: memory there and here, copies between them, work recorded once and repeated.

`CudaDevice` is that by the driver's own library, as `system.nvidia`: no toolkit, no torch, no package. It shares the
GPU's primary context with TensorRT, which uses the runtime library. Steps no network and knows none.

Never run on a GPU so far: its calls were held against cuda.h, and against a stand-in of the driver in tests.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_ulonglong, c_void_p
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import EngineError

Bytes = NDArray[np.uint8]
Work = Callable[[], None]

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: does not wait for the default stream."""
THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile does not end a recording."""
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_ulonglong), c_size_t),
    "cuMemFree_v2": (c_ulonglong,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_ulonglong, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_ulonglong, c_size_t, c_void_p),
    "cuMemsetD8Async": (c_ulonglong, c_ubyte, c_size_t, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_uint),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}
"""The arguments of every call, as in cuda.h (CUDA 11.4 and newer); each returns a CUresult."""


class Device(Protocol):
    """Memory and an order of work. Addresses are whole numbers; all work comes one after the other, `wait` ends it."""

    @property
    def stream(self) -> int:
        """What a library is told to enqueue its work on."""

    def memory(self, n_bytes: int) -> int:
        """The address of so many zeroed bytes, aligned to 256."""

    def pinned(self, n_bytes: int) -> Bytes:
        """So many zeroed bytes here, for fast copies."""

    def copy_in(self, address: int, source: Bytes) -> None:
        """Enqueue: bytes from here (pinned) to there."""

    def copy_out(self, target: Bytes, address: int) -> None:
        """Enqueue: bytes from there to here (pinned)."""

    def clear(self, address: int, n_bytes: int) -> None:
        """Enqueue: zeros."""

    def recorded(self, work: Work) -> Work:
        """Record what `work` enqueues, without doing it; what is returned enqueues all of it in one launch."""

    def enter(self) -> None:
        """The calling thread will use the device from now on."""

    def wait(self) -> None:
        """Until all that was enqueued is done."""


class CudaDevice:
    """The first NVIDIA GPU that this process may use. Raises EngineError for whatever the driver refuses."""

    def __init__(self) -> None:
        self._cuda = _driver()
        self._kept: list[tuple[str, Any]] = []
        number, context, stream = c_int(), c_void_p(), c_void_p()
        self._do("cuInit", 0)
        self._do("cuDeviceGet", byref(number), 0)
        self._number = number.value
        self._do("cuDevicePrimaryCtxRetain", byref(context), self._number)
        self._context, self._thread = context, threading.get_ident()
        self._do("cuCtxSetCurrent", context)
        self._do("cuStreamCreate", byref(stream), NON_BLOCKING)
        self._stream = stream

    @property
    def stream(self) -> int:
        return int(self._stream.value or 0)

    def memory(self, n_bytes: int) -> int:
        address = c_ulonglong()
        self._do("cuMemAlloc_v2", byref(address), max(n_bytes, 1))
        self._kept.append(("cuMemFree_v2", address.value))
        self.clear(address.value, n_bytes)
        self.wait()
        return address.value

    def pinned(self, n_bytes: int) -> Bytes:
        address, size = c_void_p(), max(n_bytes, 1)
        self._do("cuMemHostAlloc", byref(address), size, 0)
        self._kept.append(("cuMemFreeHost", address))
        here = np.ctypeslib.as_array((c_ubyte * size).from_address(int(address.value or 0)))
        here[:] = 0
        return here[:n_bytes]

    def copy_in(self, address: int, source: Bytes) -> None:
        self._do("cuMemcpyHtoDAsync_v2", address, source.ctypes.data, source.nbytes, self._stream)

    def copy_out(self, target: Bytes, address: int) -> None:
        self._do("cuMemcpyDtoHAsync_v2", target.ctypes.data, address, target.nbytes, self._stream)

    def clear(self, address: int, n_bytes: int) -> None:
        if n_bytes:
            self._do("cuMemsetD8Async", address, 0, n_bytes, self._stream)

    def recorded(self, work: Work) -> Work:
        graph, ready = c_void_p(), c_void_p()
        self._do("cuStreamBeginCapture_v2", self._stream, THREAD_LOCAL)
        try:
            work()
        except BaseException:  # must not leave the stream recording
            if self._cuda.cuStreamEndCapture(self._stream, byref(graph)) == 0:
                self._cuda.cuGraphDestroy(graph)
            raise
        self._do("cuStreamEndCapture", self._stream, byref(graph))
        try:
            self._do("cuGraphInstantiateWithFlags", byref(ready), graph, 0)
        finally:
            self._cuda.cuGraphDestroy(graph)
        self._kept.append(("cuGraphExecDestroy", ready))
        launch, stream, check = self._cuda.cuGraphLaunch, self._stream, self._check
        return lambda: check("cuGraphLaunch", launch(ready, stream))

    def enter(self) -> None:
        thread = threading.get_ident()
        if thread != self._thread:
            self._do("cuCtxSetCurrent", self._context)
            self._thread = thread

    def wait(self) -> None:
        self._do("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give everything back. Whatever came from here must not be used after."""
        self._cuda.cuCtxSetCurrent(self._context)
        self._cuda.cuStreamSynchronize(self._stream)
        for free, what in reversed(self._kept):
            getattr(self._cuda, free)(what)
        self._kept.clear()
        self._cuda.cuStreamDestroy_v2(self._stream)
        self._cuda.cuDevicePrimaryCtxRelease_v2(self._number)

    def _do(self, call: str, *arguments: Any) -> None:
        self._check(call, getattr(self._cuda, call)(*arguments))

    def _check(self, call: str, code: int) -> None:
        if code:
            text = c_char_p()
            self._cuda.cuGetErrorString(code, byref(text))
            said = text.value.decode(errors="replace") if text.value else f"error {code}"
            raise EngineError(f"the GPU refused {call}: {said}")


def _driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(name)
        for call, arguments in SIGNATURES.items():
            function = getattr(cuda, call)
            function.argtypes, function.restype = arguments, c_int
    except (OSError, AttributeError) as error:
        raise EngineError(f"no usable NVIDIA driver here: {error}") from None
    return cuda
