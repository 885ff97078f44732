"""`rtseg trigger try`: recordings one after the other, their logs and pictures, and the scores of all together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rtseg.bundle.provenance import was_trained_on
from rtseg.config import TriggerSettings
from rtseg.errors import RecordingError, SettingError
from rtseg.inference.classifier import Classifier
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.heads import HeadLabels
from rtseg.recordings.open import read_recordings
from rtseg.recordings.recording import Recording
from rtseg.recordings.sources import Item
from rtseg.system.files import FileNames
from rtseg.triggers.events import write_events
from rtseg.triggers.picture import draw_trial
from rtseg.triggers.trial import Trial, TrialScore, score_trial, truth_of, try_triggers

LEARNT = "The bundle was trained on {}: expect more false starts and fewer hits of other recordings than here."
TriedItem = tuple[Recording, Mapping[str, HeadLabels]]
"""A recording and its labels by head; {} for none."""


def tried_items(
    paths: Sequence[Path], dataset: Path | None, root: Path | None, split: str, fps: float | None
) -> Iterator[TriedItem]:
    """The recordings of files, or of a dataset's split with their labels. Raises SettingError for both or neither."""
    if bool(paths) == (dataset is not None):
        raise SettingError("name either recordings or --dataset: the one without labels, the other with them")
    if dataset is not None:
        return ((item.recording, item.labels) for item in load_dataset(dataset, root).items(split))
    return ((recording, {}) for path in paths for recording in read_recordings(path, fps=fps))


def run_trials(
    triggers: Mapping[str, TriggerSettings],
    classifier: Classifier,
    items: Iterable[TriedItem],
    out: Path | None,
    progress: Callable[[str], None] = lambda _: None,
    *,
    resample: bool = False,
) -> tuple[list[Trial], dict[str, TrialScore]]:
    """Try the triggers on every recording; NAME.triggers.csv and NAME.TRIGGER.png under `out`.

    resample: recordings of another rate than the model's. Recordings that the bundle was trained on are told to
    progress: what is seen there is too good. Returns the trials, and each trigger's score over all
    recordings, {} where none has labels. Raises RecordingError where there is no recording, or for a second one of the
    same name where files are written.
    """
    trials: list[Trial] = []
    scores: dict[str, TrialScore] = {}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    names, learnt = FileNames(), list[str]()
    for recording, labels in items:
        progress(recording.name)
        if out is not None and recording.name in (trial.name for trial in trials):
            raise RecordingError(recording.source, f"is a second recording named {recording.name!r}; try it apart")
        predictions = classifier.run(recording, resample=resample)
        if was_trained_on(classifier.bundle, Item(recording, dict(labels))):
            learnt.append(recording.name)
        trial = try_triggers(triggers, predictions, recording, classifier.bundle)
        trials.append(trial)
        stem = names.name(recording.name)
        if out is not None:
            write_events(trial.events, out / f"{stem}.triggers.csv")
        for name, trigger in triggers.items():
            truth = truth_of(trigger, predictions.heads, labels, len(recording)) if labels else None
            if truth is not None:
                scores[name] = scores.get(name, TrialScore()) + score_trial(trial, name, truth)
            if out is not None:
                draw_trial(trial, name, trigger, predictions, out / f"{stem}.{name}.png", truth)
    if learnt:
        progress(f"warning: {LEARNT.format(', '.join(learnt))}")
    if not trials:
        raise RecordingError("", "no recording to try the triggers on")
    return trials, scores
