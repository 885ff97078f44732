"""What a model answers: one `Prediction` a frame, or `Predictions` of a whole stream, and their file.

The file is the same whether it was written live or offline; probabilities are written so that float32 comes back
exactly.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.heads import Head, output_offsets
from rtseg.recordings.recording import IGNORE, Recording
from rtseg.system.files import write_atomically
from rtseg.wire.class_probabilities import ClassProbabilities

_LAST_NS = 2**63 - 1


class Quality(enum.IntFlag):
    """What a prediction's reader should know about it.

    WARMING_UP: fewer frames than the context that training always had. GAP_FILLED: the frame never came and was
    stepped as one without any point. RESET: the stream restarted at this frame after a long gap. MISSING_POINTS:
    some keypoint is missing. LOW_CONFIDENCE: the seen points' mean confidence is under the bundle's threshold, or no
    point was seen. IDENTITY_JUMP: the tracker seems to have mixed up animals (`rtseg.features.identity`). LATE: the
    daemon was slower than the stream's frame rate. UNSURE: the highest probability of some head lies below the bundle's
    threshold for it. OUT_OF_RANGE: features are not like training's (`rtseg.features.drift`). FROZEN: all positions
    have been the very same for `gaps.frozen_s`: the tracker repeats one frame (`rtseg.frames.frozen`).
    """

    # These numbers travel on the wire and stand in recordings (docs/wire.md): they may not change.
    WARMING_UP = 1
    GAP_FILLED = 2
    RESET = 4
    MISSING_POINTS = 8
    LOW_CONFIDENCE = 16
    IDENTITY_JUMP = 32
    LATE = 64
    UNSURE = 128
    OUT_OF_RANGE = 256
    FROZEN = 512


def quality_words(quality: int) -> str:
    """The flags of a quality by name, in lower case and with semicolons between them; '' for none."""
    return ";".join(str(flag.name).lower() for flag in Quality if flag & quality)


class PredictionBatch:
    """The answers to a batch of N frames, a row a frame; each `Prediction` is a view of one row.

    heads: what the columns are. probs: (N, P) float32, the heads side by side. labels: (N, H) int16, decoded class
    index per head. events: (N, H) whether a new bout begins. unsure: (N, H) whether a head abstains; what it says is
    there all the same. missing: (N,) int32, how many points of the frames were missing.
    """

    __slots__ = ("events", "heads", "labels", "missing", "probs", "unsure")

    def __init__(
        self,
        probs: NDArray[np.float32],
        labels: NDArray[np.int16],
        events: NDArray[np.bool_],
        unsure: NDArray[np.bool_],
        missing: NDArray[np.int32],
        heads: tuple[Head, ...],
    ) -> None:
        self.probs, self.labels, self.events, self.unsure = probs, labels, events, unsure
        self.missing, self.heads = missing, heads


@dataclass(slots=True, eq=False)
class Prediction:
    """The answer about one frame; it is read as a `PredictionMessage` of the wire is.

    seq and t_source_ns: of the frame it is about, which lies `lookahead` frames back. quality: `Quality`. batch and
    row: where in its batch it stands.
    """

    stream: str
    seq: int
    t_source_ns: int
    quality: int
    batch: PredictionBatch
    row: int

    @property
    def probs(self) -> dict[str, ClassProbabilities]:
        """Head -> (classes,), by number or by class: `probs["task1"]["attack"]`."""
        values, start, probs = self.outputs, 0, {}
        for head in self.batch.heads:
            stop = start + len(head.classes)
            probs[head.name] = ClassProbabilities.of(values[start:stop], head.classes)
            start = stop
        return probs

    @property
    def label(self) -> dict[str, str]:
        """Head -> class, after decoding."""
        labels = self.labels.tolist()
        return {head.name: head.classes[label] for head, label in zip(self.batch.heads, labels, strict=True)}

    @property
    def event(self) -> dict[str, str]:
        """Head -> the class whose bout begins here; the one before it ended."""
        begins = dict(zip((head.name for head in self.batch.heads), self.events.tolist(), strict=True))
        return {name: label for name, label in self.label.items() if begins[name]}

    @property
    def unsure(self) -> tuple[str, ...]:
        """Heads that abstain; what they say is there all the same."""
        return tuple(head.name for head, doubts in zip(self.batch.heads, self.abstains, strict=True) if doubts)

    @property
    def outputs(self) -> NDArray[np.float32]:
        """(P,) probabilities, the heads side by side."""
        outputs: NDArray[np.float32] = self.batch.probs[self.row]
        return outputs

    @property
    def labels(self) -> NDArray[np.int16]:
        """(H,) decoded class index per head."""
        labels: NDArray[np.int16] = self.batch.labels[self.row]
        return labels

    @property
    def events(self) -> NDArray[np.bool_]:
        """(H,) whether a new bout begins here."""
        events: NDArray[np.bool_] = self.batch.events[self.row]
        return events

    @property
    def abstains(self) -> NDArray[np.bool_]:
        """(H,) whether a head is unsure."""
        abstains: NDArray[np.bool_] = self.batch.unsure[self.row]
        return abstains


@dataclass(frozen=True, eq=False)
class Predictions:
    """Answers about frames of one stream, in order; `seq` skips frames that have none.

    seq: (T,) int64. probs: (T, P) float32. labels: (T, H) int16, decoded. quality: (T,) int32. unsure:
    (T, H) bool, heads that abstain. t_source_ns: (T,) int64, when the source says that a frame was; None where only
    its number tells, as in a recording. drift: how far the recording left training's ranges (`Session.drift`); {} where
    nobody looked. missing: (T,) int32, how many of the frame's points were missing; None where only flags are known, as
    of what a daemon published.
    """

    heads: tuple[Head, ...]
    seq: NDArray[np.int64]
    probs: NDArray[np.float32]
    labels: NDArray[np.int16]
    quality: NDArray[np.int32]
    unsure: NDArray[np.bool_]
    t_source_ns: NDArray[np.int64] | None = None
    drift: Mapping[str, Any] = field(default_factory=dict)
    missing: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.seq)

    def times(self, fps: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """When each frame was: in seconds since frame 0, and in the source's nanoseconds; (T,) each.

        fps: of the frames' numbers. Of a source with a clock of its own the seconds follow that clock, from the first
        answer on.
        """
        t_ns = self.t_source_ns
        if t_ns is None:
            t_ns = np.array([min(round(seq * 1e9 / fps), _LAST_NS) for seq in self.seq.tolist()], np.int64)
        # From the difference: a clock's own number is too large for float64 to hold its microseconds.
        since_first_s = (t_ns - t_ns[:1]) / 1e9
        return self.seq[:1] / fps + since_first_s, t_ns

    def of(self, head: str) -> NDArray[np.float32]:
        """Probabilities (T, classes) of one head."""
        at = 0
        for h in self.heads:
            if h.name == head:
                return self.probs[:, at : at + len(h.classes)]
            at += len(h.classes)
        raise KeyError(f"no head {head!r}; there are: {', '.join(h.name for h in self.heads)}")

    def by_frame(self, recording: Recording) -> Predictions:
        """The answers about a recording with a row for each of its frames, answered or not.

        Without an answer are frames that the gap rule does not fill: NaN in probs, IGNORE in labels, no flag.
        """
        at, n = self.seq - recording.first_seq, len(recording)

        def spread(values: NDArray[Any], fill: float) -> NDArray[Any]:
            rows = np.full((n, *values.shape[1:]), fill, values.dtype)
            rows[at] = values
            return rows

        return Predictions(
            self.heads,
            seq=recording.first_seq + np.arange(n),
            probs=spread(self.probs, np.nan),
            labels=spread(self.labels, IGNORE),
            quality=spread(self.quality, 0),
            unsure=spread(self.unsure, False),
        )

    @classmethod
    def collect(cls, heads: tuple[Head, ...], answers: Iterable[Prediction]) -> Predictions:
        """Single answers as one table, in the order given."""
        # Reshaped explicitly: from an empty list numpy would make arrays of one dimension.
        rows: Sequence[Prediction] = list(answers)
        return cls(
            heads,
            np.array([p.seq for p in rows], np.int64),
            np.array([p.outputs for p in rows], np.float32).reshape(len(rows), output_offsets(heads)[-1]),
            np.array([p.labels for p in rows], np.int16).reshape(len(rows), len(heads)),
            np.array([p.quality for p in rows], np.int32),
            np.array([p.abstains for p in rows], np.bool_).reshape(len(rows), len(heads)),
            np.array([p.t_source_ns for p in rows], np.int64),
            missing=np.array([p.batch.missing[p.row] for p in rows], np.int32),
        )

    @classmethod
    def join(cls, heads: tuple[Head, ...], parts: Sequence[Predictions]) -> Predictions:
        """Consecutive parts of one stream as one table."""
        if not parts:
            return cls.collect(heads, ())
        columns = ("seq", "probs", "labels", "quality", "unsure")
        times = [part.t_source_ns for part in parts if part.t_source_ns is not None]
        joined: list[NDArray[Any]] = [np.concatenate([getattr(part, name) for part in parts]) for name in columns]
        seq, probs, labels, quality, unsure = joined
        t_source_ns = np.concatenate(times) if len(times) == len(parts) else None
        counts = [part.missing for part in parts if part.missing is not None]
        missing = np.concatenate(counts) if len(counts) == len(parts) else None
        return cls(heads, seq, probs, labels, quality, unsure, t_source_ns, missing=missing)


def write_predictions(predictions: Predictions, path: Path | str, fps: float) -> None:
    """CSV, a row a frame.

    Seq, time in seconds and in the source's nanoseconds (`Predictions.times`), quality as a number and in words, per
    head its decoded label and its probabilities (9 digits: float32 exactly), and last the heads that are unsure, with
    semicolons between them. fps: of the frames' numbers.
    """
    heads = predictions.heads
    names, template = ["seq", "time_s", "t_source_ns", "quality", "quality_words"], "%d,%.6f,%d,%d,%s"
    quality = predictions.quality.tolist()
    words = {flags: quality_words(flags) for flags in set(quality)}
    time_s, t_ns = predictions.times(fps)
    columns: list[list[Any]] = [predictions.seq.tolist(), time_s.tolist(), t_ns.tolist(), quality]
    columns.append([words[flags] for flags in quality])
    probs = predictions.probs.T.tolist()
    for h, head in enumerate(heads):
        names += [head.name, *(f"{head.name}.{c}" for c in head.classes)]
        # Nine digits give every float32 back exactly.
        template += ",%s" + ",%.9g" * len(head.classes)
        columns.append([head.classes[label] for label in predictions.labels[:, h].tolist()])
        columns += [probs.pop(0) for _ in head.classes]
    names.append("unsure")
    columns.append([""] * len(predictions))
    # Only frames of which a head is unsure: most have none, and joining names is slow.
    for t in np.flatnonzero(predictions.unsure.any(axis=1)).tolist():
        unsure = predictions.unsure[t].tolist()
        columns[-1][t] = ";".join(head.name for head, is_unsure in zip(heads, unsure, strict=True) if is_unsure)
    # One template for a whole row: formatting number by number takes three times as long.
    template += ",%s\n"
    write_atomically(
        Path(path), ",".join(names) + "\n" + "".join([template % row for row in zip(*columns, strict=True)])
    )


def write_bouts(predictions: Predictions, path: Path | str, fps: float) -> None:
    """CSV, a row a decoded bout: head, behaviour, first and last seq (inclusive), start and duration in seconds.

    Last comes when the source says that the first frame was, in its nanoseconds (`Predictions.times`). A restart of the
    stream ends a bout, for nobody knows what lies before it.
    """
    lines = ["head,behaviour,first_seq,last_seq,start_s,duration_s,start_t_source_ns"]
    _, t_ns = predictions.times(fps)
    restarts = np.flatnonzero(predictions.quality & Quality.RESET)
    for h, head in enumerate(predictions.heads):
        for bout in bouts_of(predictions.labels[:, h], cuts=restarts):
            # By the frames' numbers, not by rows: with frames left out (a resampled camera) they differ.
            first, last = predictions.seq[bout.start], predictions.seq[bout.stop - 1]
            seconds = f"{first / fps:.3f},{(last - first + 1) / fps:.3f}"
            lines.append(f"{head.name},{head.classes[bout.label]},{first},{last},{seconds},{t_ns[bout.start]}")
    write_atomically(Path(path), "\n".join(lines) + "\n")
