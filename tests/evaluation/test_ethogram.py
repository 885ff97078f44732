"""The picture: its size, truth above prediction in the class's colour; and `Predictions.of`, which it draws from."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.evaluation.ethogram import draw_ethogram
from rtseg.inference.predictions import Predictions
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE

HEADS = (
    Head("task1", ("attack", "investigation", "mount", "other"), ("attack", "investigation", "mount"), "task1"),
    Head("sniff_face", ("other", "sniff_face"), ("sniff_face",), "task3"),
)
ATTACK, INVESTIGATION, MOUNT, REST = (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73), (0xE6, 0xE6, 0xE6)
WIDE_PX = 200
"""A bar of a second or more is wider; no curve and no key of the legend is."""


def answers(labels: list[int]) -> Predictions:
    """Answers of both heads that are sure of these Task 1 labels."""
    task1 = np.eye(4, dtype=np.float32)[labels] * 0.8 + 0.05
    sniff = np.tile(np.float32([0.7, 0.3]), (len(labels), 1))
    both = np.stack([np.array(labels), np.zeros(len(labels))], axis=1).astype(np.int16)
    n = len(labels)
    return Predictions(
        HEADS, np.arange(n), np.hstack([task1, sniff]), both, np.zeros(n, np.int32), np.zeros((n, 2), bool)
    )


def bars(path: Path, color: tuple[int, int, int]) -> NDArray[np.intp]:
    """The rows of the picture that hold a wide stretch of exactly this colour."""
    from matplotlib.image import imread

    pixels = np.round(imread(path)[:, :, :3] * 255).astype(int)
    return np.flatnonzero((pixels == color).all(-1).sum(axis=1) > WIDE_PX)


def test_truth_stands_above_prediction(tmp_path: Path) -> None:
    path = tmp_path / "ethogram.png"
    truth = np.array([0] * 60 + [3] * 60, np.int16)
    draw_ethogram(answers([2] * 60 + [1] * 60), "task1", path, fps=30.0, truth=truth, title="two mice")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (1440, 432)
    attack, rest, mount, investigation = (bars(path, color) for color in (ATTACK, REST, MOUNT, INVESTIGATION))
    assert len(attack) == len(rest) > 20
    assert len(mount) == len(investigation) > 20
    assert attack.max() < mount.min()
    assert (attack == rest).all()
    assert (mount == investigation).all()


def test_it_is_drawn_without_truth_and_with_masked_frames(tmp_path: Path) -> None:
    predictions = answers([1] * 90)
    draw_ethogram(predictions, "task1", tmp_path / "alone.png", fps=30.0)
    assert len(bars(tmp_path / "alone.png", INVESTIGATION)) > 20
    draw_ethogram(predictions, "task1", tmp_path / "masked.png", fps=30.0, truth=np.full(90, IGNORE, np.int16))
    alone, masked = (bars(tmp_path / f"{name}.png", INVESTIGATION) for name in ("alone", "masked"))
    assert len(bars(tmp_path / "masked.png", REST)) == 0
    assert masked.min() > alone.min()  # the empty row of truth is above


@pytest.mark.parametrize("n", [0, 1])
def test_a_recording_of_few_frames_is_drawn(tmp_path: Path, n: int) -> None:
    draw_ethogram(answers([2] * n), "sniff_face", tmp_path / "some.svg", fps=30.0)
    assert "<svg" in (tmp_path / "some.svg").read_text()


def test_of_gives_a_heads_own_columns() -> None:
    predictions = answers([0, 2])
    np.testing.assert_array_equal(predictions.of("task1"), predictions.probs[:, :4])
    np.testing.assert_array_equal(predictions.of("sniff_face"), predictions.probs[:, 4:])
    assert predictions.of("sniff_face").shape == (2, 2)
    with pytest.raises(KeyError, match="no head 'mount'; there are: task1, sniff_face"):
        predictions.of("mount")
    with pytest.raises(KeyError, match="no head 'mount'"):
        draw_ethogram(predictions, "mount", Path("never.png"), fps=30.0)
    assert not Path("never.png").exists()
