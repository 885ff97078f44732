"""What a trigger watches: its conditions on a model's outputs, and the value that they give together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.config import TriggerSettings
from rtseg.errors import SettingError
from rtseg.inference.predictions import Predictions
from rtseg.recordings.heads import Head, output_offsets

TRIGGER, HEAD, NEGATE = range(3)
"""Places in a condition's row."""


def condition_arrays(
    triggers: Mapping[str, TriggerSettings], heads: tuple[Head, ...]
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """conditions (C, 3), chosen (C, P) and outputs (2, P), see `rule.TriggerArrays`. Raises SettingError."""
    offsets, names = output_offsets(heads), [head.name for head in heads]
    conditions, chosen = [], []
    for r, (name, trigger) in enumerate(triggers.items()):
        for condition in trigger.conditions:
            if condition.head not in names:
                raise SettingError(
                    f"triggers.{name}: the model has no head {condition.head!r}; it has: {', '.join(names)}"
                )
            h = names.index(condition.head)
            classes = heads[h].classes
            unknown = sorted(set(condition.behaviours) - set(classes))
            if unknown:
                raise SettingError(
                    f"triggers.{name}: head {condition.head!r} has no behaviour {', '.join(unknown)}; "
                    f"it has: {', '.join(classes)}"
                )
            row = np.zeros(offsets[-1], np.uint8)
            row[[offsets[h] + classes.index(behaviour) for behaviour in condition.behaviours]] = 1
            conditions.append((r, h, int(condition.negate)))
            chosen.append(row)
    head_at = np.repeat(np.arange(len(heads)), np.diff(offsets))
    outputs = np.stack([head_at, np.arange(offsets[-1]) - np.array(offsets)[head_at]]).astype(np.int64)
    # Shaped explicitly: a file of yoked triggers has no conditions.
    rows = np.array(conditions, np.int64).reshape(-1, 3)
    return rows, np.array(chosen, np.uint8).reshape(-1, offsets[-1]), outputs


@njit(cache=False)
def watched_value(
    n: int,
    r: int,
    probs: NDArray[np.float32],
    labels: NDArray[np.int16],
    as_numbers: tuple[int, int],
    conditions: NDArray[np.int64],
    chosen: NDArray[np.uint8],
    outputs: NDArray[np.int64],
) -> float:
    """The value in [0, 1] that trigger r watches in row n; a bout counts as 1. NaN where a probability is.

    as_numbers: its needs_all and uses_probability.
    """
    needs_all, uses_probability = as_numbers
    combined, is_first = 0.0, True
    for c in range(len(conditions)):
        if conditions[c, TRIGGER] != r:
            continue
        value = 0.0
        for p in range(probs.shape[1]):
            if chosen[c, p]:
                if uses_probability:
                    value += probs[n, p]
                elif labels[n, outputs[0, p]] == outputs[1, p]:
                    value = 1.0
        # Rounding may bring a sum of probabilities just above one.
        value = min(value, 1.0)
        if conditions[c, NEGATE]:
            value = 1.0 - value
        # One that is not known leaves `all` unknown, and `any` to the others.
        if needs_all:
            is_stronger = value < combined or math.isnan(value)
        else:
            is_stronger = value > combined or math.isnan(combined)
        if is_first or is_stronger:
            combined = value
        is_first = False
    return combined


def watched_values(predictions: Predictions, trigger: TriggerSettings) -> NDArray[np.float64]:
    """The value (T,) that a trigger compares with its thresholds, for pictures and for choosing them."""
    arrays = condition_arrays({"": trigger}, predictions.heads)
    as_numbers = int(trigger.combine == "all"), int(trigger.source == "probability")
    values = np.zeros(len(predictions))
    _fill_values(predictions.probs, predictions.labels, as_numbers, *arrays, values)
    return values


@njit(cache=True)
def _fill_values(
    probs: NDArray[np.float32],
    labels: NDArray[np.int16],
    as_numbers: tuple[int, int],
    conditions: NDArray[np.int64],
    chosen: NDArray[np.uint8],
    outputs: NDArray[np.int64],
    values: NDArray[np.float64],
) -> None:
    for n in range(len(values)):
        values[n] = watched_value(n, 0, probs, labels, as_numbers, conditions, chosen, outputs)
