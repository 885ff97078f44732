"""The auxiliary task: poses half a second ahead, where they are known; and nothing of it left after training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rtseg.errors import SettingError
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import MICE7
from rtseg.model.base import SequenceModel
from rtseg.model.select import make_model
from rtseg.training.future_pose import FuturePose
from rtseg.training.loop import train
from tests.training.scenes import HEADS, example, recipe, task

FEATURES = FeatureSpec(groups=("speed", "center"), lags=(1,)).features(MICE7)
ROWS_PER_S = 12.0


def auxiliary(causal: bool = True) -> tuple[FuturePose, SequenceModel]:
    torch.manual_seed(0)
    model = make_model(recipe(model={"causal": causal}), len(FEATURES), HEADS)
    return FuturePose(model, FEATURES, 0.5, ROWS_PER_S), model


def test_the_loss_is_hubers_on_known_poses_half_a_second_ahead() -> None:
    (future_pose, model), rng = auxiliary(), np.random.default_rng(0)
    scaled = rng.normal(0, 2, (2, 30, len(FEATURES))).astype(np.float32)
    shift, scale = (rng.uniform(0.5, 2, len(FEATURES)).astype(np.float32) for _ in range(2))
    for name, value in (("shift", shift), ("scale", scale), ("clip", np.full(1, 50, np.float32))):
        model.weight(f"scaler.{name}").copy_(torch.from_numpy(value))
    features = scaled / scale + shift
    features[rng.random(features.shape) < 0.2] = np.nan
    hidden = rng.normal(size=(2, 30, 8)).astype(np.float32)
    assert future_pose.frames == 6
    centers = [i for i, f in enumerate(FEATURES) if f.group == "center"]
    assert future_pose.columns == centers
    weight, bias = (p.detach().numpy() for p in (future_pose.output.weight, future_pose.output.bias))
    costs = []
    for b in range(2):
        for t in range(30 - 6):
            guess = hidden[b, t] @ weight.T + bias
            for column, value in zip(centers, guess, strict=True):
                if not np.isnan(features[b, t + 6, column]):
                    error = abs(float(value - scaled[b, t + 6, column]))
                    costs.append(0.5 * error**2 if error < 1 else error - 0.5)
    found = future_pose(torch.from_numpy(hidden), torch.from_numpy(features), model)
    assert found.item() == pytest.approx(0.5 * np.mean(costs), rel=1e-4)


def test_it_changes_what_is_learned_and_leaves_no_weight_behind() -> None:
    def tensors(weight: float) -> dict[str, np.ndarray]:
        settings = recipe(train={"epochs": 1, "future_pose_weight": weight})
        return train(task(settings, [example("a", 1)], [example("c", 3, 200)])).tensors

    without, beside = tensors(0.0), tensors(1.0)
    assert set(without) == set(beside)
    assert any((without[name] != beside[name]).any() for name in without)


def test_a_network_that_sees_the_future_is_refused() -> None:
    with pytest.raises(SettingError, match="causal"):
        auxiliary(causal=False)


def test_without_pose_features_it_is_refused() -> None:
    model = make_model(recipe(), 14, HEADS)
    with pytest.raises(SettingError, match="feature group"):
        FuturePose(model, FeatureSpec(groups=("speed",), lags=(1,)).features(MICE7), 0.5, ROWS_PER_S)
