"""Evaluation: what is scored is what `Classifier.run` answers, split by split, and only heads that mean the same."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.provenance import poses_hash
from rtseg.errors import RateError, SettingError
from rtseg.evaluation.bootstrap import bootstrap, interval_notes
from rtseg.evaluation.evaluate import compare_bundles, evaluate, manifest_scores, part_notes, without_nan
from rtseg.evaluation.metrics import group_scores, score_head
from rtseg.evaluation.reliability import calibration_scores
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.calms21 import write_calms21
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.recordings.open import read_recording
from rtseg.simulate.tasks import simulate_sequence
from tests.live import without_frames, write_gapped_poses
from tests.study.scenes import DATASET


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "dataset.toml").write_text(DATASET)
    for split, seeds in (("train", (5,)), ("validation", (1, 2))):
        pairs = [simulate_sequence(s, 600, name=f"{split}/{s}", aggressive=s == 2) for s in seeds]
        write_calms21(folder / f"{split}.json", {"annotator-id_0": pairs})
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return load_dataset(folder / "dataset.toml")


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


def test_scores_are_those_of_the_answers(classifier: Classifier, dataset: Dataset) -> None:
    (head,) = dataset.heads
    heard: list[str] = []
    report = evaluate(classifier, dataset, progress=heard.append)
    videos, decoded = [], []
    for item in dataset.items("validation"):
        answers, labels = classifier.run(item.recording), item.labels["task1"].frames
        videos.append((answers.of("task1"), labels))
        decoded.append((np.eye(4, dtype=np.float32)[answers.labels[:, 0]], labels))
        one = score_head(head, [videos[-1]], 30.0)
        wanted = {"f1": one.macro_f1, "map": one.mean_average_precision, "frames": 600}
        assert report["videos"][item.recording.name] == {"task1": without_nan(wanted)}
    score = score_head(head, videos, 30.0)
    assert report["heads"] == {"task1": without_nan(asdict(score))}
    assert report["groups"] == without_nan(group_scores([head], {"task1": score}))
    smooth = score_head(head, decoded, 30.0)
    assert report["decoded"]["task1"]["segmental_f1"] == without_nan(smooth.segmental_f1)
    assert report["decoded"]["task1"]["macro_f1"] == without_nan(smooth.macro_f1)
    assert report["heads"]["task1"]["frames"] == 1200
    assert heard == list(report["videos"]) == ["validation/1", "validation/2"]


def test_it_says_what_was_scored_and_that_it_is_simulated(classifier: Classifier, dataset: Dataset) -> None:
    report = evaluate(classifier, dataset, "train")
    assert list(report["videos"]) == ["train/5"]
    assert (report["bundle"], report["dataset"], report["split"]) == ("tiny", "two mice", "train")
    assert (report["model"], report["engine"]) == (classifier.bundle.hash, "numba")
    # The bundle does not say so, but the recordings do.
    assert not classifier.bundle.simulated
    assert report["simulated"] is True
    json.dumps(report, allow_nan=False)


def test_notes_say_what_the_scores_do_not(classifier: Classifier, dataset: Dataset) -> None:
    (item,) = dataset.items("train")
    known = {"training": {"x": "y"}, "training_poses": [poses_hash(item.recording.keypoints)]}
    report = evaluate(Classifier(replace(classifier.bundle, provenance=known)), dataset, "train")
    few, seen, *absent = report["notes"]
    assert few == "Intervals are over one video: of fewer than 5 they say little about new animals."
    assert seen == "The bundle was trained on train/5: its scores there say nothing about other videos."
    without = [name for name, score in report["heads"]["task1"]["classes"].items() if not score["frames"]]
    assert (
        absent
        == [
            f"No frame is labelled as {', '.join(f'task1: {name}' for name in without)}: nothing says how well that is "
            "recognized."
        ][: len(without)]
    )
    assert interval_notes(4) == [few.replace("one video", "4 videos")]
    assert interval_notes(5) == []


def test_it_says_how_sure_the_scores_are_and_where_the_errors_lie(classifier: Classifier, dataset: Dataset) -> None:
    bundle = replace(classifier.bundle, abstain_below={"task1": 0.6})
    report = evaluate(Classifier(bundle), dataset)
    head, predictions = dataset.heads[0], [classifier.run(i.recording) for i in dataset.items("validation")]
    labels = [i.labels["task1"].frames for i in dataset.items("validation")]
    videos = [(p.of("task1"), y) for p, y in zip(predictions, labels, strict=True)]
    assert report["intervals"]["task1"] == without_nan(bootstrap(videos, head))
    assert report["calibration"]["task1"] == without_nan(calibration_scores(head, videos))
    assert sum(map(sum, report["confusion"]["task1"]["counts"])) == 1200
    assert sum(row["frames"] for row in report["missing"]["task1"]) == 1200
    sure = np.concatenate([p.of("task1").max(1) >= np.float32(0.6) for p in predictions]).mean()
    assert report["abstention"]["task1"]["below"] == 0.6
    assert report["abstention"]["task1"]["coverage"] == pytest.approx(sure, abs=1e-5)
    assert set(manifest_scores(report)) >= {"heads", "intervals", "calibration", "boundaries", "videos"}


def test_two_bundles_are_compared_on_the_same_videos(classifier: Classifier, dataset: Dataset) -> None:
    weights = dict(classifier.bundle.weights)
    weights["head.task1.leave.bias"] = weights["head.task1.leave.bias"] + np.float32([0, 0, 0, 3])
    other = Classifier(replace(classifier.bundle, weights=weights, name="other", hash="h"))
    report = compare_bundles(classifier, other, dataset)
    back = compare_bundles(other, classifier, dataset)
    assert report["videos"] == {"task1": ["validation/1", "validation/2"]}
    assert (report["ours"]["bundle"], report["theirs"]["bundle"]) == ("tiny", "other")
    for part in ("f1", "map"):
        one, two = report["heads"]["task1"][part], back["heads"]["task1"][part]
        assert one["difference"] == pytest.approx(-two["difference"])
        assert one["low"] <= one["difference"] <= one["high"]
    known = {
        "training": {"v": "0"},
        "training_poses": [poses_hash(next(dataset.items("validation")).recording.keypoints)],
    }
    learnt = Classifier(replace(other.bundle, provenance=known))
    (note,) = [note for note in compare_bundles(classifier, learnt, dataset)["notes"] if "trained on" in note]
    assert note.startswith("Theirs, other, was trained on validation/1: ")
    # What no frame is labelled as is in no mean of either.
    absent = [note for note in evaluate(classifier, dataset, "train")["notes"] if note.startswith("No frame")]
    assert absent
    assert [n for n in compare_bundles(classifier, other, dataset, "train")["notes"] if n.startswith("No ")] == absent
    itself = compare_bundles(classifier, classifier, dataset)["heads"]["task1"]["f1"]
    assert itself == {"difference": 0.0, "low": 0.0, "high": 0.0}


PAIRS = """
name = "gaps"
fps = 30
[skeleton]
animals = ["resident", "intruder"]
keypoints = ["nose", "left_ear", "right_ear", "neck", "left_hip", "right_hip", "tail_base"]
[heads.task1]
classes = ["attack", "investigation", "mount", "other"]
scored = ["attack", "investigation", "mount"]
[[recordings]]
poses = "{id}.poses.csv"
labels = "{id}.labels.csv"
ids = ["v"]
[split]
validation = ["v"]
"""


def test_frames_that_a_stream_never_answers_are_not_scored(classifier: Classifier, tmp_path: Path) -> None:
    """Tracking that begins late, and a gap that restarts the stream; frames of a short gap are answered and scored."""
    recording, labels = simulate_sequence(3, 400, name="v")
    absent = np.zeros(400, np.bool_)
    absent[:20] = absent[100:110] = absent[200:260] = True
    write_gapped_poses(without_frames(recording, absent), tmp_path / "v.poses.csv")
    names = [labels.classes[label] for label in labels.frames]
    rows = [f"{t},{name}" for t, name in enumerate(names)]
    (tmp_path / "v.labels.csv").write_text("\n".join(["frame,task1", *rows]) + "\n")
    (tmp_path / "dataset.toml").write_text(PAIRS)
    report = evaluate(classifier, load_dataset(tmp_path / "dataset.toml"))
    assert report["videos"]["v"]["task1"]["frames"] == 400 - 20 - 60
    (head,) = load_dataset(tmp_path / "dataset.toml").heads
    answers = classifier.run(read_recording(tmp_path / "v.poses.csv", fps=30.0))
    assert len(answers) == 320
    score = score_head(head, [(answers.of("task1"), labels.frames[answers.seq])], 30.0)
    assert report["heads"] == {"task1": without_nan(asdict(score))}


def test_parts_of_one_video_are_not_passed_off_as_videos(classifier: Classifier, tmp_path: Path) -> None:
    """Intervals are over recordings: where these are parts of one, they say nothing of another animal."""
    recording, labels = simulate_sequence(3, 400, name="v")
    write_gapped_poses(recording, tmp_path / "v.poses.csv")
    names = [labels.classes[label] for label in labels.frames]
    (tmp_path / "v.labels.csv").write_text(
        "\n".join(["frame,task1", *(f"{t},{n}" for t, n in enumerate(names))]) + "\n"
    )
    parts = "".join(
        f'[[parts]]\nid = "v-{i}"\nrecording = "v"\nfrom_frame = {100 * i}\nto_frame = {100 * i + 100}\n'
        for i in (0, 1, 3)
    )
    text = PAIRS.replace('[split]\nvalidation = ["v"]', parts + '[split]\nvalidation = ["v-0", "v-1"]\nlater = ["v-3"]')
    (tmp_path / "dataset.toml").write_text(text)
    dataset = load_dataset(tmp_path / "dataset.toml")
    said = (
        "2 of the recordings are parts of one video, and each counts as a video: intervals say how such parts differ, "
        "not how another animal or another day would."
    )
    assert said in evaluate(classifier, dataset)["notes"]
    assert said in compare_bundles(classifier, classifier, dataset)["notes"]
    assert part_notes(dataset, ["validation", "later"]) == [said.replace("2 of", "3 of")]
    assert part_notes(dataset, ["later"]) == []  # one part of a video is one video


def test_an_unknown_split_is_refused(classifier: Classifier, dataset: Dataset) -> None:
    with pytest.raises(SettingError, match="has the splits train, validation, not 'test'"):
        evaluate(classifier, dataset, "test")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            ("[heads.task1]", "[heads.mine]"),
            "labels the heads mine; bundle 'tiny' answers task1, sniff_face: .* none in",
        ),
        (
            ('"mount", "other"]', '"mount", "rest"]'),
            "head 'task1': the dataset has the classes attack, investigation, mount, rest, the bundle attack, ",
        ),
        (("fps = 30", "fps = 25"), "25 frames per second; the model was trained at 30"),
    ],
)
def test_what_does_not_match_is_refused(
    classifier: Classifier, folder: Path, tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    path = tmp_path / "dataset.toml"
    text = DATASET.replace(*change)
    if "mine" in change[1]:
        text = text.replace('heads = "task1"', 'heads = "mine"')
    path.write_text(text)
    with pytest.raises((SettingError, RateError), match=reason):
        evaluate(classifier, load_dataset(path, folder))
