"""The search: the same grid for all, on a system's first form, whatever else is trained; the best score wins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtseg.config import PaperSettings
from rtseg.errors import SettingError
from rtseg.paper.plan import Options, plan
from rtseg.paper.runs import Run
from rtseg.paper.search import NETWORKS, TREES, Candidate, candidates, choose, with_choice
from tests.paper.scenes import paper_data

SETTINGS = PaperSettings(search_epochs=2)
N_PLACES = 6


def searched(*only: str) -> list[Candidate]:
    return candidates(paper_data(), Options(only=only), SETTINGS)


def run(candidate: Candidate, score: float | None, why: str = "") -> Run:
    result: dict[str, Any] | None = None if score is None else {"validation_score": score}
    return Run(candidate.training, 0, Path(), "", result, why)


def test_every_system_is_searched_once_with_the_same_grid_and_budget() -> None:
    by_system: dict[str, list[Candidate]] = {}
    for candidate in searched():
        by_system.setdefault(candidate.system, []).append(candidate)
    assert set(by_system) == {t.searched for t in plan(paper_data(), Options())[1]} - {""}
    assert "ours" not in by_system
    for system, places in by_system.items():
        assert len(places) == N_PLACES
        recipes = [place.training.recipe for place in places]
        if system == "boosting":
            tried = {(r.boosting.learning_rate, r.boosting.min_child_weight) for r in recipes}
            assert tried == {(a, b) for a in TREES["learning_rate"] for b in TREES["min_child_weight"]}
            continue
        tried = {(r.train.learning_rate, r.train.weight_decay) for r in recipes}
        assert tried == {(a, b) for a in NETWORKS["learning_rate"] for b in NETWORKS["weight_decay"]}
        # Batches, as an epoch of recordings would be another number for every size of crop.
        assert {r.train.epochs * r.train.epoch_batches for r in recipes} == {400}
    assert not any(place.training.scored for places in by_system.values() for place in places)
    keys = [place.training.key for places in by_system.values() for place in places]
    assert len(set(keys)) == len(keys)


def test_what_is_searched_does_not_depend_on_what_else_is_trained() -> None:
    # Table III alone, its causal form: still the symmetric form of Table II, where the system stands first.
    alone = [c.training for c in searched("III/tcn-causal")]
    assert alone == [c.training for c in searched() if c.system == "tcn"]
    assert {t.tasks for t in alone} == {(1,)}
    assert not any(t.recipe.model.causal for t in alone)
    # A row that is the paper's but for one thing takes the paper's row's choice.
    assert {c.system for c in searched("II/tcn-standard")} == {"tcn"}


def test_no_search_for_rtsegs_own_recipe_or_where_none_is_wanted() -> None:
    assert searched("V/ours") == []
    assert candidates(paper_data(), Options(), PaperSettings(search_epochs=0)) == []


def test_a_setting_that_is_searched_cannot_be_given_as_well() -> None:
    given = Options(only=("I/lstm",), overrides=("train.learning_rate=0.1",))
    with pytest.raises(SettingError, match=r"paper\.search_epochs=0"):
        candidates(paper_data(), given, SETTINGS)
    assert candidates(paper_data(), given, replace(SETTINGS, search_epochs=0)) == []


def test_the_best_score_is_chosen_and_goes_into_every_form_and_table() -> None:
    places = searched("II/tcn", "III/tcn")
    scores = [0.1, 0.2, 0.6, 0.3, None, 0.6]
    found = choose(places, [run(c, s, "" if s else "failed") for c, s in zip(places, scores, strict=True)])
    # The third and the last are alike: the earlier one is taken.
    assert found["tcn"]["chosen"] == places[2].values
    assert (found["tcn"]["score"], found["tcn"]["at_edge"]) == (0.6, False)
    assert [t["score"] for t in found["tcn"]["tried"]] == scores
    for training in plan(paper_data(), Options(only=("II/tcn", "III/tcn", "II/tcn-standard")))[1]:
        changed = with_choice(training, found)
        assert changed is not None
        train = changed.recipe.train
        assert {"learning_rate": train.learning_rate, "weight_decay": train.weight_decay} == places[2].values
        assert train.epochs == training.recipe.train.epochs
        assert changed.scored


def test_nothing_is_chosen_before_the_whole_grid_was_tried() -> None:
    places = searched("I/lstm")
    waiting = [*(run(c, 0.5) for c in places[:-1]), Run(places[-1].training, 0, Path(), "")]
    found = choose(places, waiting)
    assert found["lstm"]["chosen"] is None
    [lstm] = plan(paper_data(), Options(only=("I/lstm-causal",)))[1]
    assert with_choice(lstm, found) is None


def test_settings_stay_where_every_training_of_the_search_failed() -> None:
    places = searched("I/lstm")
    found = choose(places, [run(c, None, "failed") for c in places])
    [lstm] = plan(paper_data(), Options(only=("I/lstm-causal",)))[1]
    unchanged = with_choice(lstm, found)
    assert unchanged is not None
    assert unchanged.recipe == lstm.recipe


def test_an_end_of_the_grid_is_said() -> None:
    places = searched("I/lstm")
    found = choose(places, [run(c, float(i)) for i, c in enumerate(places)])
    assert found["lstm"]["at_edge"]
