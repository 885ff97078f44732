"""Inputs for `benchmarks/fuzz.py`: valid messages changed in a field, a byte or a length, random msgpack, random bytes.

Some are cut off, repeated, or sent in several parts. None is a valid `stop`, which would end the daemon.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from rtseg.errors import RtsegError
from rtseg.frames.skeleton import Skeleton
from rtseg.wire.messages import parse_to_daemon

CONNECTIONS = 8
QUIET = "quiet"
"""The name of the stream that must not be disturbed; some inputs use it, too."""
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), "", "x", "x" * 200, "x" * 201, "x" * 70_000, "\x00", "\n", "\u202e", "ä" * 100, "🐭"),
    *(b"", b"\x00", b"\xff" * 112, b"\x00\x00\xc0\x7f" * 28, b"\x00\x00\x80\x7f" * 28, b"x" * 70_000, [], [[]], {}),
    *({"v": 1}, [0.0] * 4, ["a"] * 5000, {"a": {"a": {"a": {}}}}, msgpack.ExtType(1, b"x"), msgpack.Timestamp(0, 0)),
    *(1, 30, 30.0, "hello", "bye", "status", "load", "frame", QUIET, "/", "/etc", "/dev/zero", "../..", "engines"),
)
"""Values that a field may not expect: limits of number types, other types, long and odd texts, paths."""


class Mutator:
    """Makes inputs from a seed.

    skeleton, fps: of the model that is served, so that some inputs are nearly valid. stream: the one that most messages
    are about; set by the sender. kinds: how many inputs of each kind were made.
    """

    def __init__(self, skeleton: Skeleton, fps: float, seed: int) -> None:
        self.skeleton, self.fps = skeleton, fps
        self.random = random.Random(seed)
        self.kinds: Counter[str] = Counter()
        self.stream = "fuzz0"
        self._seq = 0
        self._sent: list[bytes] = []
        self._makers: dict[str, Callable[[], bytes]] = {
            "field": self._field,
            "bits": self._bits,
            "cut": self._cut,
            "again": self._again,
            "msgpack": self._msgpack,
            "bytes": self._bytes,
            "valid": self._valid,
        }

    def next(self) -> list[bytes]:
        """The parts of one input (nearly always one)."""
        kind = self.random.choices(tuple(self._makers), (35, 15, 10, 5, 15, 10, 10))[0]
        data = self._makers[kind]()
        if is_stop(data):
            return self.next()
        self.kinds[kind] += 1
        if self.random.random() < 0.05:
            self._sent = [*self._sent[-200:], data]
        if self.random.random() < 0.01:
            self.kinds["several parts"] += 1
            return [data, *(self.random.randbytes(self.random.randrange(9)) for _ in range(self.random.randint(1, 3)))]
        return [data]

    def hello(self, stream: str) -> dict[str, Any]:
        """A hello that the daemon accepts."""
        animals, keypoints = list(self.skeleton.animals), list(self.skeleton.keypoints)
        about_it = {"skeleton": {"animals": animals, "keypoints": keypoints}, "fps": self.fps}
        optional = {"clock": "camera", "arena": [0.0, 0.0, 900.0, 600.0], "names": {}, "policy": "newest"}
        optional |= {"resume": True, "resample": True}
        some = {key: value for key, value in optional.items() if self.random.random() < 0.3}
        return {"v": 1, "type": "hello", "stream": stream, **about_it, **some}

    def message(self) -> dict[str, Any]:
        """A valid message of any kind except `stop`."""
        stream = self.stream if self.random.random() < 0.9 else f"fuzz{self.random.randrange(2 * CONNECTIONS)}"
        kind = self.random.choices(("frame", "hello", "beat", "bye", "status", "load"), (75, 15, 5, 2, 0.5, 0.2))[0]
        if kind == "hello":
            return self.hello(stream)
        if kind == "beat":
            return {"v": 1, "type": "beat", "stream": stream, "t_source_ns": self.random.getrandbits(62)}
        if kind == "bye":
            return {"v": 1, "type": "bye", "stream": stream}
        if kind == "status":
            return {"v": 1, "type": "status"}
        if kind == "load":
            return {"v": 1, "type": "load", "bundle": self.random.choice(("/nowhere", "/etc", "/dev/null"))}
        a, k = self.skeleton.shape
        self._seq += self.random.choice((1, 1, 1, 1, 0, -3, 7, 100))
        points = np.random.default_rng(self.random.getrandbits(32)).uniform(0, 900, (a, k, 2)).astype("<f4")
        frame = {"v": 1, "stream": stream, "seq": max(0, self._seq), "t_source_ns": 0, "kp": points.tobytes()}
        return frame | ({"conf": b"\x00\x00\x80\x3f" * (a * k)} if self.random.random() < 0.3 else {})

    def _valid(self) -> bytes:
        return packed(self.message())

    def _field(self) -> bytes:
        message = self.message()
        place = message
        while True:
            key = self.random.choice(list(place) or [""])
            if not (isinstance(place.get(key), dict) and self.random.random() < 0.7):
                break
            place = place[key]
        way = self.random.random()
        if way < 0.7:
            place[key] = self.random.choice(STRANGE)
        elif way < 0.85:
            place.pop(key, None)
        else:
            place[self.random.choice(("x", "V", "Type", "kp2", 7, b"v", None, 1.5))] = self.random.choice(STRANGE)
        return packed(message)

    def _bits(self) -> bytes:
        data = bytearray(self._valid())
        for _ in range(self.random.choice((1, 1, 1, 2, 8))):
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(data)

    def _cut(self) -> bytes:
        data = self._valid()
        cut = self.random.randrange(len(data))
        return data[:cut] if self.random.random() < 0.7 else data + data[:cut]

    def _again(self) -> bytes:
        return self.random.choice(self._sent) if self._sent else self._valid()

    def _msgpack(self) -> bytes:
        return packed(self._value(0))

    def _value(self, depth: int) -> Any:
        way = self.random.random()
        if depth > 4 or way < 0.5:
            return self.random.choice(STRANGE)
        if way < 0.7:
            return [self._value(depth + 1) for _ in range(self.random.randrange(5))]
        names = ("v", "type", "stream", "seq", "kp", "skeleton", "x")
        return {self.random.choice(names): self._value(depth + 1) for _ in range(self.random.randrange(6))}

    def _bytes(self) -> bytes:
        way = self.random.random()
        if way < 0.1:  # nested deeper than a parser may recurse, and lengths without the data that they announce
            return self.random.choice((b"\x91", b"\x81\xa1x", b"\xdc\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdd")) * 3000
        return self.random.randbytes(self.random.choice((0, 1, 2, 9, 60, 300, 5000)))


def packed(value: Any) -> bytes:
    """The value as msgpack; lone surrogates, which UTF-8 does not allow, are written all the same."""
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass", strict_types=False))


def is_stop(data: bytes) -> bool:
    """Whether this is a valid message that ends the daemon."""
    try:
        return parse_to_daemon(data)[0] == "stop"
    except RtsegError:
        return False
