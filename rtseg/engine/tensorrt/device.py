"""What an engine needs from a GPU: memory on the device and on the host, copies between them, and captured graphs.

`CudaDevice` calls the driver's own library by ctypes, as `system.nvidia` does: no toolkit, no torch, no package. It
shares the GPU's primary context with TensorRT, which uses the runtime library. It knows nothing about networks.

Never run on a GPU so far: its calls were checked against cuda.h, and against a stand-in for the driver in tests.
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
Enqueue = Callable[[], None]
"""Puts work into the device's stream and returns before it is done."""

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: does not wait for the default stream."""
THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: calls from other threads do not invalidate a capture."""
# Declared, since ctypes passes a whole number without a declared type in 32 bits.
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
    """Memory and one stream of work on a device.

    Addresses on the device are whole numbers. Everything that is enqueued is done in order; `synchronize` waits for it.
    """

    @property
    def stream(self) -> int:
        """The handle of the stream, for a library that enqueues its own work."""

    def allocate(self, n_bytes: int) -> int:
        """The address of `n_bytes` zeroed bytes on the device, aligned to 256."""

    def allocate_pinned(self, n_bytes: int) -> Bytes:
        """`n_bytes` zeroed bytes of pinned host memory, which the device can copy from and to without staging."""

    def copy_to_device(self, address: int, source: Bytes) -> None:
        """Enqueue a copy from pinned host memory to the device."""

    def copy_to_host(self, target: Bytes, address: int) -> None:
        """Enqueue a copy from the device to pinned host memory."""

    def zero(self, address: int, n_bytes: int) -> None:
        """Enqueue filling memory on the device with zeros."""

    def capture(self, enqueue: Enqueue) -> Enqueue:
        """Record what `enqueue` enqueues into a graph, without doing it; the result launches the whole graph."""

    def make_current(self) -> None:
        """The calling thread uses the device from now on."""

    def synchronize(self) -> None:
        """Wait until everything that was enqueued is done."""


class CudaDevice:
    """The first NVIDIA GPU that this process may use. Raises EngineError for whatever the driver refuses."""

    def __init__(self) -> None:
        self._cuda = _load_driver()
        # What `close` must give back: the driver's function that frees it, and its handle.
        self._allocations: list[tuple[str, Any]] = []
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

    def allocate(self, n_bytes: int) -> int:
        address = c_ulonglong()
        self._do("cuMemAlloc_v2", byref(address), max(n_bytes, 1))  # the driver refuses 0 bytes
        self._allocations.append(("cuMemFree_v2", address.value))
        # Zeros are the state of a fresh stream, and the driver does not promise any.
        self.zero(address.value, n_bytes)
        self.synchronize()
        return address.value

    def allocate_pinned(self, n_bytes: int) -> Bytes:
        address, size = c_void_p(), max(n_bytes, 1)
        self._do("cuMemHostAlloc", byref(address), size, 0)
        self._allocations.append(("cuMemFreeHost", address))
        here = np.ctypeslib.as_array((c_ubyte * size).from_address(int(address.value or 0)))
        here[:] = 0
        return here[:n_bytes]

    def copy_to_device(self, address: int, source: Bytes) -> None:
        self._do("cuMemcpyHtoDAsync_v2", address, source.ctypes.data, source.nbytes, self._stream)

    def copy_to_host(self, target: Bytes, address: int) -> None:
        self._do("cuMemcpyDtoHAsync_v2", target.ctypes.data, address, target.nbytes, self._stream)

    def zero(self, address: int, n_bytes: int) -> None:
        if n_bytes:
            self._do("cuMemsetD8Async", address, 0, n_bytes, self._stream)

    def capture(self, enqueue: Enqueue) -> Enqueue:
        graph, executable = c_void_p(), c_void_p()
        self._do("cuStreamBeginCapture_v2", self._stream, THREAD_LOCAL)
        try:
            enqueue()
        except BaseException:  # a stream that is left capturing refuses all further work
            if self._cuda.cuStreamEndCapture(self._stream, byref(graph)) == 0:
                self._cuda.cuGraphDestroy(graph)
            raise
        self._do("cuStreamEndCapture", self._stream, byref(graph))
        try:
            self._do("cuGraphInstantiateWithFlags", byref(executable), graph, 0)
        finally:
            self._cuda.cuGraphDestroy(graph)  # the executable graph is a copy
        self._allocations.append(("cuGraphExecDestroy", executable))
        # Looked up once: this is called for every batch of frames.
        launch, stream, check = self._cuda.cuGraphLaunch, self._stream, self._check
        return lambda: check("cuGraphLaunch", launch(executable, stream))

    def make_current(self) -> None:
        # The driver keeps a current context per thread: a bundle is loaded on one thread and stepped on another.
        thread = threading.get_ident()
        if thread != self._thread:
            self._do("cuCtxSetCurrent", self._context)
            self._thread = thread

    def synchronize(self) -> None:
        self._do("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give everything back. No address, array or launch that came from here may be used afterwards."""
        # Errors are ignored: this also runs after the GPU has failed, when every call would raise.
        self._cuda.cuCtxSetCurrent(self._context)
        self._cuda.cuStreamSynchronize(self._stream)
        # Newest first: graphs are given back before the memory that they use.
        for free, handle in reversed(self._allocations):
            getattr(self._cuda, free)(handle)
        self._allocations.clear()
        self._cuda.cuStreamDestroy_v2(self._stream)
        self._cuda.cuDevicePrimaryCtxRelease_v2(self._number)

    def _do(self, call: str, *arguments: Any) -> None:
        self._check(call, getattr(self._cuda, call)(*arguments))

    def _check(self, call: str, code: int) -> None:
        if code:
            text = c_char_p()
            self._cuda.cuGetErrorString(code, byref(text))
            reason = text.value.decode(errors="replace") if text.value else f"error {code}"
            raise EngineError(f"the GPU refused {call}: {reason}")


def _load_driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(name)
        for call, arguments in SIGNATURES.items():
            function = getattr(cuda, call)
            function.argtypes, function.restype = arguments, c_int
    except (OSError, AttributeError) as error:
        raise EngineError(f"no usable NVIDIA driver here: {error}") from None
    return cuda
