"""A bundle's model card: what it answers, what it was made from, how good it is, and what it must not be used for.

Written from the manifest alone: every number in it was measured by `rtseg train` or `rtseg calibrate`, and what was
not measured is named as such.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.bundle.provenance import learnt_from_all
from rtseg.bundle.trees import TreesSpec
from rtseg.system.files import write_atomically

CARD = "MODEL_CARD.md"
WEAK_F1 = 0.5
"""Classes with a lower F1 are named as unfit for decisions."""

Scores = Mapping[str, Any]


def write_card(folder: Path) -> Path:
    """Write `MODEL_CARD.md` into a bundle's folder, beside the manifest that it was made from; its path."""
    path = folder / CARD
    write_atomically(path, model_card(load_bundle(folder)))
    return path


def model_card(bundle: Bundle) -> str:
    """The card as Markdown."""
    lines = [f"# {bundle.name}", "", "Written by `rtseg card` from the bundle's manifest."]
    if bundle.simulated:
        lines += ["", "**SIMULATED. Made from simulated animals: no number below says anything about real ones.**"]
    lines += [*_model(bundle), *_data(bundle)]
    for split, scores in bundle.scores.items():
        lines += _scores(split, scores)
    lines += [*_calibration(bundle), *_ranges(bundle), *_limits(bundle)]
    return "\n".join(lines) + "\n"


def _model(bundle: Bundle) -> list[str]:
    spec, lookahead = bundle.architecture, bundle.lookahead_frames
    sees = f"and {lookahead} frames after it" if lookahead else "and none after it (strictly causal)"
    animals, keypoints = bundle.skeleton.animals, bundle.skeleton.keypoints
    lines = [
        *("", "## What it answers"),
        str(bundle.provenance.get("description", "")).strip(),
        "",
        f"For every frame at {bundle.fps:g} frames per second a probability for each class of each head, from the "
        f"keypoints of that frame, of {spec.looks_back} before it, {sees}.",
        "",
        f"Needs {_counted(len(animals), 'animal')} ({', '.join(animals)}) with "
        f"{_counted(len(keypoints), 'keypoint')} each ({', '.join(keypoints)}). "
        f"{spec.n_features} features, {spec.size}. Flagged as warming up: the first {bundle.warmup_frames} frames.",
        "",
    ]
    heads = [[h.name, h.group, ", ".join(f"**{c}**" if c in h.scored else c for c in h.classes)] for h in bundle.heads]
    return lines + _table(["head", "group", "classes (scored ones bold)"], heads)


def _data(bundle: Bundle) -> list[str]:
    provenance = bundle.provenance
    lines = ["", "## What it was made from", f"Data set `{provenance.get('dataset', 'unknown')}`."]
    train = provenance.get("recipe", {}).get("train", {})
    last = f"the last of {train.get('epochs', '?')} epochs was taken"
    if isinstance(bundle.architecture, TreesSpec):
        last = "the number of rounds was chosen on stretches of the training recordings, in turn"
    chosen = (
        f"held out ({last})" if _last_was_taken(bundle) else f"used to choose the {_epoch(bundle)} and the decoding"
    )
    for split, use in (("training", "trained on"), ("validation", chosen)):
        names = list(provenance.get(split, ()))
        if split == "validation" and learnt_from_all(bundle):
            lines.append(f"- No recording was held out: {last}, whatever its scores.")
            continue
        shown = ", ".join(names) if len(names) <= 60 else f"{', '.join(names[:5])} ... {names[-1]}"
        lines.append(
            f"- {_counted(len(names), 'recording')} {use}: {shown or 'not named'}. The manifest holds a hash of each."
        )
    learner = "xgboost" if "xgboost" in provenance else "torch"
    made = f"rtseg {provenance.get('rtseg', '?')}, {learner} {provenance.get(learner, '?')}"
    seed = train.get("seed", "?")
    took = provenance.get("training_seconds", "?")
    return [*lines, f"- One training run, seed {seed}, {took} s, with {made}."]


def _scores(split: str, scores: Scores) -> list[str]:
    lines = [
        "",
        f"## How good it is: {scores.get('dataset', 'its data set')}, split `{split}`",
        scores["protocol"] + ".",
    ]
    lines += [" ".join(["Intervals: 95 %, bootstrap over videos.", *scores.get("notes", ())]), ""]
    rows = []
    for name, head in scores["heads"].items():
        interval = scores.get("intervals", {}).get(name, {})
        decoded, abstention = scores["decoded"][name], scores.get("abstention", {}).get(name)
        ece = _number(scores.get("calibration", {}).get(name, {}).get("ece"))
        coverage = (
            "-"
            if not abstention or abstention["below"] is None
            else f"{abstention['coverage']:.0%}, F1 {_number(abstention['f1'])}"
        )
        row = [
            name,
            _with(head["macro_f1"], interval.get("f1")),
            _with(head["mean_average_precision"], interval.get("map")),
        ]
        row += [ece, f"{decoded['segmental_f1']['50']:.0f}", coverage, f"{head['videos']}", f"{head['frames']:,}"]
        rows.append(row)
    titles = ["head", "macro-F1", "mAP", "ECE", "F1@50 of bouts", "kept when sure", "videos", "frames"]
    lines += [*_table(titles, rows), "", "Per class; delay and false starts of the decoded labels.", ""]
    lines += _table(
        ["head", "class", "F1", "precision", "recall", "AP", "onset delay, s", "false starts/min", "frames"],
        [
            _class_row(name, label, score, scores)
            for name, head in scores["heads"].items()
            for label, score in head["classes"].items()
        ],
    )
    return [*lines, *_videos(scores), *_errors(scores)]


def _class_row(head: str, label: str, score: Scores, scores: Scores) -> list[str]:
    decoded = scores["decoded"][head]
    delay, starts = decoded["onset_delay_s"][label], decoded["false_starts_per_minute"][label]
    figures = [_number(score[k]) for k in ("f1", "precision", "recall", "average_precision")]
    return [
        head,
        label,
        *figures,
        "-" if delay is None else f"{delay:+.2f}",
        _number(starts, 2),
        f"{score['frames']:,}",
    ]


def _videos(scores: Scores) -> list[str]:
    """How much videos differ."""
    rows = []
    for name in scores["heads"]:
        f1 = {v: of[name]["f1"] for v, of in scores.get("videos", {}).items() if of.get(name, {}).get("f1") is not None}
        # One video says nothing of how much videos differ.
        if len(f1) > 1:
            worst, best = min(f1, key=f1.__getitem__), max(f1, key=f1.__getitem__)
            middle = statistics.median(f1.values())
            rows.append([name, f"{f1[worst]:.3f} ({worst})", f"{middle:.3f}", f"{f1[best]:.3f} ({best})"])
    return (
        ["", "Videos differ; macro-F1 of each alone:", "", *_table(["head", "worst", "median", "best"], rows)]
        if rows
        else []
    )


def _errors(scores: Scores) -> list[str]:
    """Where the errors lie: boundaries, missing points, confusion."""
    lines: list[str] = []
    for name, near in scores.get("boundaries", {}).items():
        if near["errors"] is not None and near["frames"]:
            lines.append(
                f"- {name}: {near['errors']:.0%} of the errors lie within {near['within_s']:g} s of a label boundary, "
                f"where {near['frames']:.0%} of the frames do; macro-F1 {_number(near['f1_away'])} away from them."
            )
    lines = ["", "Where it errs:", *lines] if lines else []
    for name, bins in scores.get("missing", {}).items():
        parts = [f"{_number(b['f1'])} with {_up_to(b['up_to'])} ({b['frames']:,})" for b in bins if b["frames"]]
        if len(parts) > 1:
            lines.append(f"- {name}: macro-F1 by the share of missing points (frames): {', '.join(parts)}.")
    for name, matrix in scores.get("confusion", {}).items():
        total = [sum(row) for row in matrix["counts"]]
        rows = [
            [label, *(f"{n / all_of:.0%}" if all_of else "-" for n in row)]
            for label, row, all_of in zip(matrix["classes"], matrix["counts"], total, strict=True)
        ]
        lines += ["", f"{name}: where the frames of each class (rows) go:", ""]
        lines += _table(["", *matrix["classes"]], rows)
    return lines


def _calibration(bundle: Bundle) -> list[str]:
    lines, done = ["", "## Whether its probabilities can be taken at their word"], bundle.provenance.get("calibration")
    if not done:
        return [*lines, "Not calibrated: take them as scores, not as chances (`rtseg calibrate`)."]
    fitted = f"Calibrated ({done['method']} scaling) on {len(done['videos'])} recordings of `{done['dataset']}`"
    if folds := done.get("out_of_fold"):
        how = (
            "as networks of the same recipe answered them that were trained without them "
            f"({folds['folds']} folds); this bundle has learnt from all of them"
        )
    else:
        how = f"split `{done['split']}`, that training never saw"
    lines.append(
        f"{fitted}, {how}. ECE, log loss and Brier score above and here are out of fold: each video with a scaling "
        "fitted on the others."
    )
    for name, ece in done.get("not_applied", {}).items():
        lines.append(
            f"Not {name}: the scaling would make its ECE {_number(ece['ece_after'])} from {_number(ece['ece_before'])}."
        )
    rows = [
        [name, _number(c["ece"]), _number(c["ece_classwise"]), _number(c["nll"]), _number(c["brier"])]
        for scores in bundle.scores.values()
        for name, c in scores.get("calibration", {}).items()
    ]
    return [*lines, "", *_table(["head", "ECE, top label", "ECE, class-wise", "log loss", "Brier"], rows)]


def _ranges(bundle: Bundle) -> list[str]:
    lines = ["", "## When it says that it does not know"]
    if bundle.abstain_below:
        below = ", ".join(f"{head} below {p:g}" for head, p in bundle.abstain_below.items())
        lines.append(f"- Unsure: {below} (highest probability of the head).")
    else:
        lines.append("- Unsure: never; no threshold is set.")
    if bundle.ranges is None:
        return [*lines, "- Out of range: never; the bundle holds no ranges of its training's features."]
    watched = int(np.isfinite(bundle.ranges.low).sum())
    return [
        *lines,
        f"- Out of range: when more than {bundle.ranges.share:.0%} of the known features ({watched} are watched) lie "
        f"outside of what training saw, or one by more than {bundle.ranges.far:g} times its range.",
    ]


def _limits(bundle: Bundle) -> list[str]:
    # No score counts as weak: a class that no recording showed was never tested.
    weak = [
        f"{name}: {label}"
        for scores in bundle.scores.values()
        for name, head in scores["heads"].items()
        for label, score in head["classes"].items()
        if score["f1"] is None or score["f1"] < WEAK_F1
    ]
    unscored = [f"{h.name}: {c}" for h in bundle.heads for c in h.classes if c not in h.scored]
    lines = [
        *("", "## Limits"),
        f"- {_who_chose(bundle)}",
        f"- Made for {bundle.fps:g} frames per second, these keypoints, and an arena of "
        f"{', '.join(f'{v:g}' for v in bundle.arena)} px (x0, y0, x1, y1); another camera, tracker, strain, light or "
        "laboratory is another data set. Score it on labelled recordings of your own first (`rtseg evaluate`).",
        "- Its labels are those of the people who made the data set; it knows no behaviour that they did not name.",
    ]
    if unscored:
        lines.append(f"- Not scored, and not to be counted: {', '.join(unscored)}.")
    lines += ["", "## What it must not be used for"]
    if bundle.simulated:
        lines.append("- Anything about real animals.")
    if weak:
        lines.append(f"- Decisions about classes that it recognises with an F1 below {WEAK_F1:g}: {', '.join(weak)}.")
    return [
        *lines,
        "- Judging an animal's welfare, or ending or changing its treatment, without a person who looks.",
        "- Triggering a stimulus whose harm, when wrong, the false starts above do not allow.",
        "- Other species or numbers of animals, and people.",
    ]


def _who_chose(bundle: Bundle) -> str:
    if not learnt_from_all(bundle):
        if _last_was_taken(bundle):
            return (
                "The validation recordings chose nothing in training. Where somebody changed the recipe after looking "
                "at their scores, expect a little less on new animals."
            )
        chose = f"The validation recordings chose the {_epoch(bundle)} and the decoding"
        return f"{chose}: expect a little less on new animals."
    return (
        "All recordings were trained on: what the bundle itself answers about them says nothing of others. Numbers "
        "out of fold are of networks trained anew without the recordings that they answer, on fewer than this one. "
        "What chose the recipe's settings and the decoding is not held out: expect a little less on new animals."
    )


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _last_was_taken(bundle: Bundle) -> bool:
    """Whether the recipe let no held-out recording choose the checkpoint or the number of rounds."""
    return bool(bundle.provenance.get("recipe", {}).get("train", {}).get("select") == "last")


def _epoch(bundle: Bundle) -> str:
    """What the validation recordings choose where `train.select` lets them."""
    return "number of rounds" if isinstance(bundle.architecture, TreesSpec) else "epoch"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (titles, ["---"] * len(titles), *rows)]


def _with(value: float | None, interval: Mapping[str, float | None] | None) -> str:
    if not interval or interval["low"] is None:
        return _number(value)
    return f"{_number(value)} [{_number(interval['low'])}, {_number(interval['high'])}]"


def _up_to(share: float) -> str:
    return f"up to {share:.0%}" if share else "none"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
