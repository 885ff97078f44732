"""The forward filter equals a slow version, looks at nothing that has not happened, and counts what labels show."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.recordings.recording import IGNORE
from rtseg.study import hmm


def probabilities(seed: int, n_frames: int, n: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet(np.ones(n), n_frames).astype(np.float32)


def naive(probs: NDArray[np.float32], model: hmm.Markov, weight: float, power: float) -> NDArray[np.float64]:
    n, out = len(model.prior), []
    belief = list(model.prior)
    for t, p in enumerate(probs):
        if t:
            belief = [sum(belief[i] * model.transition[i, j] for i in range(n)) for j in range(n)]
        belief = [b * (max(float(p[j]), hmm.FLOOR) / model.prior[j] ** power) ** weight for j, b in enumerate(belief)]
        belief = [b / sum(belief) for b in belief]
        out.append(belief)
    return np.array(out)


@pytest.fixture
def model() -> hmm.Markov:
    return hmm.Markov(np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9]]), np.array([0.6, 0.1, 0.3]))


@pytest.mark.parametrize(("weight", "power"), [(0.2, 1.0), (1.0, 0.0), (3.0, 0.5)])
def test_it_equals_the_slow_version_whatever_the_lengths(model: hmm.Markov, weight: float, power: float) -> None:
    videos = [probabilities(1, 40), probabilities(2, 25), probabilities(3, 1)]
    videos[0][3, 1] = 0.0
    for video, states in zip(videos, hmm.filtered(videos, model, weight, power), strict=True):
        np.testing.assert_allclose(states, naive(video, model, weight, power), rtol=1e-6)


def test_the_future_changes_no_earlier_bit(model: hmm.Markov) -> None:
    video = probabilities(4, 50)
    other = video.copy()
    other[30:] = probabilities(5, 20)
    one, two = (hmm.filtered([v], model, 0.5, 1.0)[0] for v in (video, other))
    np.testing.assert_array_equal(one[:30], two[:30])
    assert (one[30:] != two[30:]).any()


def test_what_is_counted() -> None:
    tracks = [np.array([0, 0, 1, IGNORE, 1, 1, 0], np.int16), np.array([1, 0], np.int16)]
    model = hmm.counted(tracks, 2)
    # Once more than seen: 0 -> 0 once, 0 -> 1 once, 1 -> 1 once, 1 -> 0 twice; nothing across the masked frame.
    np.testing.assert_allclose(model.transition, [[2 / 4, 2 / 4], [3 / 5, 2 / 5]])
    np.testing.assert_allclose(model.prior, [5 / 10, 5 / 10])
