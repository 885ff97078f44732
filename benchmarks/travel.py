"""Whether models travel: to cameras of another rate or distance, to small data sets, to other places of the camera.

Three parts, each of which runs alone, resumes where it was stopped, and replaces its own section of the result:

    nice python benchmarks/travel.py rates --data ../shared/data --out runs/travel
    nice python benchmarks/travel.py small --data ../shared/data --out runs/travel
    nice python benchmarks/travel.py settings --data ../shared/data --out runs/travel
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from travel_rates import measure_rates, rates_page
from travel_settings import measure_settings, settings_page
from travel_small import ASKED, QUESTIONS, load_scene, small_page

from rtseg import config
from rtseg.bundle.bundle import MANIFEST, load_bundle
from rtseg.bundle.provenance import learnt_from_all
from rtseg.config import Recipe
from rtseg.evaluation.evaluate import without_nan
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.study.results import preamble
from rtseg.system.files import write_atomically, write_json_atomically
from rtseg.training.export import train_bundle

REPO = Path(__file__).parent.parent
RECIPE, DATASET = REPO / "engines" / "rats58.toml", REPO / "engines" / "rats58.dataset.toml"
SHIPPED = ("rats58", "rats58-delayed")
ONE_CELL = ("model.cells=[{encoder=104,hidden=120,period=2}]", "train.apart=false", "train.threads=1")
"""Of the recipe's three cells: three would take three times as long to train."""
FIRST_SEED = 5
WAYS = {
    "px": (),
    "body": ("features.scale=body",),
    "px-camera": ("augment.camera_rate=0.5",),
    "body-camera": ("features.scale=body", "augment.camera_rate=0.5"),
}
"""System -> what its recipe changes; `camera`: trained on crops of cameras of half the rate and more."""
TITLES = {
    "rates": "Cameras of another rate or distance",
    "small": "Small data sets",
    "settings": "Other places of the camera",
}


def main() -> None:
    """Measure a part and write the result anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=tuple(TITLES))
    parser.add_argument("--data", type=Path, required=True, help="folder with rats58, freezing, zebrafish2, mice7")
    parser.add_argument("--out", type=Path, required=True, help="where bundles, trainings and answers are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", help="of `small`: DATA or DATA:QUESTION; of `rates`: a system")
    parser.add_argument("--no-training", action="store_true", help="of `rates`: take the bundles that are there")
    parser.add_argument("--trials", type=Path, help="of `small`: a log of trials, a JSON object a line, for the result")
    parser.add_argument("--remark", action="append", default=[], help="a sentence below the part's title")
    parser.add_argument("--json", type=Path, default=REPO / "benchmarks" / "results" / "travel.json")
    options = parser.parse_args()
    measure = {"rates": rates, "small": small, "settings": settings}[options.part]
    part = preamble("travel", f"python benchmarks/travel.py {options.part} --data FOLDER --out FOLDER", "", False, 5)
    write_part(options.json, options.part, part | {"remarks": options.remark} | measure(options))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def rats58(options: argparse.Namespace) -> Dataset:
    return load_dataset(DATASET, options.data / "rats58")


def rates(options: argparse.Namespace) -> dict[str, Any]:
    """Bundles of every way and seed, trained where they are not there, and the shipped ones."""
    folders: dict[str, list[Path]] = {}
    for seed in range(options.seeds):
        for way, changes in WAYS.items():
            folder = options.out / "rats" / f"{way}-{seed}"
            folders.setdefault(way, []).append(folder)
            if options.no_training or (folder / MANIFEST).is_file():
                continue
            say(f"training {way}, seed {seed}")
            overrides = (*ONE_CELL, *changes, f"train.seed={FIRST_SEED + seed}")
            runs = folder.with_name(folder.name + ".run")
            train_bundle(RECIPE, folder, root=options.data / "rats58", overrides=overrides, runs=runs)
    # Of one that has learnt from the recordings that are scored, scores would say nothing.
    shipped = {name: [REPO / "engines" / name] for name in SHIPPED if not learnt_from_all(load_bundle(name))}
    bundles = folders | shipped
    chosen = {name: found for name, found in bundles.items() if not options.only or name in options.only}
    return measure_rates(rats58(options), "S1", chosen, options.out / "rates", say)


def small(options: argparse.Namespace) -> dict[str, Any]:
    """The questions that are asked of each data set."""
    data: dict[str, Any] = {}
    for text in options.only or ASKED:
        name, _, question = text.partition(":")
        scene = load_scene(options.data / name, options.out / "small-scenes")
        for asked in [question] if question else QUESTIONS:
            found = QUESTIONS[asked](scene, options.out / "small-runs" / name, options.seeds, say)
            data.setdefault(name, {})[asked] = found
    trials = options.trials.read_text(encoding="utf-8").splitlines() if options.trials else []
    return {"data": data, "trials": [json.loads(line) for line in trials]}


def settings(options: argparse.Namespace) -> dict[str, Any]:
    recipe = config.load_settings(RECIPE, Recipe, (*ONE_CELL, "train.bfloat16=true"))
    return measure_settings(recipe, rats58(options), options.out / "settings", say)


def write_part(file: Path, name: str, part: Mapping[str, Any]) -> None:
    """Put a part into FILE, in the place of the one that was there, and write the page of all parts beside it."""
    whole = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    whole[name] = without_nan(dict(part))
    whole = {key: whole[key] for key in TITLES if key in whole}
    write_json_atomically(file, whole)
    write_atomically(file.with_suffix(".md"), page(whole))


def page(whole: Mapping[str, Any]) -> str:
    """All parts in Markdown."""
    pages: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
        "rates": rates_page,
        "small": small_page,
        "settings": settings_page,
    }
    lines = ["# Models that travel"]
    for name, part in whole.items():
        where = part["machine"]
        about = f"{part['date']}, commit {part['commit'] or '-'}, {where['cpu']}, {where['cores_usable']} cores."
        lines += [f"## {TITLES[name]}", f"```\n{part['command']}\n```", about]
        lines += ["\n".join(f"- {remark}" for remark in part["remarks"])] if part.get("remarks") else []
        lines += pages[name](part)
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
