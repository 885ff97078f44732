"""Event logs of The Observer XT and EthoVision XT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.labels.label_file import Tracks
from rtseg.recordings.open import read_labels
from tests.recordings.labels.test_workbook import save

OBSERVER = """Observation,Time_Relative_hms,Time_Relative_sf,Duration_sf,Subject,Behavior,Modifier_1,Event_Type
m1,0:00:00,0.5,1.0,rat,sniff,,State start
m1,0:00:01,1.5,0,rat,sniff,,State stop
m1,0:00:02,2,0,rat,bite,,Point
"""
SCORING = """"Number of header lines:";"5"
"Video file";"C:\\videos\\m1.mp4"
"Subject name";"rat"
"Trial time";"Recording time";"Behavior";"Event"
"s";"s";"";""
"0.500";"0.500";"sniff";"state start"
"1.500";"1.500";"sniff";"state stop"
"2.000";"2.000";"bite";"point event"
"""


def read(tmp_path: Path, text: str, name: str = "log.txt", encoding: str = "utf-16") -> Tracks:
    (tmp_path / name).write_text(text, encoding=encoding)
    return read_labels(tmp_path / name, 30, 10.0, names=("m1.csv",))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
@pytest.mark.parametrize("text", [OBSERVER, OBSERVER.replace(",", ";"), OBSERVER.replace(",", "\t"), SCORING])
def test_states_and_points(tmp_path: Path, text: str, encoding: str) -> None:
    tracks = read(tmp_path, text, encoding=encoding)
    assert list(tracks) == ["rat", "rat:sniff", "rat:bite"]
    assert np.flatnonzero(tracks["rat"].frames == 0).tolist() == list(range(5, 15))
    assert np.flatnonzero(tracks["rat:bite"].frames == 0).tolist() == [20]
    assert tracks.lists_events


def test_a_sheet_of_such_a_log(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    rows = [[float(c) if c.replace(".", "").isdecimal() else c for c in r.split(",")] for r in OBSERVER.splitlines()]
    tracks = read_labels(save(tmp_path / "log.xlsx", [["made by", "AB"]], rows), 30, 10.0, names=("m1.csv",))
    assert np.flatnonzero(tracks["rat:sniff"].frames == 0).tolist() == list(range(5, 15))


def test_of_several_observations_the_videos_own(tmp_path: Path) -> None:
    both = OBSERVER + "m2,0:00:00,0.1,0,rat,rear,,Point\n"
    assert list(read(tmp_path, both)) == ["rat", "rat:sniff", "rat:bite"]
    with pytest.raises(RecordingError, match="holds 2 observations and nothing in it is named like"):
        read(tmp_path, both.replace("m1,", "m3,"))
    other = read(tmp_path, SCORING.replace("m1.mp4", "m7.mp4"))["rat"]
    assert any("nor its video file is named like the poses" in warning for warning in other.warnings)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (OBSERVER.replace("State stop", "State pause"), 3, "expected a behaviour with State start, .*'State pause'"),
        (
            OBSERVER.replace("m1,0:00:01,1.5,0,rat,sniff,,State stop\n", ""),
            2,
            "never stops; add the STOP in Noldus",
        ),
        (OBSERVER.replace(",0.5,", ",-0.5,"), 2, "lies at -0.5 s, before the observation's start"),
        (SCORING.replace('"0.500";"0.500"', '"0.500";"3.500"'), 6, "trial time 0.5 s and recording time 3.5 s differ"),
        (
            SCORING.replace('"s";"s"', '"min";"min"'),
            5,
            "expected times in s below their names, got 'min'; choose seconds",
        ),
        (OBSERVER.replace("0.5,1.0,rat,sniff", "0.5,1.0,rat,"), 2, "expected a behaviour with State start"),
        (OBSERVER.replace(",0,rat,bite", ",0,rat,bite,extra"), 4, "expected 8 columns, got 9"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(RecordingError, match=words) as error:
        read(tmp_path, text)
    assert error.value.line == line


def test_several_event_logs_of_one_observation_are_told(tmp_path: Path) -> None:
    """Two observers may have logged the same video: together they would be more than happened."""
    for second, is_told in (("a", False), ("b", True)):
        lines = OBSERVER.splitlines()
        rows = [
            f"{lines[0]},Event_Log",
            *(f"{line},a" for line in lines[1:]),
            f"m1,0:00:02,2.5,0,rat,bite,,Point,{second}",
        ]
        kinds = [w.kind for w in read(tmp_path, "\n".join(rows) + "\n")["rat"].warnings]
        assert any("several event logs" in kind for kind in kinds) is is_told
