"""Every system on every data set, scored from out-of-fold answers alone (docs/leaderboard.md).

Any number of files that `rtseg crossvalidate` wrote, in any order. Labels are read from the data sets; a file that is
not wholly out of fold, or not about these recordings, ends the run before anything is written.

    python benchmarks/leaderboard.py runs/*/crossvalidate.*.safetensors --data engines/rats58.dataset.toml=FOLDER/rats58
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtseg.errors import RtsegError, SettingError
from rtseg.evaluation.bootstrap import RESAMPLES, interval_notes, resample
from rtseg.evaluation.evaluate import part_notes, without_nan
from rtseg.evaluation.out_of_fold import OutOfFold, check_out_of_fold, identify, read_out_of_fold
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.recordings.pairs import PairSource
from rtseg.study import compare
from rtseg.study.results import SCORE_COLUMNS, SIMULATED, interval, number, preamble, score_row, table
from rtseg.study.trials import read_splits
from rtseg.system.files import write_atomically, write_json_atomically

KIND = "Leaderboard"
READING = (
    "Every recording is answered by a fold that was not trained on it and did not choose its checkpoint by it; frames "
    "are pooled over recordings, argmax, nothing tuned. Labels were read from the data set, not from the files. Mean ± "
    "deviation over seeds; intervals: 95 %, bootstrap over recordings; `behind the first`: the difference from the "
    "first row, paired over recordings. A file's word on what its folds were trained on is believed "
    "(docs/leaderboard.md)."
)
BLOCKS = (
    "The recordings are blocks of time of one video: intervals and differences are over blocks, and say nothing of "
    "another animal, camera or day."
)
PAGE, NUMBERS = Path("benchmarks/leaderboard.md"), Path("benchmarks/results/leaderboard.json")


def main() -> None:
    """Read the files and the data sets; write the page and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", nargs="+", type=Path, help="crossvalidate.SYSTEM.safetensors")
    parser.add_argument("--data", action="append", required=True, help="DATASET.toml or DATASET.toml=ROOT (repeatable)")
    parser.add_argument("--split", default="train,validation", help="splits of every data set, joined by commas")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--remarks", type=Path, help="a text file, a remark a line, for the page")
    parser.add_argument("--out", type=Path, default=PAGE, help=f"the page ({PAGE})")
    parser.add_argument("--json", type=Path, default=NUMBERS, help=f"its numbers, and every recording's ({NUMBERS})")
    options = parser.parse_args()
    datasets = [open_dataset(text) for text in options.data]
    try:
        result = leaderboard(
            options.answers, datasets, options.split.split(","), options.resamples, command_of(options)
        )
    except RtsegError as error:
        sys.exit(f"error: {error}")
    if options.remarks:
        result["notes"] = options.remarks.read_text(encoding="utf-8").splitlines()
    for file in (options.json, options.out):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(options.json, result)
    write_atomically(options.out, page(result))


def command_of(options: argparse.Namespace) -> str:
    """The command without the folders of this machine."""
    data = [f"{Path(text.partition('=')[0]).name}=FOLDER" for text in options.data]
    files = dict.fromkeys(sorted(path.name for path in options.answers))
    words = [*files, *(word for one in data for word in ("--data", one))]
    remarks = ["--remarks", options.remarks.name] if options.remarks else []
    return shlex.join(["python", "benchmarks/leaderboard.py", *words, "--split", options.split, *remarks])


def leaderboard(
    files: Sequence[Path],
    datasets: Sequence[Dataset],
    splits: Sequence[str],
    resamples: int = RESAMPLES,
    command: str = "",
) -> dict[str, Any]:
    """Scores of all files' systems by data set and head. Neither their order nor that of `datasets` changes anything.

    Raises SettingError for a file that is refused, for a data set that is missing or given twice, and for two files of
    one system on one data set.
    """
    by_name = {dataset.name: dataset for dataset in datasets}
    if len(by_name) != len(datasets):
        raise SettingError("two of the data sets have the same name; give each once")
    found: dict[str, dict[str, tuple[Path, OutOfFold]]] = {}
    for path in files:
        answers = read_out_of_fold(path)
        if answers.dataset not in by_name:
            raise SettingError(f"{path} is about data set {answers.dataset!r}; name its file with --data")
        systems = found.setdefault(answers.dataset, {})
        if answers.system in systems:
            raise SettingError(
                f"{path} and {systems[answers.system][0]}: two files of system {answers.system!r} on "
                f"{answers.dataset!r}; give one, or cross-validate under another name"
            )
        systems[answers.system] = path, answers
    boards = {name: _board(by_name[name], systems, splits, resamples) for name, systems in sorted(found.items())}
    about = preamble(KIND, command, ", ".join(boards), any(b["simulated"] for b in boards.values()), 0)
    plain: dict[str, Any] = without_nan({**about, "notes": [], "splits": list(splits), "datasets": boards})
    return plain


def open_dataset(text: str) -> Dataset:
    path, _, root = text.partition("=")
    return load_dataset(Path(path), Path(root) if root else None)


def _board(
    dataset: Dataset, systems: Mapping[str, tuple[Path, OutOfFold]], splits: Sequence[str], resamples: int
) -> dict[str, Any]:
    """One data set's systems: what each is and costs, and for every head their scores, best first."""
    # By name, so that a resample draws the same videos whatever the order of the splits.
    examples = sorted(read_splits(dataset, splits), key=lambda example: example.name)
    data = identify(dataset.name, dataset.skeleton, dataset.fps, dataset.heads, examples)
    # All of them before anything is scored, which takes a while.
    for path, answers in systems.values():
        check_out_of_fold(answers, data, path)
    by_name = {name: answers for name, (_, answers) in sorted(systems.items())}
    scores = {
        name: compare.score_seeds(dataset.heads, examples, answers.probabilities, dataset.fps)
        for name, answers in by_name.items()
    }
    heads = {}
    for head in dataset.heads:
        own = {name: score["heads"][head.name] for name, score in scores.items()}
        # Every system is resampled once: held rows leave no frame without an answer, so all pairs have the same frames.
        drawn = {
            name: resample(compare.pooled_videos(head, dataset.heads, examples, answers.probabilities), head, resamples)
            for name, answers in by_name.items()
        }
        for name, entry in own.items():
            entry["interval"] = drawn[name].intervals()
        order = sorted(own, key=lambda name: (-_or_lowest(own[name]["f1"]["mean"]), name))
        heads[head.name] = {
            "order": order,
            "systems": own,
            "behind": {name: drawn[name].ahead_of(drawn[order[0]]) for name in order[1:]},
        }
    return {
        "hash": data.hash,
        "simulated": dataset.simulated,
        "blocks": blocks_of_one(dataset, [example.name for example in examples]),
        "notes": part_notes(dataset, splits),
        "recordings": len(examples),
        "frames": sum(map(len, examples)),
        "systems": {name: _facts(answers) for name, answers in by_name.items()},
        "heads": heads,
        "each": {name: score["videos"] for name, score in scores.items()},
    }


def blocks_of_one(dataset: Dataset, names: Sequence[str]) -> bool:
    """Whether all of these recordings are parts of one and the same."""
    parts = {name: part for source in dataset.sources if isinstance(source, PairSource)
             for name, part in source.parts.items()}  # fmt: skip
    return set(names) <= set(parts) and len({parts[name].recording for name in names}) == 1


def _facts(answers: OutOfFold) -> dict[str, Any]:
    """What a system is, and what it costs."""
    seconds = [cost.seconds for cost in answers.costs]
    cpu_seconds = [math.nan if cost.cpu_seconds is None else cost.cpu_seconds for cost in answers.costs]
    return {
        "recipe": answers.recipe,
        "causal": answers.causal,
        "lookahead_frames": answers.lookahead_frames,
        "seeds": list(answers.seeds),
        "folds": len(answers.folds),
        "seconds_per_training": sum(seconds) / len(seconds),
        "cpu_seconds_per_training": sum(cpu_seconds) / len(cpu_seconds),
        "multiply_adds": max(cost.multiply_adds for cost in answers.costs),
        "held_frames": sum(answers.held.values()),
    }


def _or_lowest(value: float) -> float:
    """NaN stands last."""
    return -math.inf if math.isnan(value) else value


def page(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    where = result["machine"]
    parts = [
        f"# {KIND}",
        f"```\n{result['command']}\n```",
        f"{result['date']}, commit {result['commit'] or '-'}, {where['cpu']}, {where['cores_usable']} cores.",
        READING,
        *(["\n".join(f"- {remark}" for remark in result["notes"])] if result["notes"] else []),
    ]
    for name, board in result["datasets"].items():
        parts.append(f"## {name}")
        if board["simulated"]:
            parts.append(f"**{SIMULATED}**")
        parts.append(
            f"{board['recordings']} recordings, {board['frames']} frames ({', '.join(result['splits'])}); data set "
            f"{board['hash'][:16]}."
        )
        # Of one video's blocks more is said than of parts of several.
        parts += [BLOCKS] if board["blocks"] else board["notes"]
        parts += interval_notes(board["recordings"])
        parts += [text for head in board["heads"] for text in _head_parts(head, board["heads"][head])]
        parts += ["### What they are and cost", _cost_table(board["systems"])]
    return "\n\n".join(parts) + "\n"


def _head_parts(head: str, scored: Mapping[str, Any]) -> list[str]:
    rows = []
    for name in scored["order"]:
        behind = scored["behind"].get(name)
        differences = [interval(behind[key], "difference") if behind else "" for key in ("f1", "map")]
        rows.append([*score_row(name, scored["systems"][name]), *differences])
    return [f"### {head}", table([*SCORE_COLUMNS, "behind the first: F1", "behind the first: mAP"], rows)]


def _cost_table(systems: Mapping[str, Any]) -> str:
    columns = (
        "system", "sees", "seeds", "folds", "processor s per training", "elapsed s", "multiply-adds per frame",
        "frames held", "recipe",
    )  # fmt: skip
    rows = []
    for name, facts in systems.items():
        delay = f", {facts['lookahead_frames']} frames late" if facts["lookahead_frames"] else ""
        rows.append(
            [
                name,
                ("the past" if facts["causal"] else "the future") + delay,
                str(len(facts["seeds"])),
                str(facts["folds"]),
                number(facts["cpu_seconds_per_training"], 1),
                number(facts["seconds_per_training"], 1),
                str(facts["multiply_adds"] or "-"),  # of trees, which only compare, there are none
                str(facts["held_frames"]),
                facts["recipe"][:12],
            ]
        )
    return table(columns, rows)


if __name__ == "__main__":
    main()
