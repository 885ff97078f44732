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


def test_a_workbook_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"PK\3\4" + bytes(50))
    with pytest.raises(RecordingError, match="a workbook of a spreadsheet; save its sheet as CSV"):
        read_labels(path, 10, 30)
