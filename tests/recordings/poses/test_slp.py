"""SLEAP's .slp: the real file, instances with and without a track, and damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.poses.slp import read_slp


def test_the_real_file(data_root: Path) -> None:
    slp = read_slp(data_root / "formats/sleap_single_mouse.slp", fps=30)
    assert slp.keypoints.shape == (101, 1, 14, 2)
    assert slp.skeleton.animals == ("track_0",)
    np.testing.assert_allclose(slp.keypoints[0, 0, 0], [319.14166, 277.00745], rtol=1e-6)
    np.testing.assert_allclose(slp.confidence[0, 0, 0], 0.98784643, rtol=1e-6)


def test_a_cut_file_is_refused(data_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.slp"
    path.write_bytes((data_root / "formats/sleap_single_mouse.slp").read_bytes()[:3000])
    with pytest.raises(RecordingError, match="cut or damaged"):
        read_slp(path, fps=30)
