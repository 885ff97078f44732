"""The loop: the same seed gives the same bits, a killed run goes on as if nothing had been, and it does learn."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.config import Recipe, TrainSettings
from rtseg.errors import SettingError
from rtseg.model.select import network_spec
from rtseg.recordings.recording import IGNORE
from rtseg.training import checkpoint
from rtseg.training.crops import CropSampler
from rtseg.training.loop import TrainedNetwork, learning_rate_factor, train
from rtseg.training.selection import predict_probabilities, score_groups
from rtseg.training.task import Example, features_of
from tests.training.run_tiny import EPOCHS, run
from tests.training.scenes import HEADS, example, recipe, task

REPO = Path(__file__).parent.parent.parent


def bits(trained: TrainedNetwork) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in trained.tensors.items()}


def untimed(trained: TrainedNetwork) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in trained.history]


def train_tiny(plan: Recipe, folder: Path | None = None, validation: list[Example] | None = None) -> TrainedNetwork:
    return train(task(plan, [example("a", 1)], validation or [example("c", 3, 300)]), folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainedNetwork:
    return run(tmp_path_factory.mktemp("through"))


def test_the_same_seed_gives_the_same_bits_with_or_without_checkpoints(uninterrupted: TrainedNetwork) -> None:
    again = run(None)
    assert bits(again) == bits(uninterrupted)
    assert untimed(again) == untimed(uninterrupted)
    assert (again.score, again.epoch) == (uninterrupted.score, uninterrupted.epoch)


def test_another_seed_gives_other_weights() -> None:
    one, two = (train_tiny(recipe(train={"epochs": 1, "seed": seed})) for seed in (5, 6))
    assert bits(one) != bits(two)


def test_every_change_of_poses_and_time_at_once_trains_to_the_same_bits_again() -> None:
    changes = {
        "rotate": True, "mirror": True, "shift_px": 5.0, "noise_px": 0.5, "scale": 0.2, "drop_points": 0.05,
        "drop_animal": 0.05, "swap_points": 0.05, "swap_animals": 0.05, "rate": 0.2, "camera_rate": 0.5,
    }  # fmt: skip
    one, two, plain = (train_tiny(recipe(train={"epochs": 1}, augment=augment)) for augment in (changes, changes, {}))
    assert bits(one) == bits(two) != bits(plain)
    assert all(np.isfinite(tensor).all() for tensor in one.tensors.values())
    assert np.isfinite(one.score)


def test_a_run_killed_in_epoch_1_goes_on_bit_for_bit(uninterrupted: TrainedNetwork, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.training.run_tiny", str(tmp_path)],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        said = child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=60)
    assert said == "in epoch 1\n"
    assert child.returncode == -signal.SIGKILL
    assert (tmp_path / checkpoint.NAME).is_file()
    seen: list[int] = []
    resumed = run(tmp_path, lambda event: seen.append(event["epoch"]))
    assert min(seen) == 1  # epoch 0 was not done again
    assert bits(resumed) == bits(uninterrupted)
    assert untimed(resumed) == untimed(uninterrupted)
    assert (resumed.score, resumed.epoch) == (uninterrupted.score, uninterrupted.epoch)


def test_a_finished_run_is_not_done_again(uninterrupted: TrainedNetwork, tmp_path: Path) -> None:
    first = run(tmp_path)
    events: list[Any] = []
    assert bits(run(tmp_path, events.append)) == bits(first) == bits(uninterrupted)
    assert events == []


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train_tiny(recipe(train={"epochs": 1}), tmp_path)
    with pytest.raises(SettingError, match="another recipe"):
        train_tiny(recipe(train={"epochs": 1, "learning_rate": 0.02}), tmp_path)


def test_the_loss_falls_and_the_score_rises() -> None:
    plan = recipe(train={"epochs": 12, "ema": 0.9, "patience": 99})
    trained = train(task(plan, [example("a", 1, 1500), example("b", 2, 1500)], [example("c", 3, 800)]))
    losses = [entry["loss"] for entry in trained.history]
    assert losses[-1] < 0.75 * losses[0]
    assert trained.score > 0.7
    assert trained.score == max(entry["score"] for entry in trained.history)
    assert trained.epoch == max(trained.history, key=lambda entry: entry["score"])["epoch"]


def test_the_history_and_the_reports() -> None:
    events: list[dict[str, Any]] = []
    trained = run(None, events.append)
    steps = [event for event in events if "step" in event]
    assert [event["step"] for event in steps] == list(range(1, steps[-1]["steps"] + 1))
    assert [event for event in events if "score" in event] == trained.history
    assert [entry["epoch"] for entry in trained.history] == list(range(1, EPOCHS + 1))
    assert set(trained.history[0]["groups"]) == {"near", "pair"}
    assert trained.seconds > 0


def test_validation_examples_are_never_in_a_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real sampler, looked at: its examples are the training ones, and its crops come from their frames alone."""
    batches = []
    whole = CropSampler.epoch

    def watched(self: CropSampler, epoch: int) -> Any:
        for batch in whole(self, epoch):
            batches.append(batch)
            yield batch

    monkeypatch.setattr(CropSampler, "epoch", watched)
    one, other = example("a", 1), example("c", 3, 300)
    other.keypoints[..., 0] += 5000  # the validation animals are far outside the arena
    plan = recipe(
        features={"groups": ["position"]},
        augment={"rotate": False, "mirror": False, "drop_points": 0.0},
        train={"epochs": 2},
    )
    train(task(plan, [one], [other]))
    assert len(batches) >= 2
    largest = max(float(np.nanmax(batch.features)) for batch in batches)
    assert largest <= float(np.nanmax(one.keypoints)) - 300 + 1


def test_validation_has_no_influence_on_the_weights() -> None:
    plan = recipe(train={"epochs": 2, "evaluate_every": 2})
    one = train_tiny(plan, validation=[example("c", 3, 300)])
    two = train_tiny(plan, validation=[example("d", 4, 350)])
    assert bits(one) == bits(two)  # the last epoch is the only one that was scored
    assert one.score != two.score


def test_the_last_epoch_needs_nothing_held_out_and_is_the_same_without(tmp_path: Path) -> None:
    plan = recipe(train={"epochs": 2, "select": "last"})
    alone, beside = train(task(plan, [example("a", 1)], []), tmp_path), train_tiny(plan)
    assert bits(alone) == bits(beside)
    assert np.isnan(alone.score)
    assert np.isfinite(beside.score)
    assert [(entry["epoch"], entry["groups"]) for entry in alone.history] == [(1, {}), (2, {})]
    again = train(task(plan, [example("a", 1)], []), tmp_path)
    assert (bits(again), again.epoch, len(again.history)) == (bits(alone), 2, 2)


def test_training_stops_when_nothing_gets_better() -> None:
    plan = recipe(train={"epochs": 50, "patience": 2, "learning_rate": 0.0})
    trained = train_tiny(plan)
    assert len(trained.history) == 3  # the first is the best, two more bring nothing
    assert trained.epoch == 1


@pytest.mark.parametrize(("start", "evaluations"), [("start", 3), ("constant", 7)])
def test_a_network_that_has_learnt_nothing_has_reached_no_plateau(start: str, evaluations: int) -> None:
    """Nothing is better than a constant answer about a recording that shows one behaviour throughout."""
    validation = example("c", 3, 300)
    validation.labels[:] = IGNORE
    validation.labels[:, 0] = HEADS[0].classes.index(HEADS[0].scored[0])
    still = {"epochs": 7, "evaluate_every": 1, "patience": 2, "learning_rate": 0.0, "patience_from": start}
    assert len(train_tiny(recipe(train=still), validation=[validation]).history) == evaluations


def test_a_head_without_a_positive_validation_frame_does_not_spoil_the_choice() -> None:
    """Its group has no score; the others decide. A NaN must not leave the random start as the best weights."""
    validation = example("c", 3, 300)
    validation.labels[:, 0] = IGNORE
    trained = train_tiny(recipe(train={"epochs": 2}), validation=[validation])
    assert trained.epoch > 0
    assert np.isfinite(trained.score)


def test_validation_without_anything_to_score_is_an_error() -> None:
    validation = example("c", 3, 300)
    validation.labels[:] = IGNORE
    with pytest.raises(SettingError, match="validation"):
        train_tiny(recipe(train={"epochs": 1}), validation=[validation])


def test_a_training_that_diverges_says_so_at_once() -> None:
    with pytest.raises(SettingError, match=r"diverged: the loss is \w+ at batch \d+; lower train.learning_rate"):
        train_tiny(recipe(train={"epochs": 9, "learning_rate": 1e30, "evaluate_every": 9}))


@pytest.mark.parametrize("missing", ["training", "validation"])
def test_no_recordings_are_an_error(missing: str) -> None:
    some = {"training": [example("a", 1)], "validation": [example("c", 3)]} | {missing: []}
    with pytest.raises(SettingError, match="at least one training and one validation"):
        train(task(recipe(), some["training"], some["validation"]))


def test_a_lookahead_and_the_scaler_reach_the_weights() -> None:
    trained = train_tiny(recipe(train={"epochs": 1}, model={"lookahead_frames": 4}, scaler={"clip": 3.0}))
    assert trained.tensors["scaler.clip"].tolist() == [3.0]
    assert (trained.tensors["scaler.scale"] > 0).all()
    assert {n: t.shape for n, t in trained.tensors.items()} == trained.spec.shapes()
    for head in HEADS:
        assert (trained.tensors[f"head.{head.name}.calibration.scale"] == 1).all()
        assert (trained.tensors[f"head.{head.name}.calibration.shift"] == 0).all()


def test_the_network_that_a_recipe_asks_for() -> None:
    spec = network_spec(recipe().model, 17, HEADS)
    assert (spec.n_features, spec.channels, spec.head_channels, spec.kernel) == (17, 8, 4, 3)
    assert spec.dilations == (1, 2, 4)
    assert spec.head_dilations == (1, 2)
    assert spec.heads == HEADS


def test_the_learning_rates_schedule() -> None:
    settings = TrainSettings(warmup_steps=10)
    rates: NDArray[np.float64] = np.array([learning_rate_factor(step, settings, 100) for step in range(100)])
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates.max() == pytest.approx(1.0)
    assert (np.diff(rates[:10]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    constant = replace(settings, schedule="constant")
    assert [learning_rate_factor(step, constant, 100) for step in range(8, 100)] == [0.9] + [1.0] * 91


def test_an_epoch_of_so_many_batches_whatever_the_recordings() -> None:
    plan = recipe(train={"epochs": 2, "epoch_batches": 3})
    for frames in (300, 900):
        trained = train(task(plan, [example("a", 1, frames)], [example("c", 3, 300)]))
        assert [entry["batches"] for entry in trained.history] == [3, 6]
        assert trained.cpu_seconds > 0


@pytest.mark.parametrize("kind", ["lstm", "conv1d"])
def test_a_network_of_every_second_frame_is_scored_on_all_of_them(kind: str) -> None:
    plan = recipe(
        model={"kind": kind, "causal": False, "window_frames": 44, "channels": 8},
        train={"epochs": 1, "epoch_batches": 2, "frame_stride": 2},
    )
    held_out = example("c", 3, 301)
    one = task(plan, [example("a", 1)], [held_out])
    trained = train(one)
    features = features_of(held_out, one.feature_extractor(), plan)
    answers = predict_probabilities(trained.model, features, 0)
    assert np.isfinite(answers).all()
    # What one phase answers is what the network answers where it is given that phase alone.
    trained.model.phases = 1
    for phase in (0, 1):
        alone = predict_probabilities(trained.model, np.ascontiguousarray(features[phase::2]), 0)
        assert np.array_equal(answers[phase::2], alone)
    assert trained.history[-1]["groups"] == score_groups(HEADS, [held_out], [answers], 30.0)
