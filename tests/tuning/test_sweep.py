"""What is tried of a trigger, and that trying it is what `trigger try` does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rtseg.bundle.bundle import load_bundle
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.recording import Recording, clean
from rtseg.triggers.trial import score_trial, try_triggers
from rtseg.tuning.sweep import Example, candidates, sweep, with_candidate
from tests.conftest import REPO
from tests.triggers.test_rule import FPS, trigger
from tests.triggers.test_trial import predictions


def test_thresholds_and_durations_of_different_frames_and_the_file_s_last() -> None:
    tried = candidates(trigger(on=0.8, off=0.6), FPS)
    assert tried[-1] == type(tried[-1])(0.8, 0.6, 0.0)
    assert len(set(tried)) == len(tried)
    assert all(0 <= c.off <= c.on <= 1 for c in tried)
    # At 10 frames per second 0 s and 0.1 s are one frame both.
    assert sorted({round(c.min_duration_s * FPS) for c in tried}) == [0, 2, 4, 5, 8, 10]
    assert all(abs(c.off - 0.75 * c.on) < 1e-3 for c in tried)


def test_a_trigger_on_bouts_has_durations_only() -> None:
    assert {(c.on, c.off) for c in candidates(trigger(source="bout"), FPS)} == {(0.8, 0.6)}


def test_every_candidate_gets_the_score_of_its_trial() -> None:
    bundle = replace(load_bundle(REPO / "engines" / "rats58"), fps=FPS)
    rng = np.random.default_rng(0)
    examples = []
    for name in ("a", "b"):
        clip = Recording(name, MICE7, *clean(np.full((200, 2, 7, 2), np.nan), None), FPS)
        truth = (np.sin(np.arange(200) / 9) > 0.3).astype(np.int8)
        values = np.clip(truth * 0.6 + rng.random(200) * 0.4, 0, 1).tolist()
        examples.append(Example(clip, predictions(values), {"laser": truth}))
    chosen = trigger(on=0.8, off=0.6, pulse_s=0.3)
    tried = candidates(chosen, FPS)[::20]
    scores = sweep("laser", chosen, tried, examples, bundle)
    for example, row in zip(examples, scores, strict=True):
        for candidate, score in zip(tried, row, strict=True):
            one = {"laser": with_candidate(chosen, candidate)}
            trial = try_triggers(one, example.predictions, example.recording, bundle)
            assert score == score_trial(trial, "laser", example.truth["laser"])
    assert len({score.hits for score in scores[0]}) > 1
