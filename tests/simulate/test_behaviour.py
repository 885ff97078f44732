"""The semi-Markov process against CalMS21's true Task 1 test labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.recordings.bouts import bouts_of
from rtseg.simulate.behaviour import (
    AGGRESSIVE,
    AGGRESSIVE_SHARE,
    ATTACK,
    CALM,
    INVESTIGATION,
    MOUNT,
    OTHER,
    Temperament,
    draw_labels,
    temperament_of,
)

Sequences = dict[str, list[NDArray[np.int64]]]
SEEN = [(AGGRESSIVE, ATTACK), (AGGRESSIVE, INVESTIGATION), (AGGRESSIVE, OTHER)] + [
    (CALM, label) for label in (INVESTIGATION, MOUNT, OTHER)
]


@pytest.fixture(scope="module")
def true_sequences(data_root: Path) -> Sequences:
    """The 19 true label sequences by temperament: aggressive where attack occurs."""
    path = data_root / "calms21" / "calms21_task1_test_labels.csv"
    if not path.is_file():
        pytest.skip(f"no true labels at {path}")
    rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64)
    sequences = [rows[rows[:, 0] == number, 1] for number in np.unique(rows[:, 0])]
    return {
        "aggressive": [s for s in sequences if (s == ATTACK).any()],
        "calm": [s for s in sequences if not (s == ATTACK).any()],
    }


@pytest.fixture(scope="module")
def simulated_sequences() -> Sequences:
    """Enough for steady statistics: three hours of each temperament."""
    rng = np.random.default_rng(11)
    return {
        temperament.name: [draw_labels(rng, 13_000, temperament).astype(np.int64) for _ in range(25)]
        for temperament in (AGGRESSIVE, CALM)
    }


def lengths(sequences: list[NDArray[np.int64]], label: int) -> NDArray[np.float64]:
    return np.array([stop - start for s in sequences for start, stop, other in bouts_of(s) if other == label], float)


def shares(sequences: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    pooled = np.concatenate(sequences)
    return np.bincount(pooled, minlength=4) / len(pooled)


@pytest.mark.parametrize(("temperament", "label"), SEEN)
def test_the_bout_length_constants_are_those_of_the_true_labels(
    true_sequences: Sequences, temperament: Temperament, label: int
) -> None:
    true = lengths(true_sequences[temperament.name], label)
    constants = temperament.lengths[label]
    assert constants.mu == pytest.approx(np.log(true).mean(), abs=1e-3)
    assert constants.sigma == pytest.approx(np.log(true).std(), abs=1e-3)
    assert constants.longest == true.max()


@pytest.mark.parametrize("temperament", [AGGRESSIVE, CALM])
def test_the_transition_counts_are_those_of_the_true_labels(
    true_sequences: Sequences, temperament: Temperament
) -> None:
    counts = np.zeros((4, 4), int)
    for sequence in true_sequences[temperament.name]:
        steps = [bout.label for bout in bouts_of(sequence)]
        np.add.at(counts, (steps[:-1], steps[1:]), 1)
        assert steps[0] == OTHER
    np.testing.assert_array_equal(counts, temperament.transitions)


def test_the_share_of_aggressive_sequences_is_the_true_one(true_sequences: Sequences) -> None:
    n_aggressive = len(true_sequences["aggressive"])
    assert n_aggressive / (n_aggressive + len(true_sequences["calm"])) == AGGRESSIVE_SHARE


@pytest.mark.parametrize(("temperament", "label"), SEEN)
def test_simulated_bouts_are_as_long_as_the_true_ones(
    true_sequences: Sequences, simulated_sequences: Sequences, temperament: Temperament, label: int
) -> None:
    """Within 25 % in median and mean: the true lengths are no exact log-normals."""
    true, simulated = (lengths(s[temperament.name], label) for s in (true_sequences, simulated_sequences))
    assert len(simulated) > 100
    assert np.median(simulated) == pytest.approx(np.median(true), rel=0.25)
    assert simulated.mean() == pytest.approx(true.mean(), rel=0.25)


@pytest.mark.parametrize("temperament", [AGGRESSIVE, CALM])
def test_simulated_shares_are_the_true_ones(
    true_sequences: Sequences, simulated_sequences: Sequences, temperament: Temperament
) -> None:
    """Within 0.04 of all frames for every class."""
    true, simulated = (shares(s[temperament.name]) for s in (true_sequences, simulated_sequences))
    np.testing.assert_allclose(simulated, true, atol=0.04)


def test_a_calm_resident_never_attacks(simulated_sequences: Sequences) -> None:
    assert shares(simulated_sequences["calm"])[ATTACK] == 0


@pytest.mark.parametrize("n", [2, 4, 19, 70])
def test_attack_comes_in_few_sequences_but_in_some(n: int) -> None:
    aggressive = sum(temperament_of(i) is AGGRESSIVE for i in range(n))
    assert aggressive >= 1
    assert abs(aggressive - n * AGGRESSIVE_SHARE) <= 0.5 + 1e-9
