"""What a trial leaves on disk: probabilities that come back exactly, and other files that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RtsegError
from rtseg.study.trials import SavedProbabilities, load_probabilities, output_columns, save_probabilities
from tests.training.scenes import HEADS

COLUMNS = output_columns(HEADS)


def test_probabilities_come_back_from_their_file_exactly(tmp_path: Path) -> None:
    probs = np.random.default_rng(3).random((60, len(COLUMNS))).astype(np.float32)
    probs[-2:] = np.nan
    saved = SavedProbabilities("a/1", COLUMNS, probs, ("b",))
    path = save_probabilities(saved, tmp_path / "new")
    assert path.name == "a_1.npz"
    back = load_probabilities(path)
    np.testing.assert_array_equal(back.probs, saved.probs)
    assert (back.recording, back.columns, back.seen) == (saved.recording, saved.columns, saved.seen)
    assert COLUMNS == ("near.far", "near.near", "speed.still", "speed.slow", "speed.fast", "fast.no", "fast.fast")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(RtsegError, match=r"x\.npz: not the probabilities of a trained system"):
        load_probabilities(path)


def test_columns_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    saved = SavedProbabilities("a", COLUMNS, np.zeros((5, 2), np.float32), ())
    with pytest.raises(RtsegError, match=r"7 columns are named, the probabilities are \(5, 2\)"):
        load_probabilities(save_probabilities(saved, tmp_path))
