"""The messages on the wire, version 1 (docs/wire.md): packing them, and turning any bytes into one or into an error.

Used by the daemon and by its clients, so it knows neither sockets nor models. Coordinates are not judged here, but
in `rtseg.frames.frame` alone. Nothing here runs what a message says, and no byte string can make it crash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import msgpack
import numpy as np

from rtseg.frames import scale
from rtseg.frames.skeleton import Skeleton
from rtseg.wire.class_probabilities import ClassProbabilities
from rtseg.wire.fields import MAX_NAME_CHARACTERS as MAX_NAME_CHARACTERS
from rtseg.wire.fields import MessageError as MessageError
from rtseg.wire.fields import check_fields, check_name, list_of, numbers_of, shown, text_of

VERSION = 1
FLOAT32 = np.dtype("<f4")
"""Little-endian on every machine."""
MAX_POINTS = 4096
"""Animals x keypoints of one stream."""
MAX_INTEGER = 2**63 - 1
NO_CLASSES: Mapping[str, Sequence[str]] = {}
POLICIES = ("all", "newest")
"""Where frames of a stream wait: every answer is published, or the newest one and those with an event."""
# The largest hello stays well below both: MAX_POINTS names of MAX_NAME_CHARACTERS each.
_MAX_ITEMS = 65_536
_MAX_BYTES = 16_000_000


def clip_name(name: str) -> str:
    """A name from an unchecked message, no longer than a stream's may be: for errors, logs and the keys of tables."""
    return name[:MAX_NAME_CHARACTERS]


def unpack(data: bytes) -> dict[str, Any]:
    """The map in `data`. Raises MessageError where it is no msgpack map with string keys and `v` = 1."""
    try:
        message = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            ext_hook=_no_ext,
            max_ext_len=0,  # timestamps included
            max_str_len=_MAX_BYTES,
            max_bin_len=_MAX_BYTES,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        # Not its repr: that of "extra data" shows what came first, however deeply it is nested.
        why = f"{type(error).__name__} {error}"[:200]
        raise MessageError(f"expected one msgpack map, got {len(data)} bytes that are none: {why}") from None
    if type(message) is not dict:
        raise MessageError(f"expected a msgpack map, got {type(message).__name__}")
    version = message.get("v")
    # `type ... is`, here and below: True is an int to isinstance, and 1.0 == 1.
    if type(version) is not int or version != VERSION:
        raise MessageError(f"field 'v': expected protocol version {VERSION}, got {shown(version)}")
    return message


def _no_ext(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"msgpack extension type {code} is not part of this protocol")


@dataclass(frozen=True)
class Hello:
    """What a stream declares before its first frame.

    stream: its name. skeleton: animals and keypoints in the order of the frames that follow. fps: camera frames per
    second. clock: what its t_source_ns are counted in. arena: box x0, y0, x1, y1 in px, static. names: the source's
    animal or keypoint names -> the model's, where they differ. resume: whether it continues where it was interrupted;
    None = only where the daemon itself was restarted to resume. policy: one of POLICIES. resample: whether a camera of
    another rate than the model's is to be resampled. px_per_mm: how many px of its frames are a mm; None = not known.
    """

    stream: str
    skeleton: Skeleton
    fps: float
    clock: str = "unknown"
    arena: tuple[float, float, float, float] | None = None
    names: dict[str, str] = field(default_factory=dict)
    resume: bool | None = None
    policy: str = "all"
    resample: bool = False
    px_per_mm: float | None = None

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise MessageError(f"field 'policy': expected one of {', '.join(POLICIES)}, got {shown(self.policy)}")
        # Checked here, not only where a hello arrives: a client learns of a mistake before anything is sent.
        for where, name in (("stream", self.stream), ("clock", self.clock)):
            check_name(name, where)
        for name in (*self.skeleton.animals, *self.skeleton.keypoints, *self.names, *self.names.values()):
            check_name(name, "skeleton and names")
        a, k = self.skeleton.shape
        if a * k > MAX_POINTS:
            raise MessageError(f"field 'skeleton': at most {MAX_POINTS} points per frame, got {a} x {k}")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise MessageError(f"field 'fps': expected frames per second above 0, got {self.fps}")
        if self.px_per_mm is not None and not scale.is_px_per_mm(self.px_per_mm):
            raise MessageError(f"field 'px_per_mm': {scale.EXPECTED}, got {self.px_per_mm}")
        if self.arena is not None:
            x0, y0, x1, y1 = self.arena
            if not (all(map(math.isfinite, self.arena)) and x0 < x1 and y0 < y1):
                raise MessageError(f"field 'arena': expected x0 < x1 and y0 < y1 in px, got {list(self.arena)}")
        # A name that renames nothing is a typing mistake, which would leave a point without its counterpart.
        strangers = set(self.names) - {*self.skeleton.animals, *self.skeleton.keypoints}
        if strangers:
            raise MessageError(f"field 'names': not in the skeleton: {', '.join(sorted(strangers))}")

    def to_message(self) -> dict[str, Any]:
        """As it travels."""
        return {
            "v": VERSION,
            "type": "hello",
            "stream": self.stream,
            # Names only, in the order of the frames: axis and pairs are the model's.
            "skeleton": {"animals": list(self.skeleton.animals), "keypoints": list(self.skeleton.keypoints)},
            "fps": self.fps,
            "clock": self.clock,
            "arena": None if self.arena is None else list(self.arena),
            "names": self.names,
            # Left out where they are not used: a daemon that does not know a field refuses the hello.
            **({} if self.resume is None else {"resume": self.resume}),
            **({} if self.policy == "all" else {"policy": self.policy}),
            **({"resample": True} if self.resample else {}),
            **({} if self.px_per_mm is None else {"px_per_mm": self.px_per_mm}),
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Hello:
        """Raises MessageError or SkeletonError naming the field."""
        optional = ("clock", "arena", "names", "resume", "policy", "resample", "px_per_mm")
        check_fields(message, ("v", "type", "stream", "skeleton", "fps"), optional)
        plain, arena, names = message["skeleton"], message.get("arena"), message.get("names")
        resume, px_per_mm = message.get("resume"), message.get("px_per_mm")
        if resume is not None and type(resume) is not bool:
            raise MessageError(f"field 'resume': expected true, false or nil, got {shown(resume)}")
        resample = message.get("resample", False)
        if type(resample) is not bool:
            raise MessageError(f"field 'resample': expected true or false, got {shown(resample)}")
        if type(plain) is not dict:
            raise MessageError(f"field 'skeleton': expected a map with animals and keypoints, got {shown(plain)}")
        check_fields(plain, ("animals", "keypoints"), (), "skeleton")
        if names is not None and type(names) is not dict:
            raise MessageError(f"field 'names': expected a map of strings, got {shown(names)}")
        box = None if arena is None else numbers_of(arena, 4, "arena")
        return cls(
            stream=text_of(message["stream"], "stream"),
            skeleton=Skeleton(
                animals=tuple(text_of(n, "animals") for n in list_of(plain["animals"], "animals")),
                keypoints=tuple(text_of(n, "keypoints") for n in list_of(plain["keypoints"], "keypoints")),
            ),
            fps=numbers_of([message["fps"]], 1, "fps")[0],
            clock=text_of(message.get("clock", "unknown"), "clock"),
            arena=None if box is None else (box[0], box[1], box[2], box[3]),
            names={text_of(k, "names"): text_of(v, "names") for k, v in (names or {}).items()},
            resume=resume,
            policy=text_of(message.get("policy", "all"), "policy"),
            resample=resample,
            px_per_mm=None if px_per_mm is None else numbers_of([px_per_mm], 1, "px_per_mm")[0],
        )


class FrameMessage(NamedTuple):
    """One frame as it came. keypoints: bytes of float32 (A, K, 2). confidence: bytes of float32 (A, K), or None."""

    stream: str
    seq: int
    t_source_ns: int
    keypoints: bytes
    confidence: bytes | None


def frame_message(
    stream: str, seq: int, t_source_ns: int, keypoints: bytes, confidence: bytes | None
) -> dict[str, Any]:
    """A frame as it travels: the only message without `type`, since nearly all messages are frames."""
    message = {"v": VERSION, "stream": stream, "seq": seq, "t_source_ns": t_source_ns, "kp": keypoints}
    if confidence is not None:
        message["conf"] = confidence
    return message


_FRAME_FIELDS = frozenset(("v", "stream", "seq", "t_source_ns", "kp", "conf"))


def parse_frame(message: dict[str, Any]) -> FrameMessage:
    """The frame in an unpacked map; its sizes are checked by the stream. Raises MessageError naming the field."""
    # Nearly never: the sentence that names unknown fields is only made where there are some.
    if not _FRAME_FIELDS.issuperset(message):
        check_fields(message, (), tuple(_FRAME_FIELDS))
    get = message.get
    stream, seq, t_source_ns, kp, conf = get("stream"), get("seq"), get("t_source_ns"), get("kp"), get("conf")
    if type(stream) is not str:
        raise MessageError(f"field 'stream': expected a string, got {shown(stream)}")
    if type(seq) is not int or not 0 <= seq <= MAX_INTEGER:
        raise MessageError(f"field 'seq': expected an integer in 0 .. 2^63-1, got {shown(seq)}")
    if type(t_source_ns) is not int or not 0 <= t_source_ns <= MAX_INTEGER:
        raise MessageError(f"field 't_source_ns': expected an integer in 0 .. 2^63-1, got {shown(t_source_ns)}")
    if type(kp) is not bytes:
        raise MessageError(f"field 'kp': expected bytes of little-endian float32, got {shown(kp)}")
    if conf is not None and type(conf) is not bytes:
        raise MessageError(f"field 'conf': expected bytes of little-endian float32, got {shown(conf)}")
    # Sizes are not checked: only the stream knows its number of points.
    return FrameMessage(stream, seq, t_source_ns, kp, conf)


@dataclass(frozen=True, slots=True, eq=False)
class PredictionMessage:
    """The answer to one frame.

    t_recv_ns, t_pub_ns: the daemon's monotonic clock when the frame came and when this left. probs: head -> (classes,)
    float32, by number or by class. label: head -> class after decoding. event: head -> the class whose bout began here
    (the bout before it ended). unsure: heads whose highest probability lies below the model's threshold. quality:
    flags, see docs/wire.md. model: the bundle's hash.
    """

    stream: str
    seq: int
    t_source_ns: int
    t_recv_ns: int
    t_pub_ns: int
    probs: dict[str, ClassProbabilities]
    label: dict[str, str]
    event: dict[str, str]
    unsure: tuple[str, ...]
    quality: int
    model: str


@dataclass(frozen=True)
class StreamEvent:
    """All that is published besides predictions: `subscribed`, `opened`, `closed` ...; docs/wire.md has the fields."""

    type: str
    stream: str
    fields: dict[str, Any]


def parse_published(
    message: dict[str, Any], classes: Mapping[str, Sequence[str]] = NO_CLASSES
) -> PredictionMessage | StreamEvent:
    """What a subscriber got. classes: head -> names, where known. Raises MessageError for another protocol."""
    kind = message.get("type")
    if kind is not None:
        return StreamEvent(text_of(kind, "type"), str(message.get("stream", "")), message)
    try:
        return PredictionMessage(
            stream=message["stream"],
            seq=message["seq"],
            t_source_ns=message["t_source_ns"],
            t_recv_ns=message["t_recv_ns"],
            t_pub_ns=message["t_pub_ns"],
            probs={head: _probabilities(p, classes.get(head, ())) for head, p in message["probs"].items()},
            label=message["label"],
            event=message["event"],
            unsure=tuple(message.get("unsure", ())),
            quality=message["quality"],
            model=message["model"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MessageError(f"expected a prediction, got fields {', '.join(map(str, message))}: {error!r}") from None


def _probabilities(data: bytes, classes: Sequence[str]) -> ClassProbabilities:
    values = np.frombuffer(data, FLOAT32)
    # Of another model than the names are: a wrong name is worse than none.
    return ClassProbabilities.of(values, classes if len(classes) == len(values) else ())


@dataclass(frozen=True)
class Served:
    """What a daemon serves; part of `accepted` and of `subscribed`.

    heads: name -> classes, in the order of the outputs. lookahead_frames: the answer to frame t comes with frame
    t + lookahead. fps: the rate that streams must have. model: the bundle's hash. engine: its name. predictions: the
    address for subscribers.
    """

    heads: dict[str, tuple[str, ...]]
    lookahead_frames: int
    fps: float
    model: str
    engine: str
    predictions: str

    def to_fields(self) -> dict[str, Any]:
        """As it travels within a message."""
        return {
            "heads": [{"name": name, "classes": list(classes)} for name, classes in self.heads.items()],
            "lookahead": self.lookahead_frames,
            "fps": self.fps,
            "model": self.model,
            "engine": self.engine,
            "predictions": self.predictions,
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Served:
        """Raises MessageError where the daemon speaks another protocol."""
        try:
            return cls(
                heads={str(head["name"]): tuple(map(str, head["classes"])) for head in message["heads"]},
                lookahead_frames=int(message["lookahead"]),
                fps=float(message["fps"]),
                model=str(message["model"]),
                engine=str(message["engine"]),
                predictions=str(message["predictions"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MessageError(
                f"expected what the daemon serves, got {', '.join(map(str, message))}: {error!r}"
            ) from None


_KINDS = ("hello", "bye", "beat", "status", "load", "stop", "arm", "disarm")
MAX_ARMED_S = 30 * 24 * 3600.0
"""Longer is a typing mistake; without a time it is until somebody disarms."""


def parse_to_daemon(data: bytes) -> tuple[str, dict[str, Any]]:
    """(type, map) of what a client sent: `frame` (without `type`), or one of _KINDS."""
    message = unpack(data)
    kind = message.get("type", "frame")
    if "type" in message and (type(kind) is not str or kind not in _KINDS):
        raise MessageError(f"field 'type': expected {', '.join(_KINDS)}, or none for a frame; got {shown(kind)}")
    return kind, message


def parse_bye(message: dict[str, Any]) -> str:
    """The stream that ends. Raises MessageError."""
    check_fields(message, ("v", "type", "stream"), ())
    return text_of(message["stream"], "stream")


def parse_beat(message: dict[str, Any]) -> tuple[str, int]:
    """(stream, t_source_ns) of a sign of life. Raises MessageError."""
    check_fields(message, ("v", "type", "stream", "t_source_ns"), ())
    t_source_ns = message["t_source_ns"]
    if type(t_source_ns) is not int or not 0 <= t_source_ns <= MAX_INTEGER:
        raise MessageError(f"field 't_source_ns': expected an integer in 0 .. 2^63-1, got {shown(t_source_ns)}")
    return text_of(message["stream"], "stream"), t_source_ns


def parse_load(message: dict[str, Any]) -> tuple[str, str | None]:
    """(folder of the bundle, stream or None for all). Raises MessageError."""
    check_fields(message, ("v", "type", "bundle"), ("stream",))
    stream = message.get("stream")
    if stream is not None:
        check_name(text_of(stream, "stream"), "stream")
    bundle = text_of(message["bundle"], "bundle")
    if not bundle.startswith("/") or not bundle.isprintable():
        raise MessageError(f"field 'bundle': expected the full path of a folder, got {shown(bundle)}")
    return bundle, stream


def parse_arming(message: dict[str, Any]) -> tuple[str | None, float | None]:
    """(stream or None for all, for how many seconds or None) of `arm` and `disarm`. Raises MessageError."""
    check_fields(message, ("v", "type"), ("stream", "for_s") if message["type"] == "arm" else ("stream",))
    stream, for_s = message.get("stream"), message.get("for_s")
    if stream is not None:
        check_name(text_of(stream, "stream"), "stream")
    if for_s is not None:
        for_s = numbers_of([for_s], 1, "for_s")[0]
        if not 0 < for_s <= MAX_ARMED_S:
            raise MessageError(f"field 'for_s': expected seconds above 0, {MAX_ARMED_S:g} at most, got {shown(for_s)}")
    return stream, for_s
