"""Files of known programs that are not read are called by their name, with the way out, wherever they are brought."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.open import find_label_reader, find_pose_reader, read_recordings
from tests.commands import here

TRACK = '"Number of header lines:";"2"\n"Trial time";"Area";"Velocity"\n"0.000";"-";"1.2"\n'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.txt", TRACK.encode("utf-16"), "is EthoVision's track or another export, .*scoring log"),
        ("t.csv", TRACK.encode("cp1252"), "is EthoVision's track"),
        ("v.csv", b"# CSV_HEADER = metadata_id,file_list,flags\n1,a,0\n", "is VIA's list"),
        ("scores.mat", b"MATLAB 5.0 MAT-file" + bytes(9), "is MATLAB's"),
        ("a.TextGrid", b'File type = "ooTextFile"\n', "is Praat's TextGrid"),
        ("a.txt", b'<?xml version="1.0"?>\n<annotations/>\n', "is XML of a program that is not read"),
        ("a.npz", b"PK\3\4", "TRex, idtracker.ai, .* write the points as plain CSV"),
        ("a.trk", b"MATLAB 5.0 MAT-file" + bytes(9), "is APT's, .* write the points as plain CSV"),
        ("a.csv.gz", b"\x1f\x8b", "is packed; unpack it"),
        ("a.ods", b"PK\3\4", "a workbook of a kind that is not read; save it as .xlsx"),
        ("a.pickle", b"\x80\x04", "is a pickle, which can run any code"),
        ("a.mp4", bytes(9), "is a video"),
    ],
)
def test_it_is_named_with_the_way_out(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for find in (find_label_reader, find_pose_reader):
        with pytest.raises(RecordingError, match=words):
            find(path)
    done = here("inspect", path)
    assert done.returncode == 1
    assert words.partition(",")[0].partition(":")[0] in " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("openpose.json", '{"version": 1.3, "people": [{"pose_keypoints_2d": [1, 2, 0.9]}]}'),
        ("coco.json", '{"images": [{"id": 1}], "annotations": [{"id": 1, "keypoints": [1, 2, 2]}]}'),
        ("mmpose.json", '[{"frame_id": 0, "instances": [{"keypoints": [[1, 2]]}]}]'),
        ("mars.json", '{"keypoints": [[[[1, 2]]]], "scores": [[[1]]]}'),
        ("plain.csv", "frame,x,y\n0,1,2\n"),
        ("yolo.txt", "0 0.5 0.5 0.2 0.2\n"),
        ("notes.doc", "nothing"),
    ],
)
def test_the_way_out_for_poses_is_named_whatever_the_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordingError, match="write the points as plain CSV"):
        list(read_recordings(tmp_path / name))
