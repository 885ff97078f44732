"""Whether a bundle may be stepped in float16 or int8: measured beside float32, accepted or not, and stored in it.

Ranges of int8 come from one split, the scores from another that training never saw; recordings in both are refused.
The int8 and float16 steps run in ONNX Runtime exactly as they are written for TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rtseg.bundle.bundle import Bundle, check_writable, load_bundle
from rtseg.bundle.provenance import check_unseen, learnt_from_all, poses_hash
from rtseg.config import PrecisionSettings
from rtseg.engine.onnx import precisions
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.errors import RtsegError, SettingError
from rtseg.evaluation.evaluate import SplitPredictions, predict_split, without_nan
from rtseg.features.extractor import FeatureExtractor
from rtseg.inference.classifier import Classifier
from rtseg.precision.compare import compare_precisions
from rtseg.precision.ranges import F32, int8_scales
from rtseg.precision.report import write_report
from rtseg.recordings.dataset import Dataset
from rtseg.recordings.recording import Recording
from rtseg.recordings.sources import Item
from rtseg.system import machine

Progress = Callable[[str], None]
STORED = ("scales", "bounds", "f1", "f1_drop", "difference")
"""The parts of a precision's report that are stored in the bundle."""
SEEN = (
    "The bundle has learnt from these recordings, as from all of its data set: how much one precision differs from "
    "another can be told from them, how good either is cannot."
)
PACKAGES = ("rtseg", "numpy", "numba", "onnx", "onnxruntime")


def measure_precisions(
    folder: Path,
    dataset: Dataset,
    wanted: Sequence[Precision],
    *,
    split: str = "validation",
    ranges: str = "train",
    settings: PrecisionSettings | None = None,
    out: Path,
    command: str = "",
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Measure a bundle in these precisions on a split; the report, also written to `out` as JSON and Markdown.

    Accepted precisions, with int8's scales, are stored in the bundle; one that is not is removed there. ranges: the
    split that int8's scales are found on. Raises SettingError for a recording that the bundle was trained on or that
    is in both splits, BundleError where `folder` holds no bundle, RtsegError for a missing package.
    """
    check_writable(folder)
    if split == ranges and "int8" in wanted:
        raise SettingError(f"int8's ranges must come from other recordings than the scores; both are split {split!r}")
    bundle, settings = load_bundle(folder), settings or PrecisionSettings()
    _ = bundle.network  # trees are refused before any recording is run
    scored: dict[str, str] = {}

    def check(item: Item) -> None:
        # A bundle that has learnt from all recordings has no unseen ones: there one precision is compared with another.
        seen = learnt_from_all(bundle)
        scored[item.recording.name] = _hash(bundle, item.recording) if seen else check_unseen(bundle, item)

    # Float32 by the engine that serves on a CPU: the comparison includes what ONNX Runtime rounds differently.
    plain = predict_split(Classifier(bundle, "numba", 1), dataset, split, _prefixed(progress, "fp32"), check)
    entries: dict[str, dict[str, Any]] = {}
    for precision in wanted:
        entry: dict[str, Any] = {}
        if precision == "int8":
            entry = _int8_scales_of(bundle, dataset, ranges, set(scored.values()), settings, progress)
        answers = _predict(bundle, precision, entry.get("scales"), dataset, split, progress)
        entry = without_nan(_verdict(compare_precisions(plain, answers), precision, settings)) | entry
        stored = {part: entry[part] for part in STORED if part in entry}
        stored |= {"model": bundle.hash, "dataset": dataset.name, "split": split}
        # One that is not accepted is removed: it may have been accepted with other bounds, or other weights.
        precisions.store_precision(folder, precision, stored if entry["accepted"] else None)
        entries[precision] = entry
    report = {
        "kind": "rtseg calibrate --int8 --fp16",
        "command": command,
        "bundle": bundle.name,
        "model": bundle.hash,
        "simulated": bundle.simulated or dataset.simulated,
        "dataset": dataset.name,
        "split": split,
        "videos": scored,
        "notes": [SEEN] if learnt_from_all(bundle) else [],
        "precisions": entries,
        **machine.describe_run(PACKAGES),
    }
    write_report(report, out)
    return report


def require_accepted(report: dict[str, Any]) -> None:
    """Raise RtsegError naming every precision that was not accepted, and why."""
    refused = [f"{name}: {'; '.join(of['against'])}" for name, of in report["precisions"].items() if of["against"]]
    if refused:
        raise RtsegError(f"{report['bundle']} is not accepted in {'; in '.join(refused)}")


def _int8_scales_of(
    bundle: Bundle, dataset: Dataset, split: str, scored: set[str], settings: PrecisionSettings, progress: Progress
) -> dict[str, Any]:
    """int8's scales from some of a split's recordings, spread evenly over it, and which those were."""
    features, used = list[F32](), dict[str, str]()
    extractor = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size)
    recordings = [item.recording for item in dataset.items(split)]
    dataset.warnings.tell(progress)
    every = max(1, len(recordings) // settings.range_recordings)
    for recording in recordings[::every][: settings.range_recordings]:
        matched, digest = recording.select(bundle.skeleton), _hash(bundle, recording)
        if digest in scored:
            raise SettingError(
                f"{recording.name}: split {split!r} gives the ranges of int8, and this recording is also scored"
            )
        used[recording.name] = digest
        # From the beginning: a step's state needs the frames before, so a cut-out middle would start from nothing.
        begun = matched.between(0, min(len(matched), settings.range_frames))
        for start, stop in begun.stretches(bundle.gaps.fill_frames):
            points, scores = begun.keypoints[start:stop], begun.confidence[start:stop]
            features.append(extractor.run(points, scores, bundle.arena).copy())
    if not features:
        raise SettingError(f"dataset {dataset.name!r}: split {split!r} has no recording to take int8's ranges from")
    scales = int8_scales(bundle, features, progress)
    return {"scales": scales, "ranges": {"split": split, "frames": sum(map(len, features)), "videos": used}}


def _predict(
    bundle: Bundle,
    precision: Precision,
    scales: dict[str, float] | None,
    dataset: Dataset,
    split: str,
    progress: Progress,
) -> SplitPredictions:
    from rtseg.engine.onnx.onnx_engine import OnnxEngine

    # One slot is enough: recordings are run one after the other.
    engine = OnnxEngine(bundle.network, bundle.weights, 1, precision=precision, scales=scales)
    return predict_split(Classifier(bundle, engine), dataset, split, _prefixed(progress, precision))


def _verdict(found: dict[str, Any], precision: Precision, settings: PrecisionSettings) -> dict[str, Any]:
    """What was found, the bounds that it must keep, and in what it exceeds them."""
    bounds = {"f1_drop": settings.f1_drop}
    bounds |= {part: getattr(settings, f"{precision}_{part}") for part in ("largest", "mean")}
    against = []
    # `not <`, for a NaN must not be accepted.
    if not found["f1_drop"] < bounds["f1_drop"]:
        against.append(f"mean F1 falls by {found['f1_drop']:.4f}, allowed is less than {bounds['f1_drop']:g}")
    for part in ("largest", "mean"):
        if not found["difference"][part] <= bounds[part]:
            far = found["difference"][part]
            against.append(f"the {part} difference of a probability is {far:.2g}, allowed is {bounds[part]:g}")
    return {**found, "bounds": bounds, "accepted": not against, "against": against}


def _hash(bundle: Bundle, recording: Recording) -> str:
    return poses_hash(recording.select(bundle.skeleton).keypoints)


def _prefixed(progress: Progress, precision: str) -> Progress:
    return lambda name: progress(f"{precision}: {name}")
