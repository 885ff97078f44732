"""CalMS21's JSON: the official layout of all three tasks, what is not it, and that a big file stays on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import MICE7
from rtseg.recordings import calms21
from rtseg.recordings.calms21 import index_calms21, read_calms21, write_calms21
from rtseg.recordings.recording import IGNORE, Labels, Recording, clean

TASK1 = {"attack": 0, "investigation": 1, "mount": 2, "other": 3}


def official(n_frames: int = 5, **changes: Any) -> dict[str, Any]:
    """One sequence as plain JSON values; keypoints (T, mouse, x and y, keypoint) count up from 0."""
    plain: dict[str, Any] = {
        "keypoints": np.arange(n_frames * 28.0).reshape(n_frames, 2, 2, 7).tolist(),
        "scores": np.full((n_frames, 2, 7), 0.5).tolist(),
        "annotations": [t % 4 for t in range(n_frames)],
        "metadata": {"annotator-id": 0, "vocab": TASK1},
    }
    plain.update(changes)
    return {key: value for key, value in plain.items() if value is not None}


def write(tmp_path: Path, groups: object) -> Path:
    path = tmp_path / "calms21_task1_train.json"
    path.write_text(groups if isinstance(groups, str) else json.dumps(groups))
    return path


def test_the_official_layout_of_task_1(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"annotator-id_0": {"task1/train/mouse001": official(), "task1/train/mouse002": official(3)}}
    )
    assert index_calms21(path) == [
        ("annotator-id_0", "task1/train/mouse001"),
        ("annotator-id_0", "task1/train/mouse002"),
    ]
    first, second = read_calms21(path)
    assert (first.group, first.recording.name) == ("annotator-id_0", "task1/train/mouse001")
    assert first.recording.skeleton == MICE7
    assert (first.recording.fps, first.recording.simulated) == (30, False)
    assert first.recording.keypoints.dtype == np.float32
    # Frame 2, intruder, keypoint 3: x lies at 2 * 28 + 14 + 3, y seven places further.
    assert first.recording.keypoints[2, 1, 3].tolist() == [73, 80]
    assert (first.recording.confidence == 0.5).all()
    assert first.labels is not None
    assert (first.labels.track, first.labels.classes) == ("annotator-id_0", tuple(TASK1))
    assert first.labels.frames.tolist() == [0, 1, 2, 3, 0]
    assert len(second.recording) == 3


@pytest.mark.parametrize(
    ("vocab", "classes", "frames"),
    [
        (TASK1, ("attack", "investigation", "mount", "other"), [0, 1, 1]),
        (["approach", "other"], ("approach", "other"), [0, 1, 1]),
        ({"other": 1, "approach": 0}, ("approach", "other"), [0, 1, 1]),
        ({"approach": 1, "other": 0}, ("other", "approach"), [0, 1, 1]),
        ({"other": 1, "groom": 0, "rear": 7}, ("groom", "other", "rear"), [0, 1, 1]),
    ],
)
def test_vocabs_of_all_tasks(tmp_path: Path, vocab: object, classes: tuple[str, ...], frames: list[int]) -> None:
    path = write(tmp_path, {"approach": {"s": official(3, annotations=[0, 1, 1], metadata={"vocab": vocab})}})
    (sequence,) = read_calms21(path)
    assert sequence.labels is not None
    assert sequence.labels.classes == classes
    assert sequence.labels.frames.tolist() == frames


def test_several_groups(tmp_path: Path) -> None:
    path = write(tmp_path, {f"annotator-id_{i}": {"same": official(i), f"own{i}": official(2)} for i in (1, 2, 3)})
    chosen = ("annotator-id_3", "same")
    (one,) = read_calms21(path, wants=lambda *place: place == chosen)
    assert (one.group, len(one.recording)) == ("annotator-id_3", 3)
    same = [found.group for found in read_calms21(path) if found.recording.name == "same"]
    assert same == [f"annotator-id_{i}" for i in (1, 2, 3)]


def test_a_declined_sequence_is_not_parsed(tmp_path: Path) -> None:
    text = json.dumps({"g": {"good": official(), "bad": {"keypoints": ["?"]}}}).replace('["?"]', "[oops]")
    path = write(tmp_path, text)
    names = [s.recording.name for s in read_calms21(path, wants=lambda group, name: name == "good")]
    assert names == ["good"]
    with pytest.raises(RecordingError, match="sequence 'bad': is no JSON"):
        list(read_calms21(path))


def test_unlabelled_sequences_and_missing_points(tmp_path: Path) -> None:
    plain = official(2, annotations=None, metadata=None)
    plain["keypoints"][0][0][0][0] = None
    for x_or_y in (0, 1):
        plain["keypoints"][1][1][x_or_y][6] = 0
    plain["scores"][1][1][6] = 0
    (sequence,) = read_calms21(write(tmp_path, {"g": {"s": plain}}))
    assert sequence.labels is None
    missing = np.isnan(sequence.recording.keypoints).all(axis=-1)
    assert np.argwhere(missing).tolist() == [[0, 0, 0], [1, 1, 6]]
    assert (sequence.recording.confidence[missing] == 0).all()


@pytest.mark.parametrize(
    ("sequence", "words"),
    [
        (official(scores=None), "has no 'scores'"),
        (official(keypoints=np.zeros((5, 2, 7, 2)).tolist()), r"expected keypoints of shape (T, 2, 2, 7)"),
        (official(keypoints=[[1, 2], [3]]), "are no array of numbers"),
        (official(keypoints=[["a"]]), "are no array of numbers"),
        (official(keypoints=[]), "expected keypoints of shape"),
        (official(scores=np.zeros((4, 2, 7)).tolist()), "5 frames of keypoints and 4 of scores"),
        (official(annotations=[0, 1]), "expected 5 annotations, one per frame, got (2,)"),
        (official(annotations=[0, 1, 9, 9, 0]), "frame 2 (from 0) has the label 9, which the vocab does not name"),
        (official(metadata={}), "no metadata.vocab"),
        (official(metadata={"vocab": {"attack": 0, "other": 0}}), "different whole numbers"),
        (official(metadata={"vocab": {"attack": "zero"}}), "different whole numbers"),
        (official(metadata=[1]), "metadata must be an object"),
        (official(metadata={"fps": 25, "vocab": TASK1}), "was recorded at 25 fps, not 30"),
    ],
)
def test_mistakes_name_file_group_and_sequence(tmp_path: Path, sequence: dict[str, Any], words: str) -> None:
    path = write(tmp_path, {"annotator-id_0": {"mouse001": sequence}})
    with pytest.raises(RecordingError) as error:
        list(read_calms21(path, fps=30))
    assert words in str(error.value)
    assert f"{path}: group 'annotator-id_0', sequence 'mouse001'" in str(error.value)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"g": {"a": official(2), "b": official(2)}})
    for size in range(1, len(text), 7):
        path = write(tmp_path, text[:size])
        with pytest.raises(RecordingError, match="cut"):
            list(read_calms21(path))


def test_the_npy_form_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "calms21_task1_train.npy"
    np.save(path, np.array({"g": {"s": official()}}, dtype=object), allow_pickle=True)
    with pytest.raises(RecordingError, match="a pickle, which can run any code and is never opened; use the JSON"):
        list(read_calms21(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "expected CalMS21's JSON, an object"),
        ("{}", "holds no sequence"),
        ('{"a": 1}', "holds no sequence"),
        ("{{}}", "an object without a name"),
        ('{"a": {"s": {}, "s": {}}}', "'s' of group 'a' comes twice"),
        ("{}}", "a brace closes nothing"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecordingError) as error:
        index_calms21(write(tmp_path, text))
    assert words in str(error.value)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    odd = {'a"{b}\\': {"ü } {": official(1), "}": official(2, metadata={"vocab": TASK1, "note": '{"\\'})}}
    path = write(tmp_path, odd)
    monkeypatch.setattr(calms21, "_CHUNK_BYTES", chunk)
    assert index_calms21(path) == [('a"{b}\\', "ü } {"), ('a"{b}\\', "}")]
    assert [len(s.recording) for s in read_calms21(path)] == [1, 2]


COORDINATE = st.floats(-2000, 2000, width=32) | st.just(float("nan"))


@st.composite
def recordings(draw: st.DrawFn, name: str) -> tuple[Recording, Labels | None]:
    n_frames = draw(st.integers(1, 4))
    points = draw(hnp.arrays(np.float32, (n_frames, 2, 7, 2), elements=COORDINATE))
    scores = draw(hnp.arrays(np.float32, (n_frames, 2, 7), elements=st.floats(0.125, 1, width=32)))
    keypoints, confidence = clean(points, scores)
    recording = Recording(name, MICE7, keypoints, confidence, 30.0, simulated=draw(st.booleans()))
    if draw(st.booleans()):
        return recording, None
    frames = np.array(draw(st.lists(st.integers(0, 2), min_size=n_frames, max_size=n_frames)), np.int16)
    return recording, Labels("t", ("x", "y", "other"), frames)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.lists(st.text(max_size=5), min_size=1, max_size=3, unique=True))
def test_written_and_read_again(tmp_path: Path, data: st.DataObject, names: list[str]) -> None:
    groups = {f"g{name}": [data.draw(recordings(name))] for name in names}
    path = tmp_path / "round.json"
    write_calms21(path, groups)
    found = list(read_calms21(path))
    assert [s.group for s in found] == list(groups)
    for sequence, ((recording, labels),) in zip(found, groups.values(), strict=True):
        again = sequence.recording
        assert (again.name, again.fps, again.simulated) == (recording.name, recording.fps, recording.simulated)
        rounded = recording.keypoints.astype(np.float64).round(3).astype(np.float32)
        np.testing.assert_array_equal(again.keypoints, rounded)
        np.testing.assert_allclose(again.confidence, recording.confidence, atol=0.0005 + 1e-6)
        assert (sequence.labels is None) == (labels is None)
        if sequence.labels is not None and labels is not None:
            assert sequence.labels.classes == labels.classes
            np.testing.assert_array_equal(sequence.labels.frames, labels.frames)


def one(n_frames: int, label: int = 0) -> tuple[Recording, Labels]:
    points = np.random.default_rng(n_frames).uniform(0, 1000, (n_frames, 2, 7, 2)).astype(np.float32)
    recording = Recording("s", MICE7, points, np.full((n_frames, 2, 7), 0.9, np.float32), 30.0)
    return recording, Labels("t", ("x", "other"), np.full(n_frames, label, np.int16))


def test_a_failed_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_calms21(path, {"g": [one(3)]})
    before = path.read_bytes()
    with pytest.raises(RecordingError, match="without masked ones"):
        write_calms21(path, {"g": [one(4), one(4, label=IGNORE)]})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_only_calms21s_skeleton_is_written(tmp_path: Path, data_root: Path) -> None:
    from rtseg.recordings.open import read_recording

    foreign = read_recording(data_root / "formats/madlc_two_mice.csv")
    with pytest.raises(RecordingError, match="two mice of seven keypoints"):
        write_calms21(tmp_path / "out.json", {"g": [(foreign, None)]})


CHILD = """
import sys
from pathlib import Path
from rtseg.recordings.calms21 import read_calms21

def peak_kb():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))

one, many = sys.argv[1:]
list(read_calms21(one))  # what the first sequence costs, compiled code included
before = peak_kb()
frames = sum(len(s.recording) for s in read_calms21(many))
print(frames, peak_kb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux' /proc")
def test_sixty_megabytes_are_read_in_the_memory_of_one_sequence(tmp_path: Path) -> None:
    write_calms21(tmp_path / "one.json", {"g": [one(10_000)]})
    text = (tmp_path / "one.json").read_text()
    sequence = text[text.index('"s": ') + len('"s": ') : -len("}}\n")]
    path = tmp_path / "big.json"
    n_sequences = 60_000_000 // len(sequence) + 1
    with path.open("w") as file:
        for i in range(n_sequences):
            file.write((', "s{}": ' if i else '{{"g": {{"s{}": ').format(i) + sequence)
        file.write("}}")
    assert path.stat().st_size > 60_000_000
    child = [sys.executable, "-c", CHILD, str(tmp_path / "one.json"), str(path)]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    frames, grown_kb = map(int, done.stdout.split())
    assert frames == 10_000 * n_sequences
    assert grown_kb < 60_000, f"reading a file of 60 MB took {grown_kb} kB more"
