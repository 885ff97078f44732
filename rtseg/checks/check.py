"""From a dataset or a recipe file to everything that is known of it before training: `rtseg check`.

Unlike training, it goes on after a file that cannot be read, so that a laboratory mends all of them at once; and it
reads every split, since a recording that stands in two of them is looked for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtseg import config
from rtseg.checks.findings import Finding, find_problems
from rtseg.checks.summary import DatasetSummary, RecordingSummary, summarize_item
from rtseg.config import Recipe
from rtseg.errors import RtsegError
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.recordings.dataset import Dataset, load_dataset


@dataclass(frozen=True, eq=False)
class DatasetReport:
    """What was found. findings: errors first. warnings: the readers', one line for each kind."""

    fps: float
    summary: DatasetSummary
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]

    @property
    def is_trainable(self) -> bool:
        """Whether nothing that was found is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_plain(self) -> dict[str, Any]:
        """As JSON takes it: per split and head the counts by class, and all findings."""
        summary = self.summary
        splits = {
            split: {
                "recordings": {recording.name: recording.n_frames for recording in recordings},
                "frames": sum(recording.n_frames for recording in recordings),
                "heads": {rule.head.name: _counts(summary, split, rule.head.name) for rule in summary.rules},
            }
            for split, recordings in summary.splits.items()
        }
        return {
            "dataset": summary.name,
            "fps": self.fps,
            "trainable": self.is_trainable,
            "splits": splits,
            "findings": [asdict(finding) for finding in self.findings],
            "warnings": list(self.warnings),
        }


def check_file(
    path: Path,
    root: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> DatasetReport:
    """The report on a dataset file, or on a recipe and the dataset that it names.

    root: replaces the dataset's own folder. overrides: of a recipe, as `--set` takes them. Raises SettingError for
    files that say something unknown or contradictory; whatever is wrong with recordings is a finding.
    """
    if not _is_recipe(path):
        return check_dataset(load_dataset(path, root), (), progress)
    recipe = config.load_settings(path, Recipe, overrides)
    dataset = load_dataset(path.parent / recipe.dataset, root)
    unused = [Finding("warning", sentence) for sentence in recipe.without_effect(overrides)]
    return check_dataset(dataset, [*check_recipe(recipe, dataset), *unused], progress, recipe.train.splits)


def check_dataset(
    dataset: Dataset,
    findings: Sequence[Finding] = (),
    progress: Callable[[str], None] = lambda _: None,
    learnt: Sequence[str] = ("train",),
) -> DatasetReport:
    """The report on all splits of a dataset. findings: what is known already, such as of its recipe.

    learnt: the splits that are trained on.
    """
    found = list(findings)
    splits: dict[str, list[RecordingSummary]] = {}
    for split in dataset.splits:
        splits[split] = []
        for item in dataset.items_or_errors(split):
            if isinstance(item, RtsegError):
                found.append(Finding("error", str(item)))
            else:
                progress(f"reading {split}: {item.recording.name}")
                splits[split].append(summarize_item(item))
    summary = DatasetSummary(dataset.name, dataset.skeleton, dataset.rules, splits, dataset.simulated)
    # Counts without the files that could not be read would make errors of what those files hold.
    if not any(finding.severity == "error" for finding in found[len(findings) :]):
        found += find_problems(summary.learning_from(learnt))
    found.sort(key=lambda finding: finding.severity != "error")
    return DatasetReport(dataset.fps, summary, tuple(found), tuple(dataset.warnings.summary()))


def check_recipe(recipe: Recipe, dataset: Dataset) -> list[Finding]:
    """What a recipe asks for that its dataset has not."""
    found = []
    if not recipe.model.becomes_bundle:
        found.append(Finding("warning", f"'rtseg train' refuses this recipe: {config.NO_BUNDLE}"))
    for problem in _recipe_errors(recipe, dataset):
        found.append(Finding("error", problem))
    return found


def _recipe_errors(recipe: Recipe, dataset: Dataset) -> Iterator[str]:
    for head in recipe.abstain:
        try:
            dataset.head(head)
        except RtsegError as error:
            yield f"abstain: {error}"
    groups = list(dict.fromkeys(head.group for head in dataset.heads))
    for split in recipe.train.splits:
        if split not in dataset.splits:
            yield f"train.splits: the dataset has the splits {', '.join(dataset.splits)}, not {split!r}"
    if recipe.train.select_group and recipe.train.select_group not in groups:
        yield f"train.select_group = {recipe.train.select_group!r} is no head group; there are: {', '.join(groups)}"
    try:
        FeatureExtractor(dataset.skeleton, FeatureSpec.from_settings(recipe.features), dataset.fps)
    except RtsegError as error:
        yield f"features: {error}"


def _is_recipe(path: Path) -> bool:
    """Whether a TOML file names a dataset, as recipes do. What cannot be read is left to the reader of datasets."""
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    return "dataset" in plain and "heads" not in plain


def _counts(summary: DatasetSummary, split: str, head: str) -> dict[str, Any]:
    rule = next(rule for rule in summary.rules if rule.head.name == head)
    counts = summary.counts(rule, split)
    return {
        "frames": dict(zip(rule.head.classes, counts.frames, strict=True)),
        "bouts": dict(zip(rule.head.classes, counts.bouts, strict=True)),
        "masked": dict(counts.masked),
        "recordings": counts.recordings,
        "recordings_with_labels": counts.labelled,
    }
