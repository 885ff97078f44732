"""What training would be fooled by, each a finding of the right severity; and a good dataset without any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rtseg.checks.findings import find_problems, require_trainable
from rtseg.checks.summary import DatasetSummary
from rtseg.errors import SettingError
from rtseg.recordings.heads import Head, HeadRule
from tests.checks.scenes import ACT, GROOMS, N_FRAMES, item, summary, walk

POSITIVES_ONLY = replace(ACT, unlabelled=None)
THREE = HeadRule(Head("act", ("other", "groom", "rear"), ("groom", "rear"), "act"), unlabelled="other")


def found(of: DatasetSummary) -> list[tuple[str, str]]:
    return [(finding.severity, finding.text) for finding in find_problems(of)]


def only(of: DatasetSummary, severity: str, *words: str) -> None:
    """There is one finding, of that severity and with these words."""
    ((is_severity, text),) = found(of)
    assert is_severity == severity
    for word in words:
        assert word in text


def good(n: int = 2, rules: Sequence[HeadRule] = (ACT,)) -> list:
    return [item(f"v{i}", GROOMS, rules=rules) for i in range(n)]


def test_a_good_dataset_has_nothing_against_it() -> None:
    of = summary(good(3)[:2], good(3)[2:])
    assert found(of) == []
    require_trainable(find_problems(of), "lab")


def test_labels_without_negatives() -> None:
    """What BORIS exports are without `unlabelled`: training on the positive frames alone gives F1 1.000."""
    one, two = (item(name, GROOMS, rules=(POSITIVES_ONLY,)) for name in "xy")
    of = summary([one], [two], rules=(POSITIVES_ONLY,))
    (error, *others) = found(of)
    assert error[0] == "error"
    for words in (
        "all 40 labelled frames are 'groom', none is 'other'",
        "the model would answer 'groom' always",
        f"{N_FRAMES - 40} frames have no label",
        'set unlabelled = "other" in [heads.act]',
    ):
        assert words in error[1]
    assert others == []
    with pytest.raises(SettingError, match=r"'lab' cannot be trained on .*\n  head 'act', split 'train': all 40"):
        require_trainable(find_problems(of), "lab")


def test_a_class_that_training_never_shows() -> None:
    rear = {**GROOMS, "rear": [(80, 90)]}
    with_rear, without = item("x", rear, rules=(THREE,)), item("y", GROOMS, rules=(THREE,))
    only(summary([without], [with_rear], rules=(THREE,)), "error", "no frame is 'rear', which the model could never")
    # Chance, where recordings are simulated to try things out.
    only(summary([without], [with_rear], rules=(THREE,), simulated=True), "warning", "no frame is 'rear'")


def test_a_class_that_one_annotator_of_several_never_used() -> None:
    one, two = (replace(THREE, head=replace(THREE.head, name=name), track="act") for name in ("ann1", "ann2"))
    masked = replace(two, track="none", missing_ok=True, unlabelled=None)
    rear = {**GROOMS, "rear": [(80, 90)]}
    # ann1's labels have both classes, ann2's recordings only one of them.
    first = item("x", rear, rules=(one, masked))
    second = item("y", GROOMS, rules=(replace(one, track="none", missing_ok=True, unlabelled=None), two))
    third = item("z", rear, rules=(one, two))
    only(summary([first, second], [third], rules=(one, two)), "warning", "head 'ann2'", "no frame is 'rear'")


def test_a_class_that_validation_never_shows() -> None:
    rear = {**GROOMS, "rear": [(80, 90)]}
    with_rear, without = item("x", rear, rules=(THREE,)), item("y", GROOMS, rules=(THREE,))
    only(
        summary([with_rear], [without], rules=(THREE,)),
        "warning",
        "'validation': no frame is 'rear'",
        "without a score",
    )
    nothing = item("z", {}, rules=(THREE,))
    only(summary([with_rear], [nothing], rules=(THREE,)), "error", "no frame of any scored class")


def test_two_behaviours_at_once_mask_a_class() -> None:
    """A state event over the whole video, in a head of one track."""
    bouts = {"moving": [(0, N_FRAMES)], **GROOMS}
    rule = replace(ACT, head=Head("act", ("moving", "groom"), ("groom",), "act"), unlabelled=None)
    train, validation = (item(name, bouts, rules=(rule,)) for name in "xy")
    of = summary([train], [validation], rules=(rule,))
    severities = [severity for severity, _ in found(of)]
    assert severities == ["error", "error"]
    assert "40 frames have two behaviours at once" in found(of)[0][1]
    assert 'track = "act:groom"' in found(of)[0][1]


def test_a_head_without_a_labelled_frame() -> None:
    second = HeadRule(Head("far", ("no", "yes"), ("yes",), "far"), missing_ok=True)
    rules = (ACT, second)
    of = summary(good(3, rules)[:2], good(3, rules)[2:], rules=rules)
    assert [severity for severity, text in found(of) if "'train' is masked" in text] == ["error"]
    assert [severity for severity, text in found(of) if "'validation' is masked" in text] == ["warning"]
    assert any("240 frames are of files without the track: correct 'track'" in text for _, text in found(of))


def test_poses_that_are_missing() -> None:
    nothing = np.full((N_FRAMES, 2, 2, 2), np.nan, np.float32)
    one, two, three = good(3)
    only(summary([one, item("x", GROOMS, keypoints=nothing)], [three]), "error", "every point", "poses/x.csv")
    alone = walk(5)
    alone[:, 1] = np.nan
    only(summary([item("x", GROOMS, keypoints=alone)], [three]), "error", "animal 'b' is never seen")
    only(summary([item("x", GROOMS, keypoints=alone), two], [three]), "warning", "'b' is never seen in x (poses/x.csv)")
    pointless = walk(6)
    pointless[:, :, 1] = np.nan
    only(summary([item("x", GROOMS, keypoints=pointless)], [three]), "warning", "keypoint tail is never seen")


def test_a_recording_in_two_splits_under_two_names() -> None:
    one, two, three = good(3)
    copy = item("renamed", {"groom": [(3, 9)]}, keypoints=one.recording.keypoints[20:])
    only(
        summary([one, two], [copy]), "error", "'v0' (split 'train') and 'renamed' (split 'validation') share 100 frames"
    )
    only(summary([one, copy], [three]), "warning", "share 100 frames or more, which count twice")
    # Folds are whole recordings: one would be tested on what another learnt.
    only(summary([one, copy], [three], pooled=True), "error", "fold of a cross-validation would be tested")


def test_splits_without_recordings() -> None:
    texts = [text for severity, text in found(summary([], good(1))) if severity == "error"]
    assert "split 'train' has no recordings" in texts
    texts = [text for severity, text in found(summary(good(1), [])) if severity == "error"]
    assert "split 'validation' has no recordings" in texts
    of = summary(good(1), good(1))
    alone = replace(of, splits={"test": of.splits["train"]})
    assert "[split] has no 'train', which training needs; it has: test" in [text for _, text in found(alone)]


def test_recordings_of_another_scale_or_unit() -> None:
    for factor, severity in ((0.5, "warning"), (1 / 640, "error")):
        items = []
        for i, size in enumerate((1.0, 1.0, factor)):
            items.append(item(f"v{i}", GROOMS, keypoints=walk(i) * np.float32(size)))
        only(summary(items[:2], items[2:]), severity, "long in v2", "and 40 px in most recordings")


def test_poses_that_were_filtered_with_later_frames() -> None:
    one, two, three = good(3)
    filtered = replace(two, recording=replace(two.recording, source="poses/v1DLC_resnet50_el_filtered.h5"))
    only(
        summary([one, filtered], [three]),
        "warning",
        "poses of 1 of 3 recordings were filtered after tracking: v1 (poses/v1DLC_resnet50_el_filtered.h5)",
    )


def test_labels_that_were_copied_to_another_recording() -> None:
    """The same bouts under poses of another animal: one of the two was labelled, the other never."""
    many = {"groom": [(10 * i + 1, 10 * i + 4) for i in range(8)]}
    shifted = {"groom": [(10 * i + 2, 10 * i + 5) for i in range(8)]}
    of = summary([item("x", many), item("y", shifted)], [item("z", many)])
    only(of, "warning", "x (poses/x.csv), z (poses/z.csv)", "have the same labels of head 'act', all 17 bouts")
    # Of few bouts it may be chance.
    assert found(summary([item("x", GROOMS), item("y", shifted)], [item("z", GROOMS)])) == []
