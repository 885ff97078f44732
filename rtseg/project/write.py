"""The dataset file and the recipe of a project as text, with a comment wherever a reader would ask why."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rtseg import config
from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.project.proposal import HeadCounts, Project
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.heads import HeadRule
from rtseg.system.files import write_atomically

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 110


def file_names(name: str, out: Path) -> tuple[Path, Path]:
    """The dataset file and the recipe of a project called `name`."""
    return out / f"{name}.dataset.toml", out / f"{name}.toml"


def network_file(recipe: Path) -> Path:
    """The recipe of a network, beside one of boosted trees."""
    return recipe.with_name(f"{recipe.stem}-network.toml")


def check_free(name: str, out: Path) -> None:
    """Raise SettingError where a file of that name is there: what somebody has edited is never overwritten."""
    dataset, recipe = file_names(name, out)
    there = [str(path) for path in (dataset, recipe, network_file(recipe)) if path.exists()]
    if there:
        raise SettingError(f"{' and '.join(there)}: there already; name another project (--name) or folder (--out)")


def write_project(project: Project, out: Path) -> tuple[Path, Path]:
    """Write both files into the folder `out` and read them back; the paths of dataset file and recipe.

    Where labels are few, the latter is of boosted trees, and one of a network stands beside it (`network_file`). Raises
    SettingError where one of them is there already.
    """
    check_free(project.name, out)
    dataset, recipe = file_names(project.name, out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(dataset, dataset_text(project, out).encode())
    write_atomically(recipe, recipe_text(project).encode())
    if project.sizes.is_of_few_labels:
        write_atomically(network_file(recipe), network_text(project).encode())
        config.load_settings(network_file(recipe), Recipe)
    # What cannot be read back would fail in the next command, without a word about its origin.
    load_dataset(dataset)
    config.load_settings(recipe, Recipe)
    return dataset, recipe


def dataset_text(project: Project, out: Path) -> str:
    """The dataset file. Its root is relative to `out`, so that the folder may be moved as a whole."""
    root = os.path.relpath(project.root, out.absolute())
    if root.startswith(os.pardir):  # which leads elsewhere where a folder on the way is a link
        root = os.path.relpath(project.root.resolve(), out.resolve())
    root = Path(root).as_posix()
    said = "" if project.fps_said else "  # assumed: no file says it"
    lines = [
        "# Which recordings and labels belong together, what is learnt from them, and what is held out.",
        "# Written by `rtseg init`; every key is explained in docs/dataset.md. `rtseg check` says what is in it.",
        "",
        f"name = {_text(project.name)}",
        f"root = {_text(root)} # of the paths below, from the folder of this file",
        f"fps = {project.fps:g}{said}",
        "",
        *_skeleton(project),
        "",
        *_recordings(project),
        *_parts(project),
    ]
    for rule, counts in zip(project.rules, project.counts, strict=True):
        lines += [*_head(project, rule, counts), ""]
    return "\n".join([*lines, *_split(project)]) + "\n"


def _skeleton(project: Project) -> list[str]:
    skeleton = project.body.skeleton
    lines = ["[skeleton]", *_list("animals", skeleton.animals), *_list("keypoints", skeleton.keypoints)]
    if skeleton.axis:
        lines.append(f"axis = {_values(skeleton.axis)} # rear, front: the animals' heading")
    elif len(skeleton.keypoints) > 1:
        lines.append('# axis = ["REAR", "FRONT"] # two points that give the animals\' heading')
    if skeleton.pairs:
        pairs = ", ".join(_values(pair) for pair in skeleton.pairs)
        lines.append(f"pairs = [{pairs}] # left, right: they trade places in a mirror")
    elif len(skeleton.keypoints) > 1:
        lines.append("# pairs = [] # (left, right) points, if there are any: they trade places in a mirror")
    if skeleton.edges:
        lines.append(f"edges = [{', '.join(_values(edge) for edge in skeleton.edges)}] # what pictures draw")
    return lines


def _recordings(project: Project) -> list[str]:
    lines = []
    for pattern in project.patterns:
        lines += ["[[recordings]]", f"poses = {_text(pattern.poses)}", f"labels = {_text(pattern.labels)}"]
        if len(project.pairs) > 1:
            lines.append("# Listed, so that other files in the same folder never slip into training.")
        lines += _list("ids", pattern.ids)
        if project.track_names:
            names = ", ".join(f"{_text(own)} = {_text(name)}" for own, name in project.track_names.items())
            lines.append(f"tracks = {{ {names} }} # some label files write them so")
        if project.counting.first_frame:
            lines.append(f"first_frame = {project.counting.first_frame} # frames in the label tables count from it")
        if project.counting.last_included:
            lines.append("last_included = true # a bout's stop is its last frame")
        lines.append("")
    return lines


def _parts(project: Project) -> list[str]:
    if not project.split.parts:
        return []
    lines = [
        "# Parts of recordings, frames from 0, the last one not included. Between a part to train on and one that is",
        "# held out some frames are left out: neighbours are nearly the same. Move the borders as you like.",
    ]
    for part in project.split.parts:
        lines += ["[[parts]]", f"id = {_text(part.id)}", f"recording = {_text(part.recording)}"]
        lines += [f"from_frame = {part.from_frame}", f"to_frame = {part.to_frame}", ""]
    return lines


def _head(project: Project, rule: HeadRule, counts: HeadCounts) -> list[str]:
    head = rule.head
    frames = {name: counts.train[name] + counts.validation[name] for name in head.classes}
    lines = [
        f"# Frames: {', '.join(f'{name} {n}' for name, n in frames.items())}; {counts.masked} without a label.",
        f"[heads.{_key(head.name)}]",
        f"track = {_text(rule.track or head.name)}",
        *_list("classes", head.classes),
    ]
    if head.scored != head.classes:
        lines.append(f"scored = {_values(head.scored)} # their mean is the head's score")
    reason = project.reasons.get(head.name)
    if rule.unlabelled:
        lines.append(f"# Frames without a label are negatives: {reason}.")
        lines.append(
            f"unlabelled = {_text(rule.unlabelled)} # without this line they are neither trained on nor scored"
        )
    elif reason is not None:
        lines.append(f"# Frames without a label are neither trained on nor scored: {reason}.")
        lines.append(f"# unlabelled = {_text(head.classes[0])} # with this line they would be negatives")
    if rule.rename:
        names = ", ".join(f"{_text(written)} = {_text(label)}" for written, label in rule.rename.items())
        lines.append(f"rename = {{ {names} }} # some label files write them so")
    if rule.ignore:
        lines.append(f"ignore = {_values(rule.ignore)} # too rare to be learnt and tested: their frames are masked")
    if rule.missing_ok:
        lines.append('missing = "mask" # some files do not have this track: their frames are masked')
    return lines


def _split(project: Project) -> list[str]:
    split = project.split
    return [
        "# Held out: what scores are measured on, and what `rtseg calibrate` uses. The model learns nothing from it.",
        "[split]",
        *_list("train", split.train),
        *_list("validation", split.validation),
    ]


def recipe_text(project: Project) -> str:
    """The recipe, of boosted trees where labels of one animal are few: what differs from the defaults, with why."""
    return _trees_text(project) if project.sizes.is_of_few_labels else network_text(project)


def network_text(project: Project) -> str:
    """The recipe of a network."""
    sizes = project.sizes
    name = network_file(Path(f"{project.name}.toml")).stem if sizes.is_of_few_labels else project.name
    if sizes.needs_arena:
        why = "features of position count from its middle"
    else:
        why = "no feature here needs it; mirrored copies are turned about its middle"
    lines = [
        "# A small network that trains in minutes, to see whether it works. docs/recipe.md says what to change then.",
        f"#   rtseg train {name}.toml --out {name}-model",
        "",
        *_origin(project, name, why),
        "[features]",
        *_groups(project),
        *_list("groups", sizes.groups),
        *_motion_and_scale(project),
        "",
        "[model]",
        "# One recurrent cell in the place of convolutions: the best for its time on small sets of recordings.",
        "layers = 0",
        "head_layers = 0",
        "head_channels = 0",
        f"cells = [{{ encoder = {sizes.encoder}, hidden = {sizes.hidden}, period = {sizes.period} }}]",
        "dropout = 0.3",
        "lookahead_frames = 0 # a few frames of delay make answers better; 0 = at once",
        *_order(project),
        "",
        "[augment]",
        *_mirror(project),
        "",
        "[train]",
        f"epochs = {sizes.epochs}",
        f"evaluate_every = {sizes.evaluate_every}",
        f"batch = {sizes.batch}",
        f"frame_stride = {sizes.period} # every so many-th frame is trained on, every one is answered",
        f"crop_frames = {sizes.crop_frames}",
        f"warmup_frames = {sizes.warmup_frames}",
        'select = "last" # the held-out recordings choose nothing, so their scores are those of new ones',
        "learning_rate = 3e-3",
        "weight_decay = 0.1",
        "label_smoothing = 0.05",
        f"class_weight_power = {sizes.class_weight_power:g}",
        "smoothing = 0.0",
        "ema = 0.99",
        "threads = 1 # the same numbers on any machine",
        "",
        *_decoding(project),
    ]
    return "\n".join(lines) + "\n"


def _trees_text(project: Project) -> str:
    network = network_file(Path(f"{project.name}.toml"))
    lines = [
        "# Boosted trees, which train in seconds, to see whether it works. docs/recipe.md says what to change then.",
        f"#   rtseg train {project.name}.toml --out {project.name}-model",
        f"# From more labels a network learns more; that of {network} may be ahead already. Block by block",
        "# of what is labelled, which one is:",
        f"#   rtseg crossvalidate {project.name}.toml --against {network} --out {project.name}-trees-or-network",
        "",
        *_origin(project, project.name, "nothing here needs it"),
        "[features]",
        'groups = ["speed"] # of every point: with more, trees learn one animal\'s shape and place by heart',
        "",
        "[model]",
        'kind = "gradient-boosting" # serves on the engine numba, and needs no XGBoost there',
        "lookahead_frames = 0 # a few frames of delay make answers better; 0 = at once",
        "",
        "[boosting]",
        "windows_s = [0.5] # mean, deviation, minimum and maximum of every speed over the last so many seconds",
        "trees = 400 # rounds at most",
        "depth = 3",
        "learning_rate = 0.05",
        "",
        "[train]",
        'select = "last" # stretches of the training recordings choose the rounds, and held-out ones nothing',
        "class_weight_power = 0",
        "threads = 1",
        "",
        *_decoding(project),
    ]
    return "\n".join(lines) + "\n"


def _origin(project: Project, name: str, arena_why: str) -> list[str]:
    """The keys at the top of a recipe."""
    heads = ", ".join(rule.head.name for rule in project.rules)
    behaviours = ", ".join(dict.fromkeys(label for rule in project.rules for label in rule.head.scored))
    arena = ", ".join(f"{edge:.1f}" for edge in project.body.arena)
    return [
        f"name = {_text(name)}",
        f"description = {_text(f'{behaviours} ({heads}); made by rtseg init.')} # a sentence for the bundle's users",
        f"dataset = {_text(f'{project.name}.dataset.toml')}",
        f"arena = [{arena}] # px x0, y0, x1, y1, from the poses: {arena_why}",
        "",
    ]


def _decoding(project: Project) -> list[str]:
    return [
        "[decoding]",
        "# From probabilities to bouts. `rtseg study decoding` finds better numbers once the model is trained.",
        f"min_bout_frames = {project.sizes.min_bout_frames}",
        "settle_margin = 0.3",
        f"settle_frames = {project.sizes.settle_frames}",
    ]


def _groups(project: Project) -> list[str]:
    if project.sizes.needs_arena:
        return ["# An animal of one point has no heading: where it is, how it moves, and how far the others are."]
    lines = ['# What does not depend on where the camera stands. Add "position" where the place in the arena matters.']
    if not project.sizes.has_shape:
        lines.append('# Once there are more labels, or where postures tell: "within_distance", "egocentric_self".')
    return lines


def _motion_and_scale(project: Project) -> list[str]:
    lines = []
    if project.sizes.motion == "roots":
        lines.append('motion = "roots" # of speeds: still and slow then differ as much as slow and fast')
    else:
        lines.append('# motion = "roots" # of speeds: where standing still, or moving slowly, tells behaviours apart')
    if project.sizes.windows_s:
        seconds = ", ".join(f"{s:g}" for s in project.sizes.windows_s)
        lines.append(
            f"windows_s = [{seconds}] # of every speed also the mean and the largest of the last so many seconds"
        )
    if len(project.body.skeleton.keypoints) > 1:
        lines.append(
            '# scale = "body" # the same answers however near the camera is (docs/scale.md says what it costs)'
        )
    return lines


def _order(project: Project) -> list[str]:
    if not 1 < len(project.body.skeleton.animals) <= 4:
        return []
    if project.sizes.forget_order:
        return ["forget_order = true # the animals' numbers mean nothing: the same answer whoever is called the first"]
    return ["# forget_order = true # where it does not matter which animal does it, and where trackers mix them up"]


def _mirror(project: Project) -> list[str]:
    skeleton = project.body.skeleton
    return [
        "mirror = true # twice the recordings, where left and right do not matter"
        + ("" if skeleton.pairs or len(skeleton.keypoints) == 1 else " (name the skeleton's pairs, if there are any)")
    ]


def _list(key: str, values: Sequence[str]) -> list[str]:
    """A key with a list, over several lines where one is too long."""
    line = f"{key} = {_values(values)}"
    if len(line) <= _WIDTH:
        return [line]
    lines, row = [f"{key} = ["], "   "
    for value in values:
        if len(row) + len(_text(value)) + 2 > _WIDTH:
            lines, row = [*lines, row], "   "
        row += f" {_text(value)},"
    return [*lines, row, "]"]


def _values(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _text(value: str) -> str:
    """A TOML text; JSON's escapes are TOML's, but for the one character that JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)
