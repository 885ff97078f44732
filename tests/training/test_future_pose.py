"""The auxiliary task: poses half a second ahead, where they are known; and nothing of it left after training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rtseg.config import TrainSettings
from rtseg.errors import SettingError
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import MICE7
from rtseg.model.select import make_model
from rtseg.training.future_pose import FuturePose
from rtseg.training.loop import train
from tests.training.scenes import HEADS, example, recipe

FEATURES = FeatureSpec(groups=("speed", "center"), lags=(1,)).features(MICE7)
SETTINGS = TrainSettings(future_pose_weight=0.5, future_pose_s=0.2)


def auxiliary(causal: bool = True) -> FuturePose:
    torch.manual_seed(0)
    model = make_model(recipe(model={"causal": causal}), len(FEATURES), HEADS)
    return FuturePose(model, FEATURES, SETTINGS, 30.0)


def test_the_loss_is_hubers_on_known_poses_some_frames_ahead() -> None:
    task, rng = auxiliary(), np.random.default_rng(0)
    scaled = rng.normal(0, 2, (2, 30, len(FEATURES))).astype(np.float32)
    features = scaled.copy()
    features[rng.random(features.shape) < 0.2] = np.nan
    hidden = rng.normal(size=(2, 30, 8)).astype(np.float32)
    assert task.frames == 6
    centers = [i for i, f in enumerate(FEATURES) if f.group == "center"]
    assert task.columns == centers
    weight, bias = (p.detach().numpy() for p in (task.output.weight, task.output.bias))
    costs = []
    for b in range(2):
        for t in range(30 - 6):
            guess = hidden[b, t] @ weight.T + bias
            for column, value in zip(centers, guess, strict=True):
                if not np.isnan(features[b, t + 6, column]):
                    apart = abs(float(value - scaled[b, t + 6, column]))
                    costs.append(0.5 * apart**2 if apart < 1 else apart - 0.5)
    found = task(torch.from_numpy(hidden), torch.from_numpy(scaled), torch.from_numpy(features))
    assert found.item() == pytest.approx(0.5 * np.mean(costs), rel=1e-4)


def test_it_changes_what_is_learned_and_leaves_no_weight_behind() -> None:
    def tensors(weight: float) -> dict[str, np.ndarray]:
        settings = recipe(train={"epochs": 1, "future_pose_weight": weight})
        return train(settings, MICE7, 30.0, HEADS, [example("a", 1)], [example("c", 3, 200)]).tensors

    without, beside = tensors(0.0), tensors(1.0)
    assert set(without) == set(beside)
    assert any((without[name] != beside[name]).any() for name in without)


def test_what_sees_the_future_need_not_guess_it() -> None:
    with pytest.raises(SettingError, match="causal"):
        auxiliary(causal=False)


def test_without_pose_features_there_is_nothing_to_guess() -> None:
    model = make_model(recipe(), 14, HEADS)
    with pytest.raises(SettingError, match="feature group"):
        FuturePose(model, FeatureSpec(groups=("speed",), lags=(1,)).features(MICE7), SETTINGS, 30.0)
