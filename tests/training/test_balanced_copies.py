"""Copies that bring every task to the same number of sequences."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.config import AugmentSettings
from rtseg.recordings.recording import IGNORE
from rtseg.training.augment import augment_settings_of_copies
from rtseg.training.crops import balanced_copies
from rtseg.training.task import Example
from tests.training.scenes import HEADS, recipe
from tests.training.test_crops import PLAIN, epochs, numbered, rows, sampler_of


def labelled_in(name: str, first: int, *columns: int, n_frames: int = 300) -> Example:
    """A recording with labels of these heads alone."""
    one = numbered(name, first, n_frames)
    for column in {0, 1, 2} - set(columns):
        one.labels[:, column] = IGNORE
    return one


def counts(examples: list[Example]) -> dict[str, int]:
    near = sum(bool((e.labels[:, 0] != IGNORE).any()) for e in examples)
    pair = sum(bool((e.labels[:, 1:] != IGNORE).any()) for e in examples)
    return {"near": near, "pair": pair}


def test_every_group_comes_to_the_number_of_the_largest() -> None:
    examples = [labelled_in(f"n{i}", 0, 0) for i in range(7)] + [labelled_in("p", 0, 1), labelled_in("q", 0, 2)]
    copies = balanced_copies(examples, HEADS)
    assert counts(examples) == {"near": 7, "pair": 2}
    assert counts([*examples, *copies]) == {"near": 7, "pair": 7}
    assert [copy.name for copy in copies] == ["p", "q", "p", "q", "p"]  # in turn
    assert all(copy.keypoints is original.keypoints for copy, original in zip(copies, examples[7:], strict=False))


def test_a_copy_counts_for_its_group_alone() -> None:
    examples = [labelled_in("a", 0, 0, 1, 2), labelled_in("b", 0, 0), labelled_in("c", 0, 0)]
    copies = balanced_copies(examples, HEADS)
    assert counts([*examples, *copies]) == {"near": 3, "pair": 3}
    for copy in copies:
        assert (copy.labels[:, 0] == IGNORE).all()
        assert (copy.labels[:, 1:] == examples[0].labels[:, 1:]).all()
    assert (examples[0].labels[:, 0] != IGNORE).all()


def test_a_group_that_nobody_labelled_gets_no_copies() -> None:
    assert balanced_copies([labelled_in("a", 0, 0), labelled_in("b", 0, 0)], HEADS) == []


def test_a_copy_goes_through_the_papers_augmentation_whatever_is_off() -> None:
    changed = augment_settings_of_copies(AugmentSettings(drop_points=0.1))
    assert (changed.rotate, changed.mirror, changed.shift_px, changed.noise_px) == (True, True, 20.0, 1.0)
    assert changed.drop_points == 0.1
    assert augment_settings_of_copies(AugmentSettings(noise_px=5.0)).noise_px == 5.0


def test_crops_of_copies_are_augmented_and_those_of_originals_are_not() -> None:
    examples = [labelled_in(f"n{i}", 0, 0) for i in range(3)] + [labelled_in("p", 1000, 1, 2)]
    sampler = sampler_of(examples, recipe(augment={**PLAIN, "balance_tasks": True}))
    assert sampler.batches_per_epoch == round(6 * 300 / (4 * (96 - 24)))
    plain = {"near": 0, "pair": 0}
    total = dict(plain)
    for x, labels in rows(epochs(sampler, 12)):
        group = "near" if (labels[:, 0] != IGNORE).any() else "pair"
        total[group] += 1
        plain[group] += bool((np.diff(x[:90]) == 1).all())
    assert plain["near"] == total["near"]
    assert plain["pair"] / total["pair"] == pytest.approx(1 / 3, abs=0.15)  # the original; two copies are turned
    assert total["near"] / sum(total.values()) == pytest.approx(0.5, abs=0.12)


def test_without_balance_nothing_is_copied() -> None:
    examples = [labelled_in("a", 0, 0), labelled_in("b", 0, 0), labelled_in("c", 0, 1)]
    assert len(sampler_of(examples, recipe(augment=PLAIN))._examples) == 3
