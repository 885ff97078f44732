"""benchmarks/leaderboard.py: the scores of `rtseg.evaluation`, whatever the files' order; a refused file ends it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from leaderboard import NUMBERS, PAGE, leaderboard, main, page
from leaderboard_blocks import write_block_project

from rtseg.errors import SettingError
from rtseg.evaluation.bootstrap import resample
from rtseg.evaluation.metrics import score_head
from rtseg.evaluation.out_of_fold import Fold, OutOfFold, TrainingCost, identify, write_out_of_fold
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.study.trials import read_splits
from rtseg.training.task import Example
from tests.conftest import REPO
from tests.study.scenes import read_json, write_dataset

SPLITS = ("train", "validation")
RESAMPLES = 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(write_dataset(tmp_path_factory.mktemp("data")).parent / "dataset.toml")


@pytest.fixture(scope="module")
def examples(dataset: Dataset) -> list[Example]:
    return sorted(read_splits(dataset, SPLITS), key=lambda example: example.name)


def answers(system: str, skill: float, dataset: Dataset, examples: list[Example], n_seeds: int = 1) -> OutOfFold:
    """A system that knows the labels as far as its skill says, and is random for the rest; it claims honest folds."""
    data = identify(dataset.name, dataset.skeleton, dataset.fps, dataset.heads, examples)
    names = sorted(data.recordings)
    rng = np.random.default_rng(sum(map(ord, system)))
    probabilities = tuple(
        {
            e.name: (skill * np.eye(4)[e.labels[:, 0]] + (1 - skill) * rng.dirichlet(np.ones(4), len(e))).astype("f4")
            for e in examples
        }
        for _ in range(n_seeds)
    )
    return OutOfFold(
        system=system,
        recipe="0123456789abcdef" * 4,
        causal=system != "sees-all",
        lookahead_frames=3 if system == "late" else 0,
        dataset=data.name,
        dataset_hash=data.hash,
        columns=tuple(f"task1.{name}" for name in dataset.heads[0].classes),
        seeds=tuple(range(n_seeds)),
        folds=(Fold(tuple(names[1::2]), ()), Fold(tuple(names[0::2]), ())),
        fold_of={name: number % 2 for number, name in enumerate(names)},
        hashes={name: one.hash for name, one in data.recordings.items()},
        held=dict.fromkeys(names, 3 if system == "late" else 0),
        costs=tuple(TrainingCost(seed, fold, 10.0 + fold, 500) for seed in range(n_seeds) for fold in (0, 1)),
        frames={name: np.arange(one.n_frames) for name, one in data.recordings.items()},
        probabilities=probabilities,
    )


@pytest.fixture(scope="module")
def systems(dataset: Dataset, examples: list[Example]) -> list[OutOfFold]:
    return [
        answers("late", 0.2, dataset, examples),
        answers("chance", 0.0, dataset, examples),
        answers("sees-all", 0.5, dataset, examples, n_seeds=2),
    ]


@pytest.fixture(scope="module")
def files(systems: list[OutOfFold], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    paths = [tmp_path_factory.mktemp(one.system) / "answers.safetensors" for one in systems]
    for one, path in zip(systems, paths, strict=True):
        write_out_of_fold(one, path)
    return paths


def test_scores_are_those_of_evaluation_best_first(
    dataset: Dataset, examples: list[Example], systems: list[OutOfFold], files: list[Path]
) -> None:
    board = leaderboard(files, [dataset], SPLITS, RESAMPLES)["datasets"]["two mice"]
    scored = board["heads"]["task1"]
    assert scored["order"] == ["sees-all", "late", "chance"]
    videos = {
        one.system: [(by_name[e.name], e.labels[:, 0]) for e in examples for by_name in one.probabilities[:1]]
        for one in systems
    }
    head = dataset.heads[0]
    both_seeds = [
        (np.concatenate([by_name[e.name] for by_name in systems[2].probabilities]), np.tile(e.labels[:, 0], 2))
        for e in examples
    ]
    for name in ("late", "chance"):
        expected, found = score_head(head, videos[name], dataset.fps), scored["systems"][name]
        assert found["f1"]["mean"] == pytest.approx(expected.macro_f1, abs=1e-6)
        assert found["map"]["mean"] == pytest.approx(expected.mean_average_precision, abs=1e-6)
        assert found["segmental_f1_50"]["mean"] == pytest.approx(expected.segmental_f1["50"], abs=1e-6)
        # Of the first row's two seeds both count, for the pair as for its own interval.
        own, first = (resample(some, head, RESAMPLES) for some in (videos[name], both_seeds))
        assert scored["systems"]["sees-all"]["interval"]["f1"]["value"] == pytest.approx(first.f1, abs=1e-6)
        for metric, ours, theirs in (("f1", own.f1_in, first.f1_in), ("map", own.map_in, first.map_in)):
            low, high = np.percentile(ours - theirs, [2.5, 97.5])
            assert scored["behind"][name][metric]["low"] == pytest.approx(low, abs=1e-6)
            assert scored["behind"][name][metric]["high"] == pytest.approx(high, abs=1e-6)
            assert scored["behind"][name][metric]["high"] < 0
    assert "sees-all" not in scored["behind"]
    assert board["systems"]["late"] == {
        "recipe": "0123456789abcdef" * 4, "causal": True, "lookahead_frames": 3, "seeds": [0], "folds": 2,
        "seconds_per_training": 10.5, "cpu_seconds_per_training": None, "multiply_adds": 500, "held_frames": 24,
    }  # fmt: skip


def test_the_order_of_files_changes_nothing(dataset: Dataset, files: list[Path]) -> None:
    first, *others = (leaderboard(list(order), [dataset], SPLITS, 5) for order in itertools.permutations(files))
    for other in others:
        assert other["datasets"] == first["datasets"]
        assert page({**other, "date": ""}) == page({**first, "date": ""})


def test_the_command_writes_a_page_and_all_numbers(
    dataset: Dataset, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, numbers, toml = tmp_path / "new" / "board.md", tmp_path / "numbers.json", dataset.root / "dataset.toml"
    remarks = tmp_path / "remarks.txt"
    remarks.write_text("late: chosen on these recordings\n")
    words = [*map(str, files), "--data", f"{toml}={dataset.root}", "--resamples", "20", "--remarks", str(remarks)]
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", *words, "--out", str(out), "--json", str(numbers)])
    main()
    result, text = read_json(numbers), out.read_text()
    assert page(result) == text
    assert str(tmp_path.parent) not in text + numbers.read_text()
    assert "--data dataset.toml=FOLDER" in result["command"]
    assert "\n- late: chosen on these recordings\n" in text
    assert "**These recordings or labels are simulated" in text
    assert "| late | the past, 3 frames late | 1 | 2 | - | 10.5 | 500 | 24 | 0123456789ab |" in text
    assert "| sees-all | the future | 2 |" in text
    rows = [line for line in text.splitlines() if line.startswith("| chance |")]
    assert len(rows) == 2
    assert rows[0].count("[") == 4  # both scores, and both differences from the first


def leak(one: OutOfFold) -> OutOfFold:
    """Fold 0 trains on one of its own."""
    (own, *_) = [name for name, fold in one.fold_of.items() if fold == 0]
    return replace(one, folds=(Fold((*one.folds[0].trained_on, own), ()), one.folds[1]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (leak, "fold 0 answers what it was trained on or chosen by: train/00"),
        (lambda one: replace(one, fold_of={n: f for n, f in one.fold_of.items() if n != "train/00"}), "train/00"),
        (lambda one: replace(one, dataset="three mice"), "about data set 'three mice'; name its file with --data"),
        (lambda one: replace(one, system="chance"), "two files of system 'chance' on 'two mice'"),
        (lambda one: replace(one, dataset_hash="f" * 64), "expected hash"),
    ],
)
def test_a_refused_file_ends_it(
    change: Callable[[OutOfFold], OutOfFold],
    reason: str,
    dataset: Dataset,
    systems: list[OutOfFold],
    files: list[Path],
    tmp_path: Path,
) -> None:
    bad = tmp_path / "bad.safetensors"
    write_out_of_fold(change(systems[0]), bad)
    with pytest.raises(SettingError, match=rf"bad\.safetensors.*{reason}"):
        leaderboard([*files[1:], bad], [dataset], SPLITS, RESAMPLES)


def test_answers_to_some_of_the_splits_are_not_answers_to_all(dataset: Dataset, files: list[Path]) -> None:
    with pytest.raises(SettingError, match="answers to what the data set has not: validation/05"):
        leaderboard(files, [dataset], ["train"], RESAMPLES)
    with pytest.raises(SettingError, match="two of the data sets have the same name"):
        leaderboard(files, [dataset, dataset], SPLITS, RESAMPLES)


def test_the_page_that_is_there_is_made_from_its_numbers() -> None:
    assert page(read_json(REPO / NUMBERS)) == (REPO / PAGE).read_text(encoding="utf-8")


def test_mice7s_part_is_made_from_the_answers_that_are_there(data_root: Path, tmp_path: Path) -> None:
    recipe = write_block_project(data_root / "mice7", tmp_path / "blocks")
    dataset = load_dataset(recipe.parent / "mice7.dataset.toml")
    files = sorted((REPO / "benchmarks" / "results" / "leaderboard").glob("crossvalidate.*.safetensors"))
    kept, found = read_json(REPO / NUMBERS), leaderboard(files, [dataset], ("train",))
    assert set(found["datasets"]["mice7"]["systems"]) >= {"init", "gradient-boosting", "constant", "xgboost"}
    assert_near(found["datasets"]["mice7"], kept["datasets"]["mice7"])


def assert_near(found: object, kept: object) -> None:
    """Equal, but for the last digits of numbers."""
    if isinstance(found, dict) and isinstance(kept, dict):
        assert found.keys() == kept.keys()
        for key in found:
            assert_near(found[key], kept[key])
    elif isinstance(found, float):
        assert found == pytest.approx(kept, abs=1e-5)
    else:
        assert found == kept
