"""Decoding candidates are counted as the metrics count them, and the choice keeps to its limit."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.config import DecodingSettings
from rtseg.evaluation.metrics import Video, macro_f1, score_head
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.study.candidates import candidate_table, choose_setting, decode, one_hot

HEAD = Head("h", ("a", "b", "c"), ("b", "c"), "h")
GRID = (DecodingSettings(), DecodingSettings(0.2, 3, 0), DecodingSettings(0.5, 20, 5))


def videos(seeds: range) -> list[Video]:
    """Noisy probabilities about bouts of some 40 frames, some frames masked."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        labels = np.repeat(rng.integers(0, 3, 12), 40).astype(np.int16)
        probs = 0.6 * np.eye(3)[labels] + rng.dirichlet(np.full(3, 0.4), len(labels))
        labels[rng.random(len(labels)) < 0.02] = IGNORE
        found.append(((probs / probs.sum(-1, keepdims=True)).astype(np.float32), labels))
    return found


@pytest.fixture(scope="module")
def some() -> list[Video]:
    return videos(range(4))


def test_counts_are_those_of_the_metrics(some: list[Video]) -> None:
    table = candidate_table(HEAD, some, GRID)
    everyone = range(len(some))
    for s, setting in enumerate(GRID):
        decoded = one_hot(HEAD, [decode(p, setting) for p, _ in some], [y for _, y in some])
        score = score_head(HEAD, decoded, 30.0)
        assert table.segmental_f1(everyone)[s] == pytest.approx(score.segmental_f1["50"])
        assert table.f1_lost(everyone)[s] == pytest.approx(macro_f1(HEAD, some) - score.macro_f1)
        np.testing.assert_array_equal(table.decoded(s, 1), decode(some[1][0], setting))
    assert table.f1_lost(everyone)[0] == 0  # the first candidate is argmax


def test_the_choice_costs_no_more_than_allowed_and_is_the_best_of_those(some: list[Video]) -> None:
    table = candidate_table(HEAD, some, GRID)
    everyone = range(len(some))
    loss, score = table.f1_lost(everyone), table.segmental_f1(everyone)
    for limit in (0.0, 0.01, 1.0):
        allowed = [s for s in range(len(GRID)) if loss[s] <= limit + 1e-12]
        assert choose_setting([table], everyone, limit) == max(allowed, key=lambda s: score[s])
    assert choose_setting([table], everyone, -2.0) == loss.argmin()  # nothing is that cheap


def test_the_choice_for_a_video_does_not_look_at_it(some: list[Video]) -> None:
    others = [1, 2, 3]
    poisoned = [(some[0][0], some[0][1][::-1].copy()), *some[1:]]
    assert choose_setting([candidate_table(HEAD, some, GRID)], others, 0.01) == choose_setting(
        [candidate_table(HEAD, poisoned, GRID)], others, 0.01
    )
