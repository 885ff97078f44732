"""Which label file belongs to which pose file: right, or left out; never another video's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.errors import SettingError
from rtseg.project.files import FoundFiles
from rtseg.project.pairing import pair_files, patterns_of
from rtseg.recordings.pairs import find_recording_files

ROOT = Path("/data")


def paired(poses: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Pose file -> its label file, as names."""
    found = FoundFiles(ROOT, tuple(ROOT / p for p in poses), tuple(ROOT / name for name in labels))
    return {pair.poses.name: pair.labels.name for pair in pair_files(found).pairs}


@pytest.mark.parametrize(
    ("poses", "labels", "expected"),
    [
        # The real names of our data.
        ("01DLC_resnet50_a.csv 10DLC_resnet50_a.csv", "01_annot.txt 10_annot.txt", "01_annot.txt 10_annot.txt"),
        ("1-14_tracked.csv", "1-14_annotation_information.csv", "1-14_annotation_information.csv"),
        ("demo1_tracking.csv demo2_tracking.csv", "demo2_bouts.csv demo1_bouts.csv", "demo1_bouts.csv demo2_bouts.csv"),
        ("e3-122642DLC_x_filtered.csv e4-1DLC_x_filtered.csv", "boris_e3-122642.csv", "boris_e3-122642.csv -"),
        # One of each belongs together whatever it is called.
        ("tracks.csv", "export.csv", "export.csv"),
        # 1 is not 10, day 2 is not day 3, and what two videos could claim belongs to none.
        ("m1DLC_a.csv m10DLC_a.csv", "m10.csv", "- m10.csv"),
        ("mouse1_day2DLC_a.csv mouse2_day2DLC_a.csv", "mouse1_day3.csv mouse2_day3.csv", "- -"),
        ("m1_left.csv m1_right.csv", "m1.csv", "- -"),
        # DeepLabCut writes the same poses as .h5, and filters them; a filter looks into the future.
        ("v1DLC_a.csv v1DLC_a.h5 v1DLC_a_filtered.csv", "v1.csv", "v1.csv - -"),
        ("a.analysis.h5 b.analysis.h5", "a.annot b.annot", "a.annot b.annot"),
        # DeepLabCut's assembled animals and their filtered copy; SLEAP's analysis beside what it was exported from.
        ("v1DLC_a_el.h5 v1DLC_a_el_filtered.csv v1DLC_a_el.csv", "v1.csv", "- - v1.csv"),
        ("a.analysis.h5 a.slp a.predictions.slp", "a.csv", "a.csv - -"),
        ("a.predictions.analysis.h5 a.predictions.slp", "a.csv", "a.csv -"),
        # Letters of any language tell videos apart, in either form.
        ("甲DLC_a.csv 乙DLC_a.csv", "乙_boris.csv 甲_boris.csv", "甲_boris.csv 乙_boris.csv"),
        ("\u00e41.csv \u00f61.csv", "o\u03081_boris.csv a\u03081_boris.csv", "a\u03081_boris.csv o\u03081_boris.csv"),
        ("trial_A_pose.csv trial_B_pose.csv", "labels_B.csv labels_A.csv", "labels_A.csv labels_B.csv"),
    ],
)
def test_names_of_laboratories(poses: str, labels: str, expected: str) -> None:
    partners = zip(poses.split(), expected.split(), strict=True)
    assert paired(poses.split(), labels.split()) == {pose: label for pose, label in partners if label != "-"}


QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
names = st.lists(
    st.from_regex(r"[a-z]{1,4}[0-9]{1,3}(_[a-z]{2})?", fullmatch=True), min_size=1, max_size=6, unique=True
)


pose_names = st.sampled_from(["{}DLC_resnet50_x.csv", "{}_tracking.csv", "{}.analysis.h5"])
label_names = st.sampled_from(["{}_annot.txt", "boris_{}.csv", "{}.csv"])


@QUICK
@given(names, pose_names, label_names)
def test_no_pose_file_gets_the_labels_of_another_video(ids: list[str], poses: str, labels: str) -> None:
    wanted = {poses.format(i): labels.format(i) for i in ids}
    found = paired(list(wanted), list(wanted.values()))
    assert found.items() <= wanted.items()
    assert found == wanted  # and each gets its own


@QUICK
@given(names)
def test_where_labels_are_lost_nothing_is_paired_with_what_is_left(ids: list[str]) -> None:
    poses, labels = [f"{i}DLC_a.csv" for i in ids], [f"{i}_annot.txt" for i in ids[1:]]
    assert paired(poses, labels) == {f"{i}DLC_a.csv": f"{i}_annot.txt" for i in ids[1:]}


@QUICK
@given(names, st.sampled_from(["{}DLC_{}.csv", "track_{}-{}.csv"]))
def test_patterns_find_exactly_their_files(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], poses: str
) -> None:
    root = tmp_path_factory.mktemp("files")
    files = []
    for number, name in enumerate(ids):
        files.append((root / poses.format(name, "x" * (number + 1)), root / f"{name}_annot.txt"))
        for path in files[-1]:
            path.touch()
    found = FoundFiles(root, tuple(p for p, _ in files), tuple(label for _, label in files))
    pairs = pair_files(found).pairs
    assert len(pairs) == len(ids)
    for pattern in patterns_of(pairs, root):
        for name in pattern.ids:
            pair = next(pair for pair in pairs if pair.name == name)
            assert find_recording_files(root, pattern.poses, name) == [pair.poses]
            assert find_recording_files(root, pattern.labels, name) == [pair.labels]


def test_the_same_names_in_several_folders_are_told_apart_by_them(tmp_path: Path) -> None:
    for layout in ("{0}/{1}DLC_a.csv {0}/{1}_boris.csv", "poses/{0}/{1}.csv labels/{0}/{1}.csv"):
        root = tmp_path / layout[:1]
        files = [root / f for c in ("c1", "c2") for m in ("m1", "m2") for f in layout.format(c, m).split()]
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        pairing = pair_files(FoundFiles(root, tuple(files[::2]), tuple(files[1::2])))
        assert [(pair.poses, pair.labels) for pair in pairing.pairs] == list(zip(files[::2], files[1::2], strict=True))
        assert [pair.name for pair in pairing.pairs] == ["c1/m1", "c1/m2", "c2/m1", "c2/m2"]
        for pattern in patterns_of(pairing.pairs, root):
            for name in pattern.ids:
                pair = next(pair for pair in pairing.pairs if pair.name == name)
                assert find_recording_files(root, pattern.poses, name) == [pair.poses]
                assert find_recording_files(root, pattern.labels, name) == [pair.labels]


def test_labels_of_another_folder_are_not_taken() -> None:
    assert paired(["c1/m1DLC_a.csv", "c2/m1DLC_a.csv"], ["c2/m1.csv"]) == {"m1DLC_a.csv": "m1.csv"}
    found = FoundFiles(ROOT, (ROOT / "c1/m1DLC_a.csv", ROOT / "c2/m1DLC_a.csv"), (ROOT / "c2/m1.csv",))
    assert [pair.poses.parent.name for pair in pair_files(found).pairs] == ["c2"]


def test_a_video_that_was_tracked_twice_is_no_two_videos() -> None:
    with pytest.raises(SettingError, match=r"m1DLC_a\.csv and m1DLC_b\.csv are poses of one video, tracked twice"):
        paired(["m1DLC_a.csv", "m1DLC_b.csv", "m2DLC_a.csv"], ["m1.csv", "m2.csv"])


def test_several_label_files_of_one_video_are_named() -> None:
    found = FoundFiles(ROOT, (ROOT / "m1DLC_a.csv", ROOT / "m2.csv"), (ROOT / "m1_ann.csv", ROOT / "m1_ben.csv"))
    ((pose, labels),) = pair_files(found).undecided
    assert (pose.name, [label.name for label in labels]) == ("m1DLC_a.csv", ["m1_ann.csv", "m1_ben.csv"])


def test_a_pose_file_for_each_animal_is_told() -> None:
    found = FoundFiles(ROOT, (ROOT / "m1_blackDLC_a.csv", ROOT / "m1_whiteDLC_a.csv"), (ROOT / "m1_boris.csv",))
    pairing = pair_files(found)
    ((label, poses),) = pairing.contested
    assert pairing.pairs == ()
    assert (label.name, [pose.name for pose in poses]) == ("m1_boris.csv", ["m1_blackDLC_a.csv", "m1_whiteDLC_a.csv"])
