"""libzmq's own functions, for compiled code that receives many messages in one call: where they are, and how to call.

pyzmq has loaded the library already, and its sockets belong to that copy. Where the functions cannot be found, or the
machine passes arguments in another way, `addresses` gives None, and messages come through pyzmq one by one.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types
from numpy.typing import NDArray
from zmq.backend.cython import _zmq

INIT, RECV, DATA, SIZE, MORE, CLOSE, SEND, GET, GETS, CLOCK, COPY = range(11)
DONTWAIT, SNDMORE, MONOTONIC, SOURCE_FD = 1, 2, 1, 2
"""ZMQ_DONTWAIT, ZMQ_SNDMORE, Linux' CLOCK_MONOTONIC, and ZMQ_SRCFD."""
MESSAGE_WORDS = 8
"""64-bit words of a zmq_msg_t, which has 64 bytes on every 64-bit machine."""
_NAMES = (
    *("zmq_msg_init", "zmq_msg_recv", "zmq_msg_data", "zmq_msg_size", "zmq_msg_more", "zmq_msg_close"),
    *("zmq_send", "zmq_msg_get", "zmq_msg_gets"),
)
# On both the first six integer arguments are passed in registers, which `_call_code` relies on.
_MACHINES = "x86_64", "aarch64"
intrinsic: Any = extending.intrinsic  # calls of what it makes take other arguments than its definition


def addresses() -> NDArray[np.int64] | None:
    """Addresses of the functions INIT to COPY (C's `memcpy`); None where compiled code can't call them."""
    if platform.machine() not in _MACHINES or sys.platform != "linux" or sys.byteorder != "little":
        return None
    try:
        # Not a libzmq of the system: pyzmq's own, in which its sockets live.
        library, system = ctypes.CDLL(_zmq.__file__), ctypes.CDLL(None)
        functions = [getattr(library, name) for name in _NAMES] + [system.clock_gettime, system.memcpy]
    except (OSError, AttributeError, TypeError):
        return None
    # Handed to kernels as arguments: a compiled-in address would be wrong in the next process.
    return np.array([ctypes.cast(function, ctypes.c_void_p).value for function in functions], np.int64)


def _call(_: Any, address: Any, first: Any, second: Any, third: Any, fourth: Any) -> Any:
    """Call a function by its address with up to four integers or pointers; what it returns, in 64 bits.

    One signature for all of them: arguments that a function does not have stay in registers that it doesn't read. Of
    one that returns an `int` only the lower 32 bits are valid.
    """
    return types.int64(*[types.int64] * 5), _call_code


def _call_with_six(_: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """The same with up to six."""
    return types.int64(*[types.int64] * 7), _call_code


def _call_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    word = ir.IntType(64)
    kind = ir.FunctionType(word, [word] * (len(arguments) - 1))
    return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])


call: Any = intrinsic(_call)
call_with_six: Any = intrinsic(_call_with_six)
