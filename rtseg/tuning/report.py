"""`rtseg trigger tune`: from a dataset's recordings to a new trigger file, a table of all settings and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtseg.bundle.provenance import was_trained_on
from rtseg.config import TriggerSettings
from rtseg.errors import SettingError
from rtseg.evaluation.evaluate import unlike_notes, unlike_training
from rtseg.evaluation.fold_answers import FoldAnswers
from rtseg.inference.classifier import Classifier
from rtseg.recordings.recording import IGNORE
from rtseg.recordings.sources import Item
from rtseg.system.files import write_atomically
from rtseg.triggers.conditions import condition_arrays
from rtseg.triggers.report import LEARNT
from rtseg.triggers.trial import load_triggers, truth_of
from rtseg.tuning.choose import Goal, Tuned, tune
from rtseg.tuning.edit import check_text, tuned_text
from rtseg.tuning.picture import draw_curve
from rtseg.tuning.sweep import Example, candidates, sweep

COLUMNS = (
    *("on", "off", "min_duration_s", "bouts", "hits", "false_starts", "false_starts_per_min"),
    *("delay_median_s", "delay_p95_s", "absent_min", "chosen"),
)


def tuned_path(path: Path, out: Path | None) -> Path:
    """Where the new file goes: beside the old one, unless `out` says otherwise. Raises SettingError where it exists, or
    its folder does not.
    """
    target = out or path.with_name(f"{path.stem}.tuned.toml")
    if not target.parent.is_dir():
        raise SettingError(f"{target}: there is no folder {target.parent}; make it, or name another file with --out")
    if target.exists():
        raise SettingError(f"{target} exists already, and is not overwritten; name another file with --out")
    return target


def run_tuning(
    path: Path,
    only: Sequence[str],
    goal: Goal,
    classifier: Classifier,
    items: Iterable[Item] | FoldAnswers,
    target: Path,
    progress: Callable[[str], None] = lambda _: None,
    remarks: Sequence[str] = (),
) -> list[Tuned]:
    """Choose thresholds for the triggers of a file by labelled recordings; TARGET, and beside it for each trigger
    TARGET's name with .TRIGGER.csv and .TRIGGER.png. only: names of triggers, none = all that are not yoked. items: as
    the bundle answers them, or as its recipe did out of fold. remarks: what a reader must know of these recordings.

    Raises SettingError for a trigger that is not there, or for which nothing can be chosen.
    """
    chosen = _tunable(path, load_triggers(path), only)
    # Before the work: a head that the model lacks is told at once.
    condition_arrays(chosen, classifier.bundle.heads)
    examples, learnt = _examples(chosen, classifier, items, progress)
    told = {e.recording.name: unlike_training(classifier.bundle, e.recording, e.predictions) for e in examples}
    unlike = unlike_notes("the bundle", {name: text for name, text in told.items() if text})
    # Before thresholds are looked for: it may be why there are none.
    for note in unlike:
        progress(f"warning: {note}")
    results = [_tuned(name, trigger, goal, examples, classifier, progress) for name, trigger in chosen.items()]
    notes = [*remarks, items.note] if isinstance(items, FoldAnswers) else list(remarks)
    if learnt:
        notes.append(LEARNT.format(", ".join(learnt)))
        progress(f"warning: {notes[-1]}")
    notes += unlike
    results = [replace(tuned, notes=(*tuned.notes, *notes)) for tuned in results]
    taken = {tuned.name: tuned.tried[tuned.chosen] for tuned in results}
    text = tuned_text(path, taken)
    write_atomically(target, _head(path, results) + text)
    check_text(path, target, taken)
    for tuned in results:
        stem = target.with_suffix("")
        write_atomically(stem.with_name(f"{stem.name}.{tuned.name}.csv"), _table(tuned))
        draw_curve(tuned, stem.with_name(f"{stem.name}.{tuned.name}.png"))
    return results


def _tunable(path: Path, triggers: Mapping[str, TriggerSettings], only: Sequence[str]) -> dict[str, TriggerSettings]:
    unknown = sorted(set(only) - set(triggers))
    if unknown:
        raise SettingError(f"{path}: no trigger {', '.join(unknown)}; it has: {', '.join(triggers)}")
    wanted = {name: trigger for name, trigger in triggers.items() if not only or name in only}
    yoked = [name for name, trigger in wanted.items() if trigger.arms.is_yoked]
    if only and yoked:
        raise SettingError(f"{path}: {', '.join(yoked)} follows a recorded session and has no thresholds to choose")
    found = {name: trigger for name, trigger in wanted.items() if name not in yoked}
    if not found:
        raise SettingError(f"{path}: all triggers follow recorded sessions; there are no thresholds to choose")
    return found


def _examples(
    triggers: Mapping[str, TriggerSettings],
    classifier: Classifier,
    items: Iterable[Item] | FoldAnswers,
    progress: Callable[[str], None],
) -> tuple[list[Example], list[str]]:
    """And the names of those that the bundle was trained on and answers itself."""
    examples, learnt = list[Example](), list[str]()
    if isinstance(items, FoldAnswers):
        answered = items.stream_answers(classifier)
    else:
        answered = ((item, classifier.run(item.recording)) for item in items)
    for item, answers in answered:
        if not isinstance(items, FoldAnswers) and was_trained_on(classifier.bundle, item):
            learnt.append(item.recording.name)
        recording = item.recording
        progress(recording.name)
        truth = {
            name: truth_of(trigger, answers.heads, item.labels, len(recording)) for name, trigger in triggers.items()
        }
        examples.append(Example(recording, answers, truth))
    return examples, learnt


def _tuned(
    name: str,
    trigger: TriggerSettings,
    goal: Goal,
    examples: Sequence[Example],
    classifier: Classifier,
    progress: Callable[[str], None],
) -> Tuned:
    labelled = [e for e in examples if (e.truth[name] != IGNORE).any()]
    tried = candidates(trigger, classifier.bundle.fps)
    progress(f"{name}: {len(tried)} settings on {len(labelled)} recordings")
    scores = sweep(name, trigger, tried, labelled, classifier.bundle)
    return tune(name, goal, [e.recording.name for e in labelled], tried, scores)


def _head(path: Path, results: Sequence[Tuned]) -> str:
    """What the new file says of itself."""
    lines = [f"# {path.name} with thresholds chosen by `rtseg trigger tune`."]
    for tuned in results:
        score, rates = tuned.held_out, tuned.intervals["false_starts_per_min"]
        lines += [
            f"# {tuned.name}: {tuned.goal}. On videos that had no part in the choice:",
            f"# {score.hits} of {score.bouts} bouts hit, {score.false_starts_per_min:.2f} false starts per minute "
            f"(95 % {rates['low']:.2f} to {rates['high']:.2f}).",
            *(f"# {note}" for note in tuned.notes),
        ]
    return "\n".join(lines) + "\n"


def _table(tuned: Tuned) -> str:
    """CSV, a row a setting: its scores over all videos. In the column chosen: how many videos' folds took it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for c, (candidate, score) in enumerate(zip(tuned.tried, tuned.totals, strict=True)):
        late = np.percentile(score.delays_s, (50, 95)) if score.delays_s else ()
        delays = [f"{delay:.4f}" for delay in late] or ["", ""]
        settings = candidate.on, candidate.off, candidate.min_duration_s
        counts = score.bouts, score.hits, score.false_starts, f"{score.false_starts_per_min:.4f}"
        writer.writerow([*settings, *counts, *delays, f"{score.absent_s / 60:.3f}", tuned.folds.count(c)])
    return text.getvalue()
