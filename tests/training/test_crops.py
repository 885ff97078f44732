"""Crops: the warm-up is masked, only training examples are drawn, the same draw for the same seed and epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.recording import IGNORE
from rtseg.training.crops import Batch, CropSampler, delay_labels, fit_scaler
from rtseg.training.task import Example
from tests.training.scenes import example, recipe, task

# Without augmentation and with positions alone, a crop's features say where it was cut.
PLAIN = {"rotate": False, "mirror": False, "drop_points": 0.0}
POSITION = FeatureSpec(groups=("position",), hold_frames=0)


def sampler_of(examples: list[Example], plan: Recipe, spec: FeatureSpec = POSITION) -> CropSampler:
    return CropSampler(task(plan, examples, []), FeatureExtractor(MICE7, spec, 30.0))


def numbered(name: str, first: int, n_frames: int, labelled: slice = slice(None)) -> Example:
    """Frame t stands at x = first + t, and its label of head 0 is t % 2, of head 1 t % 3."""
    t = np.arange(n_frames)
    points = np.zeros((n_frames, 2, 7, 2), np.float32)
    points[..., 0] = (first + t)[:, None, None]
    labels = np.full((n_frames, 3), IGNORE, np.int16)
    labels[labelled] = np.stack([t % 2, t % 3, t % 2], axis=1)[labelled]
    return Example(name, points, np.ones((n_frames, 2, 7), np.float32), labels)


def rows(batches: list[Batch]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per crop the x of its frames (NaN beyond its end), and its labels."""
    middle = 500.0
    return [(f[:, 0] + middle, y) for b in batches for f, y in zip(b.features, b.labels, strict=True)]


def epochs(sampler: CropSampler, n: int) -> list[Batch]:
    return [batch for epoch in range(n) for batch in sampler.epoch(epoch)]


def test_a_crop_is_a_stretch_with_its_labels_and_a_masked_warm_up() -> None:
    plan = recipe(augment=PLAIN)
    crop, warmup = plan.train.crop_frames, plan.train.warmup_frames
    starts = set()
    for x, labels in rows(epochs(sampler_of([numbered("a", 0, 500)], plan), 6)):
        start = int(x[0])
        starts.add(start)
        assert x.tolist() == list(range(start, start + crop))
        masked = warmup if start > 0 else 0
        assert (labels[:masked] == IGNORE).all()
        t = np.arange(start + masked, start + crop)
        assert labels[masked:].tolist() == np.stack([t % 2, t % 3, t % 2], axis=1).tolist()
    assert min(starts) == 0
    assert max(starts) > 300


def test_a_true_beginning_carries_loss_from_its_first_frame() -> None:
    beginnings = [
        y for x, y in rows(epochs(sampler_of([numbered("a", 0, 300)], recipe(augment=PLAIN)), 10)) if x[0] == 0
    ]
    assert len(beginnings) > 2
    assert all((y[0] != IGNORE).all() for y in beginnings)


def test_crops_of_a_network_that_is_not_causal_are_warmed_up_at_both_ends() -> None:
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


def test_labels_run_with_the_poses_where_time_runs_faster_or_slower() -> None:
    plan = recipe(augment={**PLAIN, "rate": 0.4})
    crop, warmup, rates = plan.train.crop_frames, plan.train.warmup_frames, []
    for x, labels in rows(epochs(sampler_of([numbered("a", 0, 500)], plan), 8)):
        steps = np.diff(x[~np.isnan(x)])
        rates.append(float(steps.mean()))
        np.testing.assert_allclose(steps, steps[0], atol=2e-4)  # float32 places of a few hundred px
        assert len(x) == crop
        assert x[0] >= 0
        assert x[-1] <= 499
        # A place within rounding of half way may belong to either frame.
        clear = (np.abs(x % 1 - 0.5) > 1e-3) & (np.arange(crop) >= (warmup if x[0] > 0 else 0))
        t = np.floor(x[clear] + 0.5).astype(int)
        assert labels[clear].tolist() == np.stack([t % 2, t % 3, t % 2], axis=1).tolist()
        assert (labels[: warmup if x[0] > 0 else 0] == IGNORE).all()
    assert min(rates) < 0.8
    assert max(rates) > 1.25


def test_a_crop_in_time_that_runs_faster_remembers_what_came_before() -> None:
    """A speed at the crop's first frame needs the frames before it, at the crop's own rate."""
    spec = FeatureSpec(groups=("position", "speed"), hold_frames=0)
    sampler = sampler_of([numbered("a", 0, 500)], recipe(augment={**PLAIN, "rate": 0.4}), spec)
    features = FeatureExtractor(MICE7, spec, 30.0).features
    column = next(i for i, feature in enumerate(features) if feature.group == "speed")
    for batch in epochs(sampler, 4):
        for crop in batch.features:
            if crop[0, 0] + 500 > 10:  # not where the recording begins
                rate = crop[1, 0] - crop[0, 0]
                np.testing.assert_allclose(crop[:, column], rate * 30, rtol=1e-3)


def test_a_short_recording_is_padded_with_unknown_features_and_no_labels() -> None:
    for x, labels in rows(epochs(sampler_of([numbered("a", 0, 40)], recipe(augment=PLAIN)), 3)):
        assert x[:40].tolist() == list(range(40))
        assert np.isnan(x[40:]).all()
        assert (labels[:40] != IGNORE).all()
        assert (labels[40:] == IGNORE).all()


def test_only_the_examples_given_are_ever_drawn_and_all_of_them() -> None:
    examples = [numbered("a", 0, 300), numbered("b", 1000, 300), numbered("c", 2000, 50)]
    seen = {int(x[0]) // 1000 for x, _ in rows(epochs(sampler_of(examples, recipe(augment=PLAIN)), 20))}
    assert seen == {0, 1, 2}
    seen = {int(x[0]) // 1000 for x, _ in rows(epochs(sampler_of(examples[:1], recipe(augment=PLAIN)), 20))}
    assert seen == {0}


def test_a_recording_without_labels_is_never_drawn() -> None:
    examples = [numbered("a", 0, 300), numbered("b", 1000, 3000, slice(0, 0))]
    assert {int(x[0]) // 1000 for x, _ in rows(epochs(sampler_of(examples, recipe(augment=PLAIN)), 20))} == {0}


def test_recordings_are_drawn_in_proportion_to_their_labelled_frames() -> None:
    examples = [numbered("a", 0, 600), numbered("b", 1000, 600, slice(0, 200))]
    draws = [int(x[0]) // 1000 for x, _ in rows(epochs(sampler_of(examples, recipe(augment=PLAIN)), 60))]
    assert len(draws) > 500
    assert np.mean(draws) == pytest.approx(0.25, abs=0.06)


def test_an_epoch_is_about_every_labelled_frame_once() -> None:
    plan = recipe(augment=PLAIN)
    sampler = sampler_of([numbered("a", 0, 3000, slice(0, 2000))], plan)
    assert sampler.batches_per_epoch == round(2000 / (4 * (96 - 24)))
    assert len(list(sampler.epoch(0))) == sampler.batches_per_epoch


def test_no_labelled_frame_at_all_is_an_error_that_says_so() -> None:
    with pytest.raises(SettingError, match="label"):
        sampler_of([numbered("a", 0, 300, slice(0, 0))], recipe())


def test_the_same_seed_and_epoch_draw_the_same_crops() -> None:
    examples, spec = [example("a", 1), example("b", 2)], FeatureSpec(groups=("position", "speed"))

    def digest(plan: Recipe, epoch: int) -> bytes:
        batches = list(sampler_of(examples, plan, spec).epoch(epoch))
        return b"".join(b.features.tobytes() + b.labels.tobytes() for b in batches)

    plan = recipe()
    assert digest(plan, 3) == digest(plan, 3)
    assert digest(plan, 3) != digest(plan, 4)
    assert digest(plan, 3) != digest(recipe(train={"seed": 6}), 3)


def test_an_epoch_does_not_depend_on_those_before_it() -> None:
    examples = [example("a", 1)]
    sampler = sampler_of(examples, recipe())
    list(sampler.epoch(0))
    again = [b.features.tobytes() for b in sampler.epoch(2)]
    assert again == [b.features.tobytes() for b in sampler_of(examples, recipe()).epoch(2)]


def test_examples_stay_as_they_are() -> None:
    one = example("a", 1)
    before = one.keypoints.tobytes(), one.confidence.tobytes(), one.labels.tobytes()
    everything = {
        "rotate": True,
        "mirror": True,
        "shift_px": 4.0,
        "noise_px": 1.0,
        "drop_animal": 0.1,
    }
    epochs(sampler_of([one], recipe(augment=everything)), 1)
    assert (one.keypoints.tobytes(), one.confidence.tobytes(), one.labels.tobytes()) == before


def test_interpolated_crops_go_in_thirds_of_a_frame() -> None:
    plan = recipe(augment={**PLAIN, "interpolate": 3})
    for x, labels in rows(epochs(sampler_of([numbered("a", 0, 300)], plan), 2)):
        np.testing.assert_allclose(np.diff(x), 1 / 3, atol=1e-3)
        carried = np.flatnonzero(labels[:, 1] != IGNORE)
        nexts = np.ceil(np.round(x[carried] * 3) / 3 - 1e-6)
        assert (labels[carried, 1] == nexts % 3).all()


def test_the_lookahead_moves_labels_later() -> None:
    t = np.arange(10, dtype=np.int16)
    labels = np.stack([t, t + 20], axis=1)[None]
    late = delay_labels(labels, 3)
    assert late[0, :3].tolist() == [[IGNORE] * 2] * 3
    assert late[0, 3:].tolist() == labels[0, :-3].tolist()
    assert delay_labels(labels, 0).tolist() == labels.tolist()
    assert (delay_labels(labels, 10) == IGNORE).all()
    assert (delay_labels(labels, 25) == IGNORE).all()
    assert labels[0, :, 0].tolist() == t.tolist()


def test_crops_carry_the_lookahead() -> None:
    plan = recipe(augment=PLAIN, model={"lookahead_frames": 5})
    for x, labels in rows(epochs(sampler_of([numbered("a", 0, 400)], plan), 2)):
        carried = np.flatnonzero(labels[:, 1] != IGNORE)
        assert (labels[carried, 1] == (x[carried] - 5) % 3).all()


@pytest.mark.parametrize("kind", ["standard", "minmax", "range"])
def test_the_scaler_cuts_jumps_fills_what_is_not_known_and_takes_out_what_never_changes(kind: str) -> None:
    rng = np.random.default_rng(0)
    table = (rng.normal(50, 8, (4000, 4)) * [1, 10, 1, 1]).astype(np.float32)
    table[rng.random(4000) < 0.2, 1] = np.nan
    table[0, 0] = 1e6  # an identity swap
    table[:, 2] = np.nan  # never known
    table[:, 3] = 7  # never changes
    before = table.copy()
    scaler = fit_scaler([table[:1000], table[1000:]], kind, 6.0)
    np.testing.assert_array_equal(table, before)
    assert {n: t.shape for n, t in scaler.items()} == {
        "scaler.fill": (4,),
        "scaler.shift": (4,),
        "scaler.scale": (4,),
        "scaler.clip": (1,),
    }
    assert all(t.dtype == np.float32 and np.isfinite(t).all() for t in scaler.values())
    known = np.where(np.isnan(table), scaler["scaler.fill"], table)
    scaled = (known - scaler["scaler.shift"]) * scaler["scaler.scale"]
    if kind == "standard":
        np.testing.assert_allclose(np.nanmean(np.clip(scaled[:, :2], -3, 3), axis=0), 0, atol=0.05)
        np.testing.assert_allclose(scaled[1:, 0].std(), 1.0, atol=0.05)
    elif kind == "minmax":
        assert ((scaled[:, :2] >= 0) & (scaled[:, :2] <= 1)).mean() > 0.985
    else:
        low, high = np.nanpercentile(scaled[:, :2], (0.5, 99.5), axis=0)
        np.testing.assert_allclose(high - low, 1, atol=0.02)
        np.testing.assert_allclose(np.nanmean(np.clip(scaled[:, :2], low, high), axis=0), 0, atol=0.01)
    np.testing.assert_allclose(scaler["scaler.fill"][:2], [50, 500], rtol=0.01)
    assert (scaled[:, 2:] == 0).all()


def test_an_example_of_another_length_than_its_labels_is_our_own_mistake() -> None:
    one = example("a", 1)
    with pytest.raises((ValueError, AssertionError, IndexError)):
        epochs(sampler_of([replace(one, labels=one.labels[:50])], recipe(augment=PLAIN)), 3)


def test_a_crop_remembers_the_size_that_the_recording_has_shown() -> None:
    """Augmented crops are computed from their lead on; the running body length goes back to the recording's start."""
    plan = recipe(augment={"mirror": False, "rotate": False, "drop_points": 0.0, "shift_px": 1e-3})
    whole = task(replace(plan, features=replace(plan.features, scale="body", groups=("within_distance",))), [], [])
    growing = example("a", 3, 700)
    growing.keypoints[:] *= np.linspace(1, 3, 700, dtype=np.float32)[:, None, None, None]
    whole = replace(whole, training=[growing], validation=[growing])
    extractor = whole.feature_extractor()
    features = extractor.run(growing.keypoints, growing.confidence, plan.arena)
    for batch in epochs(CropSampler(whole, extractor), 2):
        for crop in batch.features:
            apart = np.nanmean(np.abs(features[:, 0] - crop[-1, 0])), np.nanmin(np.abs(features[:, 0] - crop[-1, 0]))
            assert apart[1] < 1e-3 < apart[0]


def test_a_random_scale_means_nothing_where_features_forget_it() -> None:
    with pytest.raises(SettingError, match=r"augment.scale changes nothing"):
        recipe(features={"scale": "body", "groups": ["speed"]}, augment={"scale": 0.1})
