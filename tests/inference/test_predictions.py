"""The predictions file: float32 comes back exactly, bouts match the labels, a half-written file is never left."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.inference.predictions import (
    Prediction,
    PredictionBatch,
    Predictions,
    Quality,
    write_bouts,
    write_predictions,
)
from rtseg.recordings.heads import Head

HEADS = (
    Head("task1", ("attack", "mount", "other"), ("attack", "mount"), "task1"),
    Head("face", ("other", "sniff_face"), ("sniff_face",), "task3"),
)


def predictions_of(n_frames: int, seed: int = 0, first_seq: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        HEADS,
        np.arange(first_seq, first_seq + n_frames, dtype=np.int64),
        rng.random((n_frames, 5)).astype(np.float32),
        np.stack([rng.integers(0, 3, n_frames), rng.integers(0, 2, n_frames)], axis=1).astype(np.int16),
        rng.integers(0, 512, n_frames).astype(np.int32),
        rng.random((n_frames, 2)) < 0.3,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_holds_every_number_exactly(tmp_path: Path) -> None:
    predictions, path = predictions_of(50, first_seq=2**60), tmp_path / "p.csv"
    write_predictions(predictions, path, 30.0)
    rows = rows_of(path)
    columns = ["task1.attack", "task1.mount", "task1.other", "face.other", "face.sniff_face"]
    first = ["seq", "time_s", "t_source_ns", "quality", "quality_words"]
    assert list(rows[0]) == [*first, "task1", *columns[:3], "face", *columns[3:], "unsure"]
    again = np.array([[float(row[c]) for c in columns] for row in rows], np.float32)
    assert again.tobytes() == predictions.probs.tobytes()
    assert [int(row["seq"]) for row in rows] == predictions.seq.tolist()
    assert [int(row["quality"]) for row in rows] == predictions.quality.tolist()
    for row, quality in zip(rows, predictions.quality.tolist(), strict=True):
        words = row["quality_words"].upper().split(";") if row["quality_words"] else []
        assert sum(Quality[word] for word in words) == quality
    for h, head in enumerate(HEADS):
        assert [head.classes.index(row[head.name]) for row in rows] == predictions.labels[:, h].tolist()
        assert [head.name in row["unsure"].split(";") for row in rows] == predictions.unsure[:, h].tolist()


def test_every_row_says_when_its_frame_was(tmp_path: Path) -> None:
    numbered, path = predictions_of(3, first_seq=60), tmp_path / "p.csv"
    write_predictions(numbered, path, 30.0)
    assert [row["time_s"] for row in rows_of(path)] == ["2.000000", "2.033333", "2.066667"]
    assert [row["t_source_ns"] for row in rows_of(path)] == ["2000000000", "2033333333", "2066666667"]
    # A camera's own clock, which is no multiple of the rate: the seconds follow it from the first answer on.
    clock_ns = np.array([2**60 + 7, 2**60 + 40_000_007, 2**60 + 1_000_000_007], np.int64)
    write_predictions(replace(numbered, t_source_ns=clock_ns), path, 30.0)
    assert [row["time_s"] for row in rows_of(path)] == ["2.000000", "2.040000", "3.000000"]
    assert [int(row["t_source_ns"]) for row in rows_of(path)] == clock_ns.tolist()


@settings(max_examples=300)
@given(st.floats(0, 1, width=32))
def test_nine_digits_are_enough_for_float32(value: float) -> None:
    assert np.float32(f"{value:.9g}").tobytes() == np.float32(value).tobytes()


def test_bouts_are_the_labels(tmp_path: Path) -> None:
    predictions, path = predictions_of(80, seed=4, first_seq=100), tmp_path / "bouts.csv"
    write_bouts(predictions, path, fps=25.0)
    again = np.full((80, 2), -1)
    for row in rows_of(path):
        h = [head.name for head in HEADS].index(row["head"])
        first, last = int(row["first_seq"]) - 100, int(row["last_seq"]) - 100
        assert (again[first : last + 1, h] == -1).all()
        again[first : last + 1, h] = HEADS[h].classes.index(row["behaviour"])
        assert float(row["start_s"]) == pytest.approx((first + 100) / 25, abs=5e-4)
        assert float(row["duration_s"]) == pytest.approx((last - first + 1) / 25, abs=5e-4)
    assert (again == predictions.labels).all()


def test_a_bout_written_out(tmp_path: Path) -> None:
    labels = np.array([[0, 0], [0, 1], [2, 1]], np.int16)
    sure = np.zeros((3, 2), np.bool_)
    probs = np.zeros((3, 5), np.float32)
    predictions = Predictions(HEADS, np.arange(3, dtype=np.int64), probs, labels, np.zeros(3, np.int32), sure)
    write_bouts(predictions, tmp_path / "b.csv", fps=30.0)
    assert (tmp_path / "b.csv").read_text(encoding="utf-8").splitlines() == [
        "head,behaviour,first_seq,last_seq,start_s,duration_s,start_t_source_ns",
        "task1,attack,0,1,0.000,0.067,0",
        "task1,other,2,2,0.067,0.033,66666667",
        "face,other,0,0,0.000,0.033,0",
        "face,sniff_face,1,2,0.033,0.067,33333333",
    ]


def test_a_stream_without_answers(tmp_path: Path) -> None:
    empty = Predictions.collect(HEADS, [])
    assert len(empty) == 0
    assert empty.probs.shape == (0, 5)
    assert empty.labels.shape == empty.unsure.shape == (0, 2)
    write_predictions(empty, tmp_path / "p.csv", 30.0)
    write_bouts(empty, tmp_path / "b.csv", 30.0)
    assert rows_of(tmp_path / "p.csv") == rows_of(tmp_path / "b.csv") == []


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions(predictions_of(50), path, 30.0)
    write_predictions(predictions_of(3), path, 30.0)
    assert len(rows_of(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]


def test_collecting_and_looking_up_a_head() -> None:
    table = predictions_of(6)
    events = np.zeros(table.labels.shape, np.bool_)
    events[2, 1] = True
    answers = PredictionBatch(table.probs, table.labels, events, table.unsure, np.arange(6, dtype=np.int32), HEADS)
    single = [
        Prediction("s", int(seq), 0, int(quality), answers, row)
        for row, (seq, quality) in enumerate(zip(table.seq, table.quality, strict=True))
    ]
    for row, alone in enumerate(single):
        assert alone.outputs.tobytes() == table.probs[row].tobytes()
        assert b"".join(p.tobytes() for p in alone.probs.values()) == table.probs[row].tobytes()
        assert alone.labels.tolist() == table.labels[row].tolist()
        assert alone.events.tolist() == [False, row == 2]
        assert alone.abstains.tolist() == table.unsure[row].tolist()
        assert alone.unsure == tuple(h.name for h, doubts in zip(HEADS, table.unsure[row], strict=True) if doubts)
        assert alone.label == {h.name: h.classes[i] for h, i in zip(HEADS, table.labels[row], strict=True)}
        assert alone.event == ({HEADS[1].name: alone.label[HEADS[1].name]} if row == 2 else {})
    again = Predictions.collect(HEADS, iter(single))
    for part in ("seq", "probs", "labels", "quality", "unsure"):
        assert getattr(again, part).tobytes() == getattr(table, part).tobytes()
        assert getattr(again, part).dtype == getattr(table, part).dtype
    assert again.missing is not None
    assert again.missing.tolist() == list(range(6))
    assert again.of("task1").tobytes() == np.ascontiguousarray(table.probs[:, :3]).tobytes()
    assert again.of("face").shape == (6, 2)
    with pytest.raises(KeyError, match="task1, face"):
        again.of("back")


def test_quality_flags_are_single_bits_that_the_wire_may_rely_on() -> None:
    assert [(f.name, f.value) for f in Quality] == [
        ("WARMING_UP", 1),
        ("GAP_FILLED", 2),
        ("RESET", 4),
        ("MISSING_POINTS", 8),
        ("LOW_CONFIDENCE", 16),
        ("IDENTITY_JUMP", 32),
        ("LATE", 64),
        ("UNSURE", 128),
        ("OUT_OF_RANGE", 256),
        ("FROZEN", 512),
    ]
