"""Soft labels for distillation: what other systems said about the training recordings without having seen them.

Read from the files that `rtseg crossvalidate RECIPE --split train` leaves. A teacher may have looked into the future of
a recording; it may not have been trained on it, nor on anything outside the training split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtseg.errors import SettingError
from rtseg.recordings.heads import Head
from rtseg.training.answers import ENDING, Answers, columns_of, load_answers
from rtseg.training.crops import Example


def with_teacher(examples: Sequence[Example], folders: Sequence[Path], heads: Sequence[Head]) -> list[Example]:
    """The training examples with the mean of all answers under the folders as `soft`.

    Frames that a teacher never answered take the others'; NaN where none did. Raises SettingError where a recording
    has no answer, an answer is of another length or other heads, or its system has seen the recording itself or one
    that is no training recording.
    """
    by_recording: dict[str, list[Answers]] = {}
    for folder in folders:
        paths = sorted(folder.rglob(f"*{ENDING}"))
        if not paths:
            raise SettingError(f"{folder}: no teacher here: expected {ENDING} files that 'rtseg crossvalidate' wrote")
        for path in paths:
            answers = load_answers(path)
            by_recording.setdefault(answers.recording, []).append(answers)
    training = {example.name for example in examples}
    columns = columns_of(heads)
    return [_taught(example, by_recording.get(example.name, []), training, columns) for example in examples]


def _taught(example: Example, answers: list[Answers], training: set[str], columns: tuple[str, ...]) -> Example:
    name = example.name
    if not answers:
        raise SettingError(f"the teacher says nothing about {name!r}; cross-validate it on the whole split train")
    for one in answers:
        if one.columns != columns:
            raise SettingError(f"{name!r}: the teacher answers {', '.join(one.columns)}; wanted {', '.join(columns)}")
        if len(one.probs) != len(example):
            raise SettingError(
                f"{name!r}: the teacher answers {len(one.probs)} frames, the recording has {len(example)}"
            )
        if name in one.seen:
            raise SettingError(f"{name!r}: its teacher was trained on it; only answers out of fold teach anything")
        foreign = sorted(set(one.seen) - training)
        if foreign:
            raise SettingError(
                f"{name!r}: its teacher has seen {', '.join(foreign)}, which is no training recording: scores on it "
                "would mean nothing. Cross-validate the teacher with --split train"
            )
    stacked = np.stack([one.probs for one in answers]).astype(np.float64)  # (teachers, T, P)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    soft = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return replace(example, soft=soft.astype(np.float32))
