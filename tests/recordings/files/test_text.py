"""Text as lines: what holds none is refused, for poses and for labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.open import read_labels, read_recordings


@pytest.mark.parametrize("content", [b"\n", b"  \r\n\r\n", b"\xef\xbb\xbf\n", b"\t"])
def test_nothing_but_blank_lines_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"file\.csv.*(blank lines|is empty)"):
        list(read_recordings(path))
    with pytest.raises(RecordingError, match=r"file\.csv.*(blank lines|is empty)"):
        read_labels(path, 600, 30)
