"""Annotation: files that read back to the very float32 of `Classifier.run`, and nothing written over or by mistake."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.bundle.bundle import load_bundle
from rtseg.config import BodySettings
from rtseg.errors import RecordingError, RtsegError, SkeletonError
from rtseg.features.scale import fit_body_size
from rtseg.inference.annotate import Source, annotate, plan_sources
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.calms21 import write_calms21
from rtseg.recordings.open import read_recordings
from rtseg.simulate.tasks import simulate_sequence

HEAD_COLUMNS = ["task1", "task1.attack", "task1.investigation", "task1.mount", "task1.other"]


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences in one file, of 400 and 150 frames."""
    path = tmp_path_factory.mktemp("poses") / "two.json"
    pairs = [simulate_sequence(seed, n, name=f"mice/{seed}") for seed, n in ((1, 400), (2, 150))]
    write_calms21(path, {"annotator-id_0": pairs})
    return path


def test_what_is_written_reads_back_to_the_same_bits(classifier: Classifier, poses: Path, tmp_path: Path) -> None:
    done = list(annotate(classifier, [poses], tmp_path / "out"))
    assert [(d.name, len(d.predictions)) for d in done] == [("mice/1", 400), ("mice/2", 150)]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"mice_{n}.{kind}" for n in (1, 2) for kind in ("predictions.csv", "bouts.csv", "annotation.json")
    }
    for recording, one in zip(read_recordings(poses), done, strict=True):
        truth = classifier.run(recording)
        with one.frames_file.open(newline="") as file:
            header, *rows = csv.reader(file)
        assert header[:10] == ["seq", "time_s", "t_source_ns", "quality", "quality_words", *HEAD_COLUMNS]
        assert header[10:] == ["sniff_face", "sniff_face.other", "sniff_face.sniff_face", "unsure"]
        assert {row[-1] for row in rows} == {""}
        columns = [i for i, name in enumerate(header) if "." in name]
        probs = np.array([[np.float32(row[i]) for i in columns] for row in rows], np.float32)
        assert probs.tobytes() == truth.probs.tobytes()
        assert [int(row[0]) for row in rows] == truth.seq.tolist()
        assert [int(row[3]) for row in rows] == truth.quality.tolist()
        for h, head in enumerate(truth.heads):
            written = [row[header.index(head.name)] for row in rows]
            assert written == [head.classes[label] for label in truth.labels[:, h]]


def test_a_tracker_that_froze_is_a_warning_with_a_count(classifier: Classifier, tmp_path: Path) -> None:
    recording, labels = simulate_sequence(3, 200, name="froze")
    recording.keypoints[100:180] = recording.keypoints[99]
    write_calms21(tmp_path / "froze.json", {"annotator-id_0": [(recording, labels)]})
    (one,) = annotate(classifier, [tmp_path / "froze.json"], tmp_path / "out")
    assert [w for w in one.warnings if "repeats one frame" in w and "(21 frames)" in w]


def test_bouts_are_those_of_the_decoded_labels(classifier: Classifier, poses: Path, tmp_path: Path) -> None:
    one = next(iter(annotate(classifier, [poses], tmp_path)))
    with one.bouts_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [
        (head.name, head.classes[bout.label], bout.start, bout.stop - 1)
        for h, head in enumerate(one.predictions.heads)
        for bout in bouts_of(one.predictions.labels[:, h])
    ]
    assert [(r["head"], r["behaviour"], int(r["first_seq"]), int(r["last_seq"])) for r in rows] == wanted
    for head in ("task1", "sniff_face"):
        seconds = sum(float(r["duration_s"]) for r in rows if r["head"] == head)
        assert seconds == pytest.approx(400 / 30, abs=1e-3 * len(rows))


def test_files_that_exist_stay_unless_told_otherwise(classifier: Classifier, poses: Path, tmp_path: Path) -> None:
    for done in annotate(classifier, [poses], tmp_path):
        before = done.frames_file.read_bytes()
    # A bouts file alone is in the way as well.
    done.frames_file.unlink()
    mine = tmp_path / "mice_1.predictions.csv"
    mine.write_text("mine")
    with pytest.raises(RtsegError, match="exists already; name another folder with --out, or add --overwrite"):
        list(annotate(classifier, [poses], tmp_path))
    assert mine.read_text() == "mine"
    list(annotate(classifier, [poses], tmp_path, overwrite=True))
    assert mine.read_text() != "mine"
    assert done.frames_file.read_bytes() == before


def test_files_of_one_name_go_into_different_folders(classifier: Classifier, poses: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "two.json"
    other.parent.mkdir()
    other.write_bytes(poses.read_bytes())
    done = list(annotate(classifier, [poses, other, other], tmp_path / "out"))
    places = [one.frames_file.relative_to(tmp_path / "out").as_posix() for one in done]
    assert places == [f"{folder}/two/mice_{n}.predictions.csv" for folder in (poses.parent.name, "other") for n in "12"]


def test_names_that_differ_in_nothing_a_file_may_have_are_numbered(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "three.json"
    pairs = [simulate_sequence(i, 30, name=name) for i, name in enumerate(("mice/1", "mice_1", "Mice_1"))]
    write_calms21(path, {"annotator-id_0": pairs})
    done = list(annotate(classifier, [path], tmp_path / "out", overwrite=True))
    assert [one.name for one in done] == ["mice/1", "mice_1", "Mice_1"]
    assert [one.frames_file.name.partition(".")[0] for one in done] == ["mice_1", "mice_1-2", "Mice_1-3"]
    assert len({one.frames_file.read_bytes() for one in done}) == 3


def place(source: Source, out: Path) -> str:
    return (source.folder / (source.stem or "*")).relative_to(out).as_posix()


@pytest.mark.parametrize(
    ("paths", "places"),
    [
        (["a/m1.csv"], ["m1"]),
        (["a/m1.csv", "b/m2.csv"], ["m1", "m2"]),
        (["a/m1.csv", "b/m1.csv", "b/m2.csv"], ["a/m1", "b/m1", "m2"]),
        (["a/x/m1.csv", "b/x/m1.csv"], ["a/x/m1", "b/x/m1"]),
        (["a/m1.csv", "a/m1.h5"], ["m1.csv", "m1.h5"]),
        (["a/m1.csv", "a/m1.h5", "b/m1.csv"], ["m1.csv", "m1.h5", "m1"]),
        (["a/M1.csv", "b/m1.csv"], ["a/M1", "b/m1"]),
        (["a/run.mcap"], ["*"]),
        (["a/run1.mcap", "a/run2.mcap", "a/m1.csv"], ["run1/*", "run2/*", "m1"]),
        (["a/m1.csv", "b/m1.csv", "c/a.mcap"], ["a/m1", "b/m1", "a-2/*"]),
        (["a/m1.csv", "a/../a/m1.csv"], ["m1"]),
    ],
)
def test_answers_are_named_by_their_files_and_by_folders_where_names_repeat(
    tmp_path: Path, paths: list[str], places: list[str]
) -> None:
    sources = plan_sources([tmp_path / path for path in paths], tmp_path / "out")
    assert [place(source, tmp_path / "out") for source in sources] == places


@given(st.lists(st.from_regex(r"(a|b|A)/(x/)?(m1|m2|M1|a|x)\.(csv|h5|mcap)", fullmatch=True), unique=True))
def test_no_two_files_have_one_place(paths: list[str]) -> None:
    sources = plan_sources([Path("/poses") / path for path in paths], Path("/out"))
    assert [source.path for source in sources] == [Path("/poses") / path for path in paths]
    places = [place(source, Path("/out")).casefold() for source in sources]
    assert len(set(places)) == len(places)
    folders = {p.removesuffix("/*") for p in places if p.endswith("/*")}
    assert not {p.rpartition("/")[0] for p in places if not p.endswith("/*")} & folders


def test_recordings_that_do_not_fit(classifier: Classifier, poses: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    strangers = tmp_path / "strangers.csv"
    strangers.write_text("frame,a.nose.x,a.nose.y,b.nose.x,b.nose.y\n0,1,2,3,4\n1,1,2,3,4\n")
    with pytest.raises(
        RtsegError, match=r"strangers.csv: 25 frames per second; the model was trained at 30\. .* --fps"
    ):
        list(annotate(classifier, [strangers], out, fps=25.0))
    with pytest.raises(SkeletonError, match="without a counterpart"):
        list(annotate(classifier, [strangers], out))
    with pytest.raises(RecordingError, match="cannot be read"):
        list(annotate(classifier, [tmp_path / "nothing.csv"], out))
    assert list(out.iterdir()) == []
    # The slot of a refused recording is free again.
    for _ in range(classifier.pool.capacity + 1):
        with pytest.raises(SkeletonError):
            list(annotate(classifier, [strangers], out))
    assert len(list(annotate(classifier, [poses], out))) == 2


def test_the_share_out_of_range_and_another_size_are_told(tiny_bundle: Path, poses: Path, tmp_path: Path) -> None:
    made, first = load_bundle(tiny_bundle), next(read_recordings(poses))
    size = fit_body_size([first.keypoints], made.skeleton, made.fps, BodySettings(frames=20))
    knowing = Classifier(replace(made, body_size=size, px_per_mm=2.0))
    (one, _) = annotate(knowing, [poses], tmp_path / "own")
    assert (one.size_warnings, one.describe_range()) == ((), "; 0.0 % of frames out of range")
    (one, _) = annotate(knowing, [poses], tmp_path / "half", px_per_mm=4.0)
    # From a third of the 20 frames on.
    assert one.describe_range() == f"; {100 * (1 - 6 / 400):.1f} % of frames out of range"
    assert one.size_warnings[0].startswith("animals appear 0.50 x as large as in training")
    (plain, _) = annotate(Classifier(made), [poses], tmp_path / "unknown")
    assert (plain.size_warnings, plain.describe_range()) == ((), "")


def test_links_have_answers_of_their_own_under_their_names(tmp_path: Path) -> None:
    """As in an archive that keeps all files elsewhere, under names that say nothing."""
    for name in ("store/4f2.csv", "a/m1.csv", "b/m1.csv", "b/m2.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch() if "store" in name else path.symlink_to(tmp_path / "store/4f2.csv")
    paths = [tmp_path / name for name in ("a/m1.csv", "b/m1.csv", "b/m2.csv", "b/../a/m1.csv")]
    sources = plan_sources(paths, tmp_path / "out")
    places = [(source.folder.relative_to(tmp_path).as_posix(), source.stem) for source in sources]
    assert sorted(places) == [("out", "m2"), ("out/a", "m1"), ("out/b", "m1")]
