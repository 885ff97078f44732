"""From systems to rows and trainings: which of them the data can have, and the recipe of each.

`runs` trains what is planned here, `report` fills the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rtseg import config
from rtseg.config import ModelSettings, Recipe
from rtseg.errors import SettingError
from rtseg.paper.data import PaperData
from rtseg.paper.systems import (
    AUGMENTED,
    CAUSAL,
    FROM_CONSTANT,
    OURS,
    QUICK,
    SYMMETRIC,
    SYSTEMS,
    TABLES,
    Figures,
    PaperTable,
    Plain,
    System,
    merged,
)

LEFT_OUT = "left out by --only"
QUOTED = "quoted by the paper; not a system of its own"


@dataclass(frozen=True)
class Training:
    """One training run, without its seed. key: TABLE/SYSTEM, ending in -causal for the causal one where both are.

    searched: the system whose learning rate and weight decay it takes; "" = the recipe's. scored: on the test
    recordings; the trainings of the search are not.
    """

    key: str
    label: str
    tasks: tuple[int, ...]
    recipe: Recipe
    searched: str = ""
    scored: bool = True


@dataclass(frozen=True)
class TableRow:
    """One line of a table. training: its key; None = not trained, and absent says why. paper: None = not in the paper.

    form: `paper` as the paper had it, `causal`, `extra` (the paper's but for one thing), or `ours`.
    """

    table: str
    label: str
    form: str
    task: int
    paper: Figures | None
    training: str | None
    absent: str = ""


@dataclass(frozen=True)
class Options:
    """What the command line changes. recipe: of rtseg's own systems; only: TABLE, TABLE/SYSTEM or a training's key.

    frame_stride: as in PaperSettings.
    """

    recipe: Plain = field(default_factory=dict)
    only: tuple[str, ...] = ()
    epochs: int | None = None
    quick: bool = False
    overrides: tuple[str, ...] = ()
    frame_stride: int = 1


def plan(
    data: PaperData, options: Options, systems: Sequence[System] = SYSTEMS
) -> tuple[list[TableRow], list[Training]]:
    """The rows of all tables, and what must be trained for them, in the paper's order.

    Rows that the data cannot have, and those that `only` leaves out, say so and have no training. Raises SettingError
    for a name in `only` that is no table or row, and for settings that do not exist.
    """
    rows: list[TableRow] = []
    trainings: dict[str, Training] = {}
    names = set(TABLES)
    for name, system in ((name, system) for name in TABLES for system in systems if name in system.tables):
        for form, key, change in _forms(name, system):
            own_names = {name, f"{name}/{system.key}", key}
            names |= own_names
            wanted = not options.only or not own_names.isdisjoint(options.only)
            tasks = tuple(t for t in TABLES[name].trained if t in data.tasks)
            own_rows = _rows(name, system, form, key, tasks, data, wanted)
            rows += own_rows
            if any(row.training for row in own_rows):
                assert system.settings is not None
                recipe = _recipe(key, merged(system.settings, change), tasks, data, options)
                searched = system.key if system.searched is None else system.searched
                trainings[key] = Training(key, system.label, tasks, recipe, searched)
    unknown = [name for name in options.only if name not in names]
    if unknown:
        raise SettingError(f"--only {', '.join(unknown)}: no such table or row; there are {', '.join(sorted(names))}")
    return rows, list(trainings.values())


def sections(recipe: Recipe) -> Plain:
    """The sections of a user's recipe that rtseg's own systems use."""
    plain = config.to_plain(recipe)
    return {name: plain[name] for name in ("features", "scaler", "model", "augment", "train", "boosting")}


def _forms(table: str, system: System) -> list[tuple[str, str, Plain]]:
    """(form, key, change of settings) of every training of a system."""
    key = f"{table}/{system.key}"
    if not system.both:
        return [("ours" if system.ours else "extra" if system.extra else "paper", key, {})]
    first = "ours" if system.ours else "paper"
    return [(first, key, SYMMETRIC), ("ours" if system.ours else "causal", f"{key}-causal", CAUSAL)]


def _rows(
    table: str, system: System, form: str, key: str, tasks: tuple[int, ...], data: PaperData, wanted: bool
) -> list[TableRow]:
    """A row for each task that the table scores."""
    figures = system.paper.get(table, ()) if form == "paper" else ()
    found = []
    for place, task in enumerate(TABLES[table].scored):
        why = _why_absent(system, TABLES[table], task, tasks, data, wanted)
        paper = figures[place] if figures else None
        found.append(TableRow(table, system.label, form, task, paper, None if why else key, why))
    return found


def _why_absent(
    system: System, table: PaperTable, task: int, tasks: tuple[int, ...], data: PaperData, wanted: bool
) -> str:
    if task not in data.tasks:
        return f"no Task {task}: {data.absent[task]}"
    if system.settings is None:
        return QUOTED
    if len(table.trained) > 1 and len(tasks) < 2 and not system.ours:
        return "the data has one task; nothing can be trained together"
    return "" if wanted else LEFT_OUT


def _recipe(key: str, settings: Plain, tasks: tuple[int, ...], data: PaperData, options: Options) -> Recipe:
    """The recipe of one training. settings: of its system and form."""
    is_own = OURS in settings
    if is_own:
        plain = _own_settings(settings, tasks, data, options)
    else:
        plain = _paper_settings(settings, tasks, data, options)
    if options.quick:
        # The network of a user's recipe may be made of other parts than those that `QUICK` makes small.
        is_users_network = is_own and options.recipe and "kind" not in settings.get("model", {})
        quick = {name: values for name, values in QUICK.items() if name != "model" or not is_users_network}
        plain = merged(plain, quick)
    top = {"name": key, "dataset": data.name, "arena": list(data.arena)}
    recipe = config.from_plain({**plain, **top}, Recipe, options.overrides, where=f"recipe of {key}")
    # A cap: it never lengthens a training.
    if options.epochs is None or recipe.train.epochs <= options.epochs:
        return recipe
    capped = {**config.to_plain(recipe), "train": {**config.to_plain(recipe)["train"], "epochs": options.epochs}}
    return config.from_plain(capped, Recipe)


def _own_settings(settings: Plain, tasks: tuple[int, ...], data: PaperData, options: Options) -> Plain:
    """The user's recipe, or the defaults, changed by what a system of rtseg's own says of itself."""
    own = dict(options.recipe)
    plain: Plain = {name: values for name, values in settings.items() if name != OURS}
    if "kind" in plain.get("model", {}):
        own.pop("model", None)  # another kind has sizes of its own, sees every frame, and is trained in one piece
        plain = merged(plain, {"train": {"frame_stride": options.frame_stride, "apart": False}})
    whole = merged(own, plain)
    if whole.get("train", {}).get("select_group", "") not in {data.tasks[task] for task in tasks}:
        return merged(whole, {"train": {"select_group": ""}})  # a group that is not trained here
    return whole


def _paper_settings(settings: Plain, tasks: tuple[int, ...], data: PaperData, options: Options) -> Plain:
    """A system of the paper's, with what depends on the tasks' recordings, and on which frames it sees."""
    plain = settings
    if len(tasks) == 1 and data.n_training(tasks[0]) < max(map(data.n_training, data.tasks)):
        plain = merged(plain, AUGMENTED)
    if tasks != (1,):
        plain = merged(plain, FROM_CONSTANT)
    return merged(plain, _strided(plain["model"]["kind"], options.frame_stride))


def _strided(kind: str, stride: int) -> Plain:
    """What makes a network of the paper see every n-th frame alone, with windows as long as before."""
    if stride == 1:
        return {}
    if kind == "multitask-tcn":
        model = {"first_dilation": stride, "head_first_dilation": stride}
    else:
        # Its frames are every n-th one.
        usual = ModelSettings()
        sizes = ("window_frames", "window_stride", "attention_window")
        model = {name: max(1, getattr(usual, name) // stride) for name in sizes}
    return {"model": model, "train": {"frame_stride": stride}}
