"""What columns of any table are called that count frames or times, or say the frame rate.

The same in tables of poses and of labels: a column must not be a clock in one and a behaviour in the other.
"""

from __future__ import annotations

import re

_FRAMES = ("frame", "frames", "frameidx", "frameindex", "framenumber", "framenum", "frameno", "frameid", "fnum")
_INDEX = ("", "index", "unnamed0")
_RATES = ("fps", "framerate", "framespersecond", "samplerate", "samplingrate", "videofps")
_TIMES = ("time", "times", "timestamp", "timestamps", "frametime", "t")
_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "milliseconds": 1e-3}


def plain_name(name: str) -> str:
    """In small letters, without blanks, underscores, brackets and other signs: 'Frame_idx', 'time (s)'."""
    return re.sub(r"[\W_]+", "", name).lower()


def counts_frames(name: str) -> bool:
    """Whether a column's name says that it counts frames."""
    return plain_name(name) in _FRAMES


def is_index(name: str) -> bool:
    """Whether it is what pandas calls the index that it writes beside a table's columns."""
    return plain_name(name) in _INDEX


def is_rate(name: str) -> bool:
    """Whether a column says the frame rate."""
    return plain_name(name) in _RATES


def time_unit(name: str) -> float | None:
    """The seconds that 1 means in a column of times; None where it is none."""
    plain = plain_name(name)
    for word in _TIMES:
        unit = plain.removeprefix(word)
        if plain.startswith(word) and unit in _UNITS:
            return _UNITS[unit]
    return _UNITS["s"] if plain in ("seconds", "sec") else None
