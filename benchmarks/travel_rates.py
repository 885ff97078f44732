"""Part `rates` of travel.py: bundles' answers where the camera runs at another rate, or stands nearer or farther.

Poses at another rate are made of the recordings' own: between two frames each point lies on the straight line, a point
that is missing in one of the two is taken from the nearer one. At half the rate every second frame is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import rtseg
from rtseg.bundle.bundle import MANIFEST
from rtseg.inference.classifier import Classifier
from rtseg.recordings.dataset import Dataset
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import Recording
from rtseg.study import compare
from rtseg.study.results import interval, number, table
from rtseg.study.trials import (
    ProbabilitiesByName,
    SavedProbabilities,
    load_probabilities,
    output_columns,
    probabilities_file_name,
    save_probabilities,
)
from rtseg.training.augment import poses_at
from rtseg.training.task import example_of

OWN = "own"


class Condition(NamedTuple):
    """A camera: `scale` times as many px for a length, `rate` times as many frames, the first one `phase` frames of the
    recording after the recording's first.
    """

    scale: float = 1.0
    rate: float = 1.0
    phase: float = 0.0


CONDITIONS = {
    OWN: Condition(),
    "15 fps": Condition(rate=0.5),
    "20 fps": Condition(rate=2 / 3),
    "60 fps": Condition(rate=2.0),
    "60 fps, half a frame later": Condition(rate=2.0, phase=0.5),
    "scale 1/2": Condition(scale=1 / 2),
    "scale 2/3": Condition(scale=2 / 3),
    "scale 3/2": Condition(scale=3 / 2),
    "scale 2": Condition(scale=2.0),
}
"""At 60 fps every second frame is one of the recording's own, which is all that the resampler takes; half a frame later
the model's frames all lie between two of them."""


def measure_rates(
    dataset: Dataset, head: str, bundles: Mapping[str, Sequence[Path]], out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Scores of each system under every condition, and what they fall by, paired over the validation videos.

    bundles: system -> one bundle for each seed; those that are not there are left out, the first system never. out:
    where answers are kept.
    """
    items = list(dataset.items("validation"))
    heads = (dataset.head(head),)
    examples = [example_of(i.recording, {head: i.labels[head].frames}, heads) for i in items]
    recordings = [item.recording for item in items]
    found: dict[str, Any] = {}
    own: dict[str, list[ProbabilitiesByName]] = {}
    for system, folders in bundles.items():
        there = [folder for folder in folders if (folder / MANIFEST).is_file()]
        if not there:
            say(f"{system}: no bundle in {', '.join(map(str, folders))}: left out")
            continue
        answers = _answers(there, recordings, heads[0], out, say)
        own[system] = answers[OWN]
        found[system] = {"seeds": len(there), "conditions": {}}
        for name, ours in answers.items():
            scores = compare.score_system(heads, examples, ours, dataset.fps)["heads"][head]
            entry = {key: scores[key] for key in ("f1", "map", "seeds", "interval")}
            if name != OWN:
                entry["change"] = compare.paired_differences(heads, examples, ours, own[system])[head]
            found[system]["conditions"][name] = entry
    first = next(iter(own))
    for system, ours in own.items():
        if system != first:
            found[system]["ahead"] = compare.paired_differences(heads, examples, ours, own[first])[head]
    return {"head": head, "videos": len(items), "first": first, "systems": found}


def _answers(
    bundles: Sequence[Path], recordings: Sequence[Recording], head: Head, out: Path, say: Callable[[str], None]
) -> dict[str, list[ProbabilitiesByName]]:
    """Condition -> for every bundle its answers about the recordings' own frames. What `out` holds is not answered
    again.
    """
    answers: dict[str, list[ProbabilitiesByName]] = {name: [] for name in CONDITIONS}
    for folder in bundles:
        classifier = rtseg.load(folder, "numba", heads=[head.name])
        for name, condition in CONDITIONS.items():
            # A bundle that was trained anew is another one.
            kept = out / f"{folder.name}-{classifier.bundle.hash[:12]}" / name.replace("/", "-").replace(" ", "-")
            by_name: ProbabilitiesByName = {}
            for recording in recordings:
                file = kept / probabilities_file_name(recording.name)
                if file.is_file():
                    by_name[recording.name] = load_probabilities(file).probs
                    continue
                say(f"{folder.name}, {name}: {recording.name}")
                probs = answers_about(classifier, recording, head.name, condition)
                save_probabilities(SavedProbabilities(recording.name, output_columns((head,)), probs, ()), kept)
                by_name[recording.name] = probs
            answers[name].append(by_name)
    return answers


def answers_about(classifier: Classifier, recording: Recording, head: str, condition: Condition) -> NDArray[np.float32]:
    """Probabilities (T, n) about the recording's own frames, as the camera of `condition` filmed them; NaN where it
    has no answer. Each of the camera's answers is about the frame that is nearest in time, the later of two alike.
    """
    filmed = film(recording, condition)
    predictions = classifier.run(filmed, resample=condition.rate != 1)
    probs = predictions.of(head)
    # To the ns; what lies half way must not depend on how a time was rounded.
    about = np.floor(predictions.t_source_ns * 1e-9 * recording.fps + 0.5 + 1e-6).astype(np.intp)
    whole = np.full((len(recording), probs.shape[1]), np.nan, np.float32)
    inside = about < len(recording)
    whole[about[inside]] = probs[inside]
    return whole


def film(recording: Recording, condition: Condition) -> Recording:
    """The recording as another camera would have filmed it; its times are those of the recording's clock."""
    if recording.absent is not None and condition.rate != 1:
        raise ValueError(f"{recording.name} lacks frames; between two that do not follow each other nothing is known")
    if condition.rate == 1 and condition.phase == 0:
        return replace(recording, keypoints=recording.keypoints * np.float32(condition.scale), px_per_mm=None)
    last = len(recording) - 1
    n = int((last - condition.phase) * condition.rate + 1e-9) + 1
    at = condition.phase + np.arange(n) / condition.rate
    keypoints, confidence = poses_at(recording.keypoints, recording.confidence, np.minimum(at, last))
    return replace(
        recording,
        keypoints=keypoints * np.float32(condition.scale),
        confidence=confidence,
        fps=recording.fps * condition.rate,
        t_source_ns=np.rint(at / recording.fps * 1e9).astype(np.int64),
        px_per_mm=None,
    )


def rates_page(part: Mapping[str, Any]) -> list[str]:
    """The part's tables in Markdown."""
    first, rows = part["first"], []
    for system, found in part["systems"].items():
        own = found["conditions"][OWN]
        ahead = [interval(found["ahead"][key], "difference") if "ahead" in found else "" for key in ("f1", "map")]
        seeds = [", ".join(number(seed[key]) for seed in own["seeds"]) for key in ("f1", "map")]
        rows.append([system, *seeds, *ahead])
    columns = ["system", "macro-F1, each seed", "mAP, each seed", f"ahead of `{first}`: F1", f"ahead of `{first}`: mAP"]
    pages = [
        f"{part['videos']} validation videos, head {part['head']}, argmax, nothing tuned. Changes: the condition minus "
        "the recordings' own rate and scale, paired over videos, seeds pooled, 95 % by bootstrap.",
        "Poses at other rates are made of these by straight lines between frames, so a 60 fps tracker's own noise is "
        "not in them, and its blur is not in those at 15 and 20.",
        table(columns, rows),
    ]
    for key, metric in (("f1", "macro-F1"), ("map", "mAP")):
        names = [name for name in CONDITIONS if name != OWN]
        rows = [
            [system, *(interval(found["conditions"][name]["change"][key], "difference") for name in names)]
            for system, found in part["systems"].items()
        ]
        pages += [f"### Change of {metric}", table(["system", *names], rows)]
    return pages
