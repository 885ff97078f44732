"""benchmarks/leaderboard_blocks.py and baseline_answers.py: blocks with margins, honest answers on the same folds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import leaderboard_blocks
import numpy as np
import pytest
from baseline_answers import CONSTANT, baseline, constant_answer
from leaderboard import leaderboard
from leaderboard_blocks import BLOCKS, answer_blocks, write_block_project

from rtseg.config import Recipe, load_settings
from rtseg.evaluation.out_of_fold import check_out_of_fold, identify, read_out_of_fold
from rtseg.project.split import MARGIN_S
from rtseg.project.write import network_file
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.pairs import PairSource
from rtseg.recordings.recording import IGNORE
from rtseg.study.trials import read_splits
from rtseg.training.task import Example
from tests.project.scenes import regular_bouts, write_boris, write_poses

HEADS = (Head("a", ("other", "one", "two"), ("one", "two"), "a"), Head("b", ("no", "yes"), ("yes",), "b"))


def labelled(name: str, a: list[int], b: list[int]) -> Example:
    n = len(a)
    return Example(
        name, np.zeros((n, 1, 1, 2), "f4"), np.zeros((n, 1, 1), "f4"), np.stack((a, b), axis=1).astype(np.int16)
    )


def test_the_constant_answer_is_the_scored_class_that_most_training_frames_show() -> None:
    training = [labelled("u", [0, 0, 0, 1, 2, 2], [0, 0, IGNORE, 0, 0, 1]), labelled("v", [1, 2], [0, 0])]
    answer = constant_answer(training, HEADS)
    assert answer[:3].argmax() == 2, "other is not scored, two is in more frames than one"
    assert answer[3:].argmax() == 1
    np.testing.assert_allclose([answer[:3].sum(), answer[3:].sum()], 1, rtol=1e-6)
    # Folds with other shares give the same numbers: frames of two folds must not be ranked by them.
    assert answer.tobytes() == constant_answer(training[:1], HEADS).tobytes()


def test_blocks_of_a_video_on_a_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xgboost")
    video = tmp_path / "lab" / "mouse"
    video.mkdir(parents=True)
    write_poses(video / "video.csv")
    write_boris(video / "video_events.csv", regular_bouts())
    out = tmp_path / "out"
    recipe = write_block_project(video, out)
    assert write_block_project(video, out).read_bytes() == recipe.read_bytes()
    dataset = load_dataset(out / "mouse.dataset.toml")
    assert dataset.ids("train") == tuple(f"block-{i}" for i in range(BLOCKS))
    (source,) = dataset.sources
    assert isinstance(source, PairSource)
    spans = sorted((part.from_frame, part.to_frame or 0) for part in source.parts.values())
    margins = [later - stop for (_, stop), (later, _) in pairwise(spans)]
    assert set(margins) == {round(MARGIN_S * dataset.fps)}

    monkeypatch.setattr(leaderboard_blocks, "FOLDS", 2)
    text = recipe.read_text()
    epochs = load_settings(recipe, Recipe).train.epochs
    network_file(recipe).write_text(
        text.replace(f"epochs = {epochs}", "epochs = 1").replace("encoder = 64, hidden = 64", "encoder = 4, hidden = 4")
        + "\n[boosting]\ntrees = 2\nwindows_s = [0.5]\n"
    )
    # As `rtseg init` writes both for few labels of one animal.
    recipe.write_text(
        f'name = "trees"\ndataset = "{dataset.name}.dataset.toml"\narena = [0.0, 0.0, 640.0, 480.0]\n'
        '[model]\nkind = "gradient-boosting"\n[boosting]\ntrees = 2\nwindows_s = [0.5]\n[train]\nselect = "last"\n'
    )
    answer_blocks(recipe, out, 1, (CONSTANT,))
    files = sorted(out.glob("crossvalidate.*.safetensors"))
    examples = sorted(read_splits(dataset, ("train",)), key=lambda example: example.name)
    data = identify(dataset.name, dataset.skeleton, dataset.fps, dataset.heads, examples)
    found = {}
    for file in files:
        answers = read_out_of_fold(file)
        check_out_of_fold(answers, data, file)
        assert len(answers.folds) == 2
        assert all(cost.cpu_seconds is not None for cost in answers.costs)
        found[answers.system] = answers
    assert set(found) == {"init", "init-network", "gradient-boosting", CONSTANT}
    again = baseline(CONSTANT, dataset, examples, found["init"])
    assert all((again.probabilities[0][n] == p).all() for n, p in found[CONSTANT].probabilities[0].items())

    board = leaderboard(files, [dataset], ("train",), 20)["datasets"]["mouse"]
    assert board["blocks"]
    (head,) = dataset.heads
    labels = np.concatenate([example.labels[:, 0] for example in examples])
    share = (labels == head.classes.index("sniff")).mean()
    scores = board["heads"][head.name]["systems"][CONSTANT]
    assert scores["map"]["mean"] == pytest.approx(share, abs=1e-6)
    assert scores["f1"]["mean"] == pytest.approx(2 * share / (1 + share), abs=1e-6)
