"""Scaling: it finds what was done to the logits, never makes its own data worse, and a temperature keeps the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.evaluation.logit_scaling import LARGEST, METHODS, Scaling, fit_scaling


def drawn(rng: np.random.Generator, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their softmax."""
    z = rng.normal(0, 2, (n, n_classes))
    p = Scaling(np.ones(n_classes), np.zeros(n_classes)).probabilities(z).astype(np.float64)
    labels = (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(0, n_classes - 1)
    return z, labels.astype(np.int16)


def loss(scaling: Scaling, z: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(np.maximum(scaling.probabilities(z)[np.arange(len(z)), labels], 1e-30)).mean())


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_a_temperature_is_found_again(factor: float) -> None:
    z, labels = drawn(np.random.default_rng(0), 20_000, 4)
    found = fit_scaling(z * factor, labels)
    np.testing.assert_allclose(found.scale * factor, np.ones(4), rtol=0.03)
    assert (found.shift == 0).all()


def test_a_vector_scaling_is_found_again() -> None:
    z, labels = drawn(np.random.default_rng(1), 30_000, 3)
    done = Scaling(np.array([0.5, 1.5, 1.0]), np.array([1.0, -0.5, 0.0]))
    found = fit_scaling(z * done.scale + done.shift, labels, "vector")
    back = found.probabilities(z * done.scale + done.shift)
    np.testing.assert_allclose(back, Scaling(np.ones(3), np.zeros(3)).probabilities(z), atol=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(METHODS), st.integers(2, 6), st.floats(0.2, 5))
def test_no_method_makes_its_own_data_worse(seed: int, method: str, n_classes: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    z, labels = drawn(rng, 200, n_classes)
    z = z * factor + rng.normal(0, 1, n_classes)
    plain, found = Scaling(np.ones(n_classes), np.zeros(n_classes)), fit_scaling(z, labels, method)
    assert loss(found, z, labels) <= loss(plain, z, labels) + 1e-6
    if method == "vector":
        assert loss(found, z, labels) <= loss(fit_scaling(z, labels), z, labels) + 1e-6
    again = fit_scaling(z, labels, method)
    assert again.scale.tobytes() == found.scale.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1 / LARGEST, LARGEST))
def test_a_temperature_never_changes_the_best_class(seed: int, scale: float) -> None:
    z = np.random.default_rng(seed).normal(0, 2, (50, 4))
    p = Scaling(np.full(4, scale), np.zeros(4)).probabilities(z)
    np.testing.assert_array_equal(p[np.arange(50), z.argmax(1)], p.max(1))


def test_a_class_that_was_never_seen_keeps_the_temperature() -> None:
    z, labels = drawn(np.random.default_rng(2), 2000, 4)
    kept = labels != 2
    found, temperature = (fit_scaling(z[kept], labels[kept], method) for method in ("vector", "temperature"))
    assert found.scale[2] == pytest.approx(temperature.scale[2])
    assert found.shift[2] == 0


def test_labels_that_have_nothing_to_do_with_the_logits_give_a_scale_at_its_end() -> None:
    rng = np.random.default_rng(3)
    found = fit_scaling(rng.normal(0, 50, (500, 3)), rng.integers(0, 3, 500).astype(np.int16))
    assert found.scale[0] == pytest.approx(1 / LARGEST, rel=0.01)
