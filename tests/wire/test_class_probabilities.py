"""One head's probabilities: an array as before, and asked by a class's name."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.wire.class_probabilities import ClassProbabilities
from rtseg.wire.messages import PredictionMessage, parse_published

VALUES = np.array([0.25, 0.7, 0.05], np.float32)
CLASSES = ("attack", "mount", "other")


def test_it_is_asked_by_name_and_by_number() -> None:
    probs = ClassProbabilities.of(VALUES, CLASSES)
    assert probs["mount"] == probs[1] == np.float32(0.7)
    assert type(probs["mount"]) is float
    assert probs.items() == list(zip(CLASSES, VALUES.tolist(), strict=True))
    assert str(probs) == "{'attack': 0.25, 'mount': 0.7, 'other': 0.05}"
    with pytest.raises(KeyError, match="no class 'mont'; there are: attack, mount, other"):
        probs["mont"]


def test_it_is_an_array() -> None:
    probs = ClassProbabilities.of(VALUES, CLASSES)
    assert probs.tobytes() == VALUES.tobytes()
    assert np.concatenate([probs, probs]).shape == (6,)
    assert f"{probs.max():.2f}" == "0.70"
    assert type(probs.max()) is np.float32
    assert type(probs * 2) is np.ndarray
    assert probs.argmax() == 1
    assert probs[1:].classes == ()  # its numbers stand elsewhere


@pytest.mark.parametrize("classes", [{}, {"h": ("a", "b")}, {"other": CLASSES}])
def test_names_that_do_not_fit_are_not_used(classes: dict[str, tuple[str, ...]]) -> None:
    plain = {"v": 1, "stream": "s", "seq": 0, "t_source_ns": 0, "t_recv_ns": 0, "t_pub_ns": 0, "label": {}, "event": {}}
    plain |= {"probs": {"h": VALUES.tobytes()}, "unsure": [], "quality": 0, "model": ""}
    prediction = parse_published(plain, classes)
    assert isinstance(prediction, PredictionMessage)
    assert prediction.probs["h"].tolist() == VALUES.tolist()
    with pytest.raises(KeyError, match="names that are not known"):
        prediction.probs["h"]["a"]
