"""Official counts: what agrees is silent, and what differs is named with both numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtseg.recordings.calms21_counts import OFFICIAL, Counts, count, differences
from rtseg.recordings.recording import IGNORE, Labels

CLASSES = ("attack", "investigation", "mount", "other")


@pytest.mark.parametrize(("task", "split"), OFFICIAL)
def test_the_official_files_agree_with_themselves(task: int, split: str) -> None:
    assert differences(task, split, OFFICIAL[task, split]) == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_official_classes_add_up_to_the_frames(split: str) -> None:
    official = OFFICIAL[1, split]
    assert sum(official.classes.values()) == official.frames


def test_every_difference_is_named_with_both_numbers() -> None:
    official = OFFICIAL[1, "train"]
    found = replace(official, sequences=69, classes={**official.classes, "mount": 28_614})
    assert differences(1, "train", found) == [
        "Task 1 train: 69 sequences, the official file has 70",
        "Task 1 train: 28,614 frames of mount, the official file has 28,615",
    ]


def test_a_class_that_is_missing_or_too_many_is_named() -> None:
    official = OFFICIAL[1, "test"]
    classes = {**official.classes, "sleep": 5}
    del classes["attack"]
    said = differences(1, "test", replace(official, classes=classes))
    assert [("attack" in s, "sleep" in s) for s in said] == [(True, False), (False, True)]


def test_of_tasks_2_and_3_only_the_sequences_are_known() -> None:
    assert differences(2, "train", Counts(30, 12345, {"attack": 1})) == []
    assert differences(3, "train", Counts(16)) == ["Task 3 train: 16 sequences, the official file has 17"]
    assert differences(3, "test", Counts(1)) == []


def test_counting_leaves_out_masked_frames_of_classes_alone() -> None:
    tracks = [
        Labels("task1", CLASSES, np.array([0, 0, 3, IGNORE], np.int16)),
        Labels("task1", CLASSES, np.array([2], np.int16)),
    ]
    assert count(tracks) == Counts(2, 5, {"attack": 2, "investigation": 0, "mount": 1, "other": 1})
