"""Many files annotated: errors that end nothing, what is done already, and the same bits from several processes."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from rtseg.annotation.many import Outcome, annotate_files
from rtseg.errors import RtsegError, SkeletonError
from rtseg.inference.annotate import Annotated, Reading, Skipped, plan_sources
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.naming import NameMap
from rtseg.simulate.tasks import simulate_sequence
from tests.commands import here
from tests.recordings.writers import write_dlc

STRANGERS = "frame,a.nose.x,a.nose.y,b.nose.x,b.nose.y\n0,1,2,3,4\n1,1,2,3,4\n"


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


@pytest.fixture
def poses(tmp_path: Path) -> Path:
    """cage1/m1.csv, cage1/m2.csv and cage2/m1.csv, whose animals are called otherwise; and cage2/cut.csv."""
    for number, path in enumerate(("cage1/m1.csv", "cage1/m2.csv", "cage2/m1.csv")):
        recording = simulate_sequence(number, 40)[0]
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        animals = ("mouse1", "mouse2") if number == 2 else recording.skeleton.animals
        write_dlc(file, recording.keypoints, recording.confidence, animals, recording.skeleton.keypoints)
    text = (tmp_path / "cage1/m1.csv").read_text()
    (tmp_path / "cage2/cut.csv").write_text(text[: len(text) // 2])
    return tmp_path


def run(classifier: Classifier, paths: list[Path], out: Path, existing: str = "refuse", **more: bool) -> list[Outcome]:
    sources = plan_sources(paths, out)
    return list(annotate_files(lambda: classifier, sources, Reading(), existing, **more))


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")}


def test_an_error_ends_one_file_only(classifier: Classifier, poses: Path, tmp_path: Path) -> None:
    paths = sorted(poses.glob("cage*/*.csv"))
    (poses / "cage1/stranger.csv").write_text(STRANGERS)
    paths += [poses / "cage1/stranger.csv", poses / "cage1/absent.csv"]
    outcomes = run(classifier, paths, tmp_path / "out", keep_going=True)
    errors = {o.source.path.name: str(o.error) for o in outcomes if o.error}
    assert set(errors) == {"cut.csv", "stranger.csv", "absent.csv"}
    assert "the file was cut here; copy it again" in errors["cut.csv"]
    assert errors["stranger.csv"].startswith(f"{poses / 'cage1/stranger.csv'}: ")
    expected = {f"{place}.{end}.csv" for place in ("cage1/m1", "m2", "cage2/m1") for end in ("predictions", "bouts")}
    assert names_in(tmp_path / "out") == expected
    # The slot of a refused recording is free again, and without keep_going it is the last one.
    with pytest.raises(RtsegError, match=r"cut\.csv"):
        run(classifier, [poses / "cage2/cut.csv", poses / "cage1/m2.csv"], tmp_path / "stopped")
    assert names_in(tmp_path / "stopped") == set()
    with pytest.raises(SkeletonError):
        run(classifier, [poses / "cage1/stranger.csv"], tmp_path / "stopped")


def test_only_what_is_known_to_be_the_same_is_skipped(
    classifier: Classifier, tiny_bundle: Path, poses: Path, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", poses / "cage1/m1.csv"
    (first,) = run(classifier, [path], out)
    assert isinstance(first.done[0], Annotated)
    frames, bouts = first.done[0].frames_file, first.done[0].bouts_file
    before = frames.read_bytes()
    (again,) = run(classifier, [path], out, "skip")
    assert again.done == (Skipped("m1", frames, bouts),)
    # A run that was killed before the bouts were there is done anew.
    bouts.unlink()
    frames.write_text("half")
    (redone,) = run(classifier, [path], out, "skip")
    assert isinstance(redone.done[0], Annotated)
    assert frames.read_bytes() == before
    # Another file of the same name, another model, another option, and files that nobody vouches for are not skipped.
    other = poses / "cage2/m1.csv"
    for words, action in (
        ("differs in bytes, modified_ns, fps", lambda: list(annotate_files(
            lambda: classifier, plan_sources([other], out), Reading(fps=30.0), "skip"))),
        ("differs in identity", lambda: list(annotate_files(
            partial(load, tiny_bundle, identity="swap"), plan_sources([path], out), Reading(), "skip"))),
    ):  # fmt: skip
        with pytest.raises(RtsegError, match=words):
            action()
    os.utime(path, ns=(1, 1))
    with pytest.raises(RtsegError, match="differs in modified_ns"):
        run(classifier, [path], out, "skip")
    (out / "m1.annotation.json").unlink()
    with pytest.raises(RtsegError, match=r"has no m1\.annotation\.json beside it"):
        run(classifier, [path], out, "skip")
    assert frames.read_bytes() == before
    (replaced,) = run(classifier, [other], out, "overwrite")
    assert isinstance(replaced.done[0], Annotated)
    assert json.loads((out / "m1.annotation.json").read_text())["bytes"] == other.stat().st_size


def test_an_interrupted_replacement_is_never_taken_for_done(
    classifier: Classifier, poses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, path, other = tmp_path / "out", poses / "cage1/m1.csv", poses / "cage2/m1.csv"
    run(classifier, [path], out)
    for stopped_at in ("write_predictions", "write_bouts"):
        with monkeypatch.context() as patch:
            patch.setattr(f"rtseg.inference.annotate.{stopped_at}", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                run(classifier, [other], out, "overwrite")
        (done,) = run(classifier, [other], out, "skip")
        assert isinstance(done.done[0], Annotated)
        (done,) = run(classifier, [other], out, "skip")
        assert isinstance(done.done[0], Skipped)
        run(classifier, [path], out, "overwrite")


def test_two_processes_write_the_same_bytes(tiny_bundle: Path, poses: Path, tmp_path: Path) -> None:
    """As a user calls it: a file that fails among three, names that differ, and all of it again without work."""
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["--keep-going", "--fps", "30"]
    files = sorted(poses.glob("cage*/*.csv"))
    done = [here("annotate", tiny_bundle, *files, "--out", one, *options)]
    done += [here("annotate", tiny_bundle, *files, "--out", two, "--workers", 2, *options)]
    for run_ in done:
        assert run_.returncode == 1
        assert "1 of 4 files failed:\n" in run_.stderr
        assert f"  {poses / 'cage2/cut.csv'}, line " in run_.stderr
        assert len(run_.stdout.splitlines()) == 3
    assert names_in(one) == names_in(two)
    for name in names_in(one):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    again = here("annotate", tiny_bundle, *files, "--out", two, "--skip-existing", *options)
    assert (again.returncode, again.stdout) == (1, "")
    assert "3 recordings were done already and are left out\n" in again.stderr
    assert here("annotate", tiny_bundle, *files, "--out", two, "--skip-existing", "--overwrite").returncode == 2


def test_names_of_a_command_are_those_of_the_dataset(
    classifier: Classifier, tiny_bundle: Path, poses: Path, tmp_path: Path
) -> None:
    bundle, path, file = tiny_bundle, poses / "cage2/m1.csv", tmp_path / "names.toml"
    swapped = NameMap(animals={"mouse1": "intruder", "mouse2": "resident"})
    (truth,) = annotate_files(lambda: classifier, plan_sources([path], tmp_path / "a"), Reading(names=swapped))
    options = ["--animal", "mouse1=intruder", "--animal", "mouse2=resident"]
    assert here("annotate", bundle, path, "--out", tmp_path / "b", *options).returncode == 0
    file.write_text('animals = { mouse1 = "intruder", mouse2 = "resident" }\n')
    assert here("annotate", bundle, path, "--out", tmp_path / "c", "--names", file).returncode == 0
    assert here("annotate", bundle, path, "--out", tmp_path / "d").returncode == 0
    written = [(tmp_path / folder / "m1.predictions.csv").read_bytes() for folder in "abcd"]
    assert written[0] == written[1] == written[2] != written[3]
    assert isinstance(truth.done[0], Annotated)
    assert np.isfinite(truth.done[0].predictions.probs).all()
    wrong = here("annotate", bundle, path, "--out", tmp_path / "e", "--animal", "mouse3=resident")
    assert wrong.returncode == 3
    assert f"{path}: animals to rename: the source has no 'mouse3'; it has: mouse1, mouse2" in wrong.stderr
    assert here("annotate", bundle, path, "--out", tmp_path / "e", "--names", file, *options).returncode == 2
