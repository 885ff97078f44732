"""The model card: what the manifest holds stands in it, simulated is said loudly, and shipped bundles have one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from rtseg.bundle.bundle import Bundle, load_bundle, save_bundle
from rtseg.bundle.model_card import CARD, model_card, write_card
from rtseg.evaluation.evaluate import evaluate, manifest_scores
from rtseg.inference.classifier import Classifier
from rtseg.recordings.dataset import Dataset
from tests.conftest import REPO
from tests.evaluation.test_evaluate import dataset, folder

__all__ = ["dataset", "folder"]  # fixtures: two simulated recordings with labels of task1


@pytest.fixture(scope="module")
def scored(tiny_bundle: Path, dataset: Dataset) -> Bundle:
    bundle = replace(load_bundle(tiny_bundle), abstain_below={"task1": 0.6})
    scores = manifest_scores(evaluate(Classifier(bundle), dataset))
    training = {f"video {i}": "0" * 16 for i in range(3)}
    provenance = {"dataset": "two mice", "training": training, "validation": {"v": "1" * 16}, "description": "Mice."}
    return replace(bundle, scores={"validation": scores}, provenance=provenance)


def test_what_was_measured_stands_in_it(scored: Bundle) -> None:
    card, scores = model_card(scored), scored.scores["validation"]
    for head, score in scores["heads"].items():
        interval = scores["intervals"][head]["f1"]
        assert f"{score['macro_f1']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]" in card
        for label, of in score["classes"].items():
            assert f"| {head} | {label} | " in card
            assert f" {of['frames']:,} |" in card
    assert "3 recordings trained on: video 0, video 1, video 2" in card
    assert "task1 below 0.6" in card
    assert "Not calibrated" in card
    assert "What it must not be used for" in card
    assert "None" not in card
    assert "nan" not in card
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert len(tables) > 10
    assert all(line.endswith("|") for line in tables)


def test_simulated_is_said_first_and_last(scored: Bundle) -> None:
    assert "SIMULATED" not in model_card(scored)
    card = model_card(replace(scored, simulated=True))
    assert card.splitlines()[4].startswith("**SIMULATED.")
    assert "- Anything about real animals." in card


def test_it_says_truly_whether_held_out_recordings_chose_anything(scored: Bundle) -> None:
    assert "The validation recordings chose the epoch" in model_card(scored)
    last = {**scored.provenance, "recipe": {"train": {"select": "last", "epochs": 9}}}
    card = model_card(replace(scored, provenance=last))
    assert "1 recording held out (the last of 9 epochs was taken): v." in card
    assert "The validation recordings chose nothing in training." in card
    assert "chose the" not in card


def test_a_calibrated_one_says_with_what(scored: Bundle) -> None:
    about = {"dataset": "two mice", "split": "validation", "method": "vector", "videos": {"a": "0", "b": "1"}}
    card = model_card(replace(scored, provenance={**scored.provenance, "calibration": about}))
    assert "Calibrated (vector scaling) on 2 recordings of `two mice`, split `validation`" in card


def test_a_bundle_without_scores_has_a_card_too(tiny_bundle: Path, tmp_path: Path) -> None:
    save_bundle(load_bundle(tiny_bundle), tmp_path)
    path = write_card(tmp_path)
    assert path == tmp_path / CARD
    assert path.read_text(encoding="utf-8").startswith("# tiny\n")
    load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["rats58", "mice-sim"])
def test_shipped_bundles_load_and_their_cards_can_be_written(name: str) -> None:
    bundle = load_bundle(REPO / "engines" / name)
    card = model_card(bundle)
    assert re.search(rf"^# {name}$", card, re.MULTILINE)
    assert ("SIMULATED" in card) == bundle.simulated
