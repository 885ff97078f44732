"""Copies that bring every task to the same number of sequences, crops that miss what others miss, and soft labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtseg.config import AugmentSettings
from rtseg.errors import SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.recording import IGNORE
from rtseg.training.augment import copy_settings
from rtseg.training.crops import CropSampler, Example, balanced_copies
from tests.training.scenes import HEADS, example, recipe
from tests.training.test_crops import PLAIN, POSITION, epochs, numbered, rows, sampler_of


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
    soft = np.full((300, 7), 0.5, np.float32)
    copies = balanced_copies([replace(examples[0], soft=soft), *examples[1:]], HEADS)
    assert counts([*examples, *copies]) == {"near": 3, "pair": 3}
    for copy in copies:
        assert (copy.labels[:, 0] == IGNORE).all()
        assert (copy.labels[:, 1:] == examples[0].labels[:, 1:]).all()
        assert copy.soft is not None
        assert np.isnan(copy.soft[:, :2]).all()
        assert (copy.soft[:, 2:] == 0.5).all()
    assert (examples[0].labels[:, 0] != IGNORE).all()


def test_a_group_that_nobody_labelled_gets_no_copies() -> None:
    assert balanced_copies([labelled_in("a", 0, 0), labelled_in("b", 0, 0)], HEADS) == []


def test_a_copy_goes_through_the_papers_augmentation_whatever_is_off() -> None:
    changed = copy_settings(AugmentSettings(copy_shift_px=9.0, copy_noise_px=2.0, drop_points=0.1))
    assert (changed.rotate, changed.mirror, changed.shift_px, changed.noise_px) == (True, True, 9.0, 2.0)
    assert changed.drop_points == 0.1
    assert copy_settings(AugmentSettings(noise_px=5.0)).noise_px == 5.0


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


def test_a_crop_takes_over_what_another_misses() -> None:
    """Two recordings, of which one misses a point throughout: with probability 1/2 a crop takes that over."""
    whole, holey = numbered("a", 0, 300), numbered("b", 1000, 300)
    holey.keypoints[:, 1, 3] = np.nan
    holey.confidence[:, 1, 3] = 0.0
    spec = FeatureSpec(groups=("position", "missing"), hold_frames=0)
    extractor = FeatureExtractor(MICE7, spec, 30.0)
    missing = [i for i, f in enumerate(extractor.features) if f.group == "missing"]

    def share(drop_like_data: float) -> float:
        plan = recipe(augment={**PLAIN, "drop_like_data": drop_like_data})
        sampler = CropSampler([whole, holey], plan, MICE7, extractor, HEADS)
        found = []
        for batch in epochs(sampler, 15):
            for features in batch.features:
                if features[0, 0] + 500 < 900:  # a crop of the whole recording
                    gone = features[:, missing].mean(axis=0)
                    assert set(gone.tolist()) <= {0.0, 1.0}
                    assert gone.sum() in (0, 1)
                    assert gone.argmax() in (0, 10)
                    found.append(gone.sum())
        assert len(found) > 30
        return float(np.mean(found))

    assert share(0.0) == 0.0
    assert share(1.0) == pytest.approx(0.5, abs=0.15)


def test_soft_labels_lie_where_the_labels_do() -> None:
    one = numbered("a", 0, 300)
    soft = np.repeat(np.arange(300, dtype=np.float32)[:, None], 7, axis=1)
    plan = recipe(augment=PLAIN, model={"lookahead_frames": 5})
    found = 0
    for batch in epochs(sampler_of([replace(one, soft=soft), numbered("b", 1000, 300)], plan), 4):
        assert batch.soft is not None
        for features, labels, said in zip(batch.features, batch.labels, batch.soft, strict=True):
            x, known = features[:, 0] + 500, ~np.isnan(said[:, 0])
            if x[0] >= 1000:
                assert not known.any()
                continue
            assert (known == (labels[:, 0] != IGNORE)).all()
            assert (said[known, 0] == x[known] - 5).all()  # what is said at t is about frame t - 5
            found += 1
    assert found > 5


def test_a_teacher_and_interpolation_do_not_go_together() -> None:
    one = replace(numbered("a", 0, 300), soft=np.zeros((300, 7), np.float32))
    with pytest.raises(SettingError, match="interpolate"):
        sampler_of([one], recipe(augment={**PLAIN, "interpolate": 3}))


def test_what_sees_both_ways_is_warmed_up_at_both_ends() -> None:
    plan = recipe(augment=PLAIN, model={"causal": False})
    crop, half, ends = plan.train.crop_frames, plan.train.warmup_frames // 2, set()
    for x, labels in rows(epochs(sampler_of([numbered("a", 0, 500)], plan), 12)):
        start = int(x[0])
        ends |= {"first"} if start == 0 else {"last"} if start + crop == 500 else {"middle"}
        kept = (labels[:, 0] != IGNORE).tolist()
        before, after = half if start > 0 else 0, half if start + crop < 500 else 0
        assert kept == [False] * before + [True] * (crop - before - after) + [False] * after
        assert 0 <= start <= 500 - crop
    assert ends == {"first", "middle", "last"}


def test_the_draw_of_a_plain_recipe_hangs_on_no_new_switch() -> None:
    """The crops of an old recipe are what they were: a switch that is off draws no random number."""
    examples = [example("a", 1), example("b", 2)]
    plans = (recipe(), recipe(augment={"drop_like_data": 0.0, "copy_noise_px": 3.0}))
    one, two = ([b.features.tobytes() for b in epochs(sampler_of(examples, p, POSITION), 1)] for p in plans)
    assert one == two
