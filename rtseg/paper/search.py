"""The declared search: every system's learning rate and weight decay, chosen before its rows are trained.

One grid, one number of batches and one seed for all systems; the recordings that choose the epoch choose here too, and
the scored ones nothing. A system is searched in its first table and form; its other rows take what was chosen there.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rtseg import config
from rtseg.config import PaperSettings, Recipe
from rtseg.errors import SettingError
from rtseg.paper.data import PaperData
from rtseg.paper.plan import Options, Training, plan
from rtseg.paper.runs import Run

SEED = 0
NETWORKS: Mapping[str, tuple[float, ...]] = {"learning_rate": (7e-4, 2e-3, 6e-3), "weight_decay": (0.01, 0.1)}
TREES: Mapping[str, tuple[float, ...]] = {"learning_rate": (0.05, 0.15, 0.4), "min_child_weight": (5.0, 40.0)}
"""Trees have no decay of weights: the weight that a leaf must hold is what keeps them small."""


@dataclass(frozen=True)
class Candidate:
    """One place of the grid. section: of the recipe that `values` belong to."""

    system: str
    section: str
    values: Mapping[str, float]
    training: Training


def candidates(data: PaperData, options: Options, settings: PaperSettings) -> list[Candidate]:
    """The grid of every system that the rows of `options` need; none where `search_epochs` is 0.

    Raises SettingError where --set names what is searched.
    """
    if not settings.search_epochs:
        return []
    for override in options.overrides:
        if override.split("=")[0] in ("train.learning_rate", "train.weight_decay"):
            raise SettingError(f"--set {override}: it is searched for every system; give paper.search_epochs=0 as well")
    needed = {t.searched for t in plan(data, options)[1]} - {""}
    # Whatever --only leaves out: the choice must not depend on what else is trained in this run.
    first: dict[str, Training] = {}
    for training in plan(data, replace(options, only=()))[1]:
        # The first of its name, not of a system that only takes its choice.
        if training.searched == training.key.split("/")[1] and training.searched in needed:
            first.setdefault(training.searched, training)
    return [c for name, training in first.items() for c in _grid(name, training, settings.search_epochs)]


def choose(candidates: Sequence[Candidate], runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """System -> what was tried with its scores, and what was chosen; runs: of the candidates, in their order.

    chosen: {} where every candidate failed (the recipe then stays as it is), None where some are still to come.
    """
    found: dict[str, dict[str, Any]] = {}
    for candidate, run in zip(candidates, runs, strict=True):
        entry = found.setdefault(candidate.system, {"section": candidate.section, "tried": [], "chosen": {}})
        score = (run.result or {}).get("validation_score")
        entry["tried"].append({**candidate.values, "score": score, "why": run.why})
        if run.to_come:
            entry["chosen"] = None
    for entry in found.values():
        scored = [t for t in entry["tried"] if t["score"] is not None]
        if entry["chosen"] is None or not scored:
            continue
        # The earlier one of two that are equal: the same results give the same choice on every machine.
        best = max(scored, key=lambda t: t["score"])
        entry["chosen"] = {name: value for name, value in best.items() if name not in ("score", "why")}
        entry["score"] = best["score"]
        grid = NETWORKS if entry["section"] == "train" else TREES
        rates = grid["learning_rate"]
        entry["at_edge"] = best["learning_rate"] in (min(rates), max(rates))
    return found


def with_choice(training: Training, found: Mapping[str, Mapping[str, Any]]) -> Training | None:
    """The training with its system's choice; None while that is still to come."""
    entry = found.get(training.searched)
    if entry is None:
        return training
    if entry["chosen"] is None:
        return None
    return replace(training, recipe=_with_values(training.recipe, entry["section"], entry["chosen"]))


def _grid(name: str, training: Training, epochs: int) -> list[Candidate]:
    trees = training.recipe.model.is_trees
    section, grid = ("boosting", TREES) if trees else ("train", NETWORKS)
    short = training.recipe if trees else _with_values(training.recipe, "train", {"epochs": epochs})
    found = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        key = "/".join(("search", name, *(f"{what}={value:g}" for what, value in chosen.items())))
        recipe = _with_values(short, section, chosen)
        found.append(Candidate(name, section, chosen, replace(training, key=key, recipe=recipe, scored=False)))
    return found


def _with_values(recipe: Recipe, section: str, values: Mapping[str, float]) -> Recipe:
    plain = config.to_plain(recipe)
    return config.from_plain({**plain, section: {**plain[section], **values}}, Recipe)
