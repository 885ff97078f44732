"""The training loop: batches in, the weights with the best validation score out.

Knows recordings only as `Example`s; writes checkpoints and reports, never a bundle (that is `export`).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rtseg import config
from rtseg.bundle.network import NetworkSpec
from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.evaluation.metrics import group_scores, score_head
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import Skeleton
from rtseg.model.base import SequenceModel
from rtseg.model.select import make_model
from rtseg.model.tcn import MultitaskTCN
from rtseg.recordings.heads import Head
from rtseg.training import checkpoint
from rtseg.training.crops import Batch, CropSampler, Example, fit_scaler
from rtseg.training.future_pose import FuturePose
from rtseg.training.losses import MultitaskLoss

Report = Callable[[dict[str, Any]], None]
"""Called after every batch and epoch with what happened, for a progress bar."""


NO_BUNDLE = "only a causal multitask-tcn can become a bundle; the other systems are there to compare with"


@dataclass
class Trained:
    """The network with its best weights, how they scored on the validation recordings, and the run's history."""

    model: SequenceModel
    score: float
    epoch: int
    seconds: float
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The best weights, by name."""
        return self.model.tensors()

    @property
    def spec(self) -> NetworkSpec:
        """The sizes for a bundle. Raises SettingError where no engine could step the network."""
        if not isinstance(self.model, MultitaskTCN) or not self.model.causal:
            raise SettingError(NO_BUNDLE)
        return self.model.spec


def train(
    recipe: Recipe,
    skeleton: Skeleton,
    fps: float,
    heads: Sequence[Head],
    training: Sequence[Example],
    validation: Sequence[Example],
    folder: Path | None = None,
    report: Report = lambda event: None,
) -> Trained:
    """Train the network that the recipe names; resumes from `folder`'s checkpoint if it holds one of the same recipe.

    Stops when `patience` evaluations brought no better validation score (mean over head groups of macro-F1 and mAP,
    unless `train.select` says otherwise).
    """
    if not training or not validation:
        raise SettingError("training needs at least one training and one validation recording")
    settings = recipe.train
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(settings.seed)
    extractor = FeatureExtractor(skeleton, FeatureSpec(**config.to_plain(recipe.features)), fps)
    views = extractor.spec.views(skeleton) if recipe.model.forget_order else ()
    model = make_model(recipe, extractor.n_features, heads, views)
    extras = _extras(model, recipe, extractor, training, fps)
    validation_features = [extractor.run(e.keypoints, e.confidence, recipe.arena) for e in validation]
    sampler = CropSampler(training, recipe, skeleton, extractor, heads)
    parameters = [*model.parameters(), *extras.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    run = _Run(fingerprint(recipe, training, validation, skeleton, fps, tuple(heads)))
    resumed = checkpoint.load(folder, run.fingerprint) if folder else None
    if resumed:
        tensors, progress = resumed
        model.load_state_dict(tensors["model"])
        extras.load_state_dict(tensors.get("extras", {}))
        checkpoint.restore_optimizer(optimizer, tensors["optimizer"])
        run.average, run.best = tensors["average"], tensors["best"]
        run.take(progress)
    else:
        scaler = fit_scaler(
            [extractor.run(e.keypoints, e.confidence, recipe.arena) for e in training],
            recipe.scaler.kind,
            recipe.scaler.clip,
        )
        for name, value in scaler.items():
            model.weight(name).copy_(torch.from_numpy(value))
        run.average = {n: t.clone() for n, t in model.state_dict().items()}
        run.best = {n: t.clone() for n, t in model.state_dict().items()}

    steps = settings.epochs * sampler.batches_per_epoch
    while run.epoch < settings.epochs and run.stale < settings.patience:
        started = time.monotonic()
        torch.manual_seed(hash_seed(settings.seed, run.epoch))
        model.train()
        model.frame_stride = settings.frame_stride
        losses = []
        for batch in sampler.epoch(run.epoch):
            rate = settings.learning_rate * _schedule(run.step, settings.warmup_steps, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
                loss = _batch_loss(model, extras, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip_gradient)
            optimizer.step()
            run.step += 1
            # A young average would remember the random start; its memory grows with the run.
            keep = min(settings.ema, (1 + run.step) / (10 + run.step))
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    run.average[name].lerp_(value, 1 - keep)
            losses.append(loss.item())
            report({"epoch": run.epoch, "step": run.step, "steps": steps, "loss": losses[-1]})
        model.frame_stride = 1
        run.epoch += 1
        run.seconds += time.monotonic() - started
        if run.epoch % settings.evaluate_every == 0 or run.epoch == settings.epochs:
            scores = _evaluate(model, run.average, validation, validation_features, recipe, fps)
            mean = overall(scores, settings.select, settings.select_group)
            entry = {"epoch": run.epoch, "loss": float(np.mean(losses)), "score": mean, "groups": scores}
            entry["seconds"] = round(run.seconds, 1)
            run.history.append(entry)
            if mean > run.best_score or settings.select == "last":
                run.best_score, run.best_epoch, run.stale = mean, run.epoch, 0
                run.best = {n: t.clone() for n, t in run.average.items()}
            else:
                run.stale += 1
            report(entry)
        if folder:
            checkpoint.save(
                folder,
                {
                    "model": model.state_dict(),
                    "extras": extras.state_dict(),
                    "average": run.average,
                    "best": run.best,
                    "optimizer": checkpoint.optimizer_tensors(optimizer),
                },
                run.progress(),
            )
    model.load_state_dict(run.best)
    model.eval()
    return Trained(model, run.best_score, run.best_epoch, run.seconds, run.history)


def predict(model: SequenceModel, features: NDArray[np.float32], lookahead: int) -> NDArray[np.float32]:
    """Probabilities (T, P), row t about frame t; the last `lookahead` rows, never answered, are NaN.

    features: (T, F), of a whole recording.
    """
    model.eval()
    with torch.no_grad():
        late = model.probabilities(torch.from_numpy(features)[None])[0].numpy()
    return np.concatenate((late[lookahead:], np.full((min(lookahead, len(late)), late.shape[1]), np.nan, np.float32)))


def fingerprint(recipe: Recipe, training: Sequence[Example], validation: Sequence[Example], *context: object) -> str:
    """A hash of everything that a run's outcome depends on; a checkpoint of another run is not resumed.

    context: whatever else matters and has a repr that says it all (skeleton, frame rate, heads).
    """
    digest = hashlib.sha256(json.dumps(config.to_plain(recipe), sort_keys=True).encode())
    digest.update(repr(context).encode())
    for example in (*training, *validation):
        digest.update(example.name.encode())
        digest.update(np.ascontiguousarray(example.keypoints).data)
        digest.update(np.ascontiguousarray(example.confidence).data)
        digest.update(np.ascontiguousarray(example.labels).data)
        if example.soft is not None:
            digest.update(np.ascontiguousarray(example.soft).data)
    return digest.hexdigest()


def hash_seed(*parts: int) -> int:
    """One 32-bit seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


class _Run:
    """What a run has reached so far; everything but the tensors fits a checkpoint's progress record."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.epoch = self.step = self.stale = self.best_epoch = 0
        self.best_score, self.seconds = -math.inf, 0.0
        self.history: list[dict[str, Any]] = []
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}

    def progress(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("average", "best")}

    def take(self, progress: dict[str, Any]) -> None:
        vars(self).update(progress)


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))


def overall(scores: dict[str, dict[str, float]], select: str, group: str) -> float:
    """What a checkpoint is chosen by: the mean over head groups of macro-F1 and mAP, or of what `select` names.

    group: the one that decides; empty = all. A group without a positive validation frame has no score and is left out.
    Raises SettingError where no group has a score: nothing would tell good weights from bad ones.
    """
    if group and group not in scores:
        raise SettingError(f"train.select_group = {group!r} is no head group; there are: {', '.join(scores)}")
    names = (select,) if select in ("f1", "map") else ("f1", "map")
    chosen = [scores[group]] if group else list(scores.values())
    groups = [[v for v in (s[name] for name in names) if not math.isnan(v)] for s in chosen]
    means = [sum(g) / len(g) for g in groups if g]
    if not means:
        raise SettingError("no scored class has a frame in the validation recordings; choose others for validation")
    return float(np.mean(means))


def score(
    heads: Sequence[Head], examples: Sequence[Example], answers: Sequence[NDArray[np.float32]], fps: float
) -> dict[str, dict[str, float]]:
    """Scores per head group of answers (T, P) to each example; rows of NaN were never answered and don't count."""
    offsets = np.cumsum([0, *(len(h.classes) for h in heads)])
    scores = {}
    for column, head in enumerate(heads):
        videos = []
        for probs, example in zip(answers, examples, strict=True):
            answered = ~np.isnan(probs[:, 0])
            mine = probs[answered, offsets[column] : offsets[column + 1]]
            videos.append((mine, example.labels[answered, column]))
        scores[head.name] = score_head(head, videos, fps)
    return group_scores(heads, scores)


def _extras(
    model: SequenceModel, recipe: Recipe, extractor: FeatureExtractor, training: Sequence[Example], fps: float
) -> nn.ModuleDict:
    """What is trained beside the network and dropped afterwards: the loss's own weights, the future pose's output."""
    labels = [e.labels for e in training]
    extras: dict[str, nn.Module] = {"loss": MultitaskLoss(model.heads, labels, recipe.train)}
    if recipe.train.future_pose_weight:
        extras["future_pose"] = FuturePose(
            model, extractor.features, recipe.train, fps * recipe.augment.interpolate / recipe.train.frame_stride
        )
    return nn.ModuleDict(extras)


def _batch_loss(model: SequenceModel, extras: nn.ModuleDict, batch: Batch) -> Tensor:
    features = torch.from_numpy(batch.features)
    soft = None if batch.soft is None else torch.from_numpy(batch.soft)
    hidden = model.trunk(features)
    loss: Tensor = extras["loss"](model.answers(hidden), torch.from_numpy(batch.labels), soft)
    if "future_pose" in extras:
        loss = loss + extras["future_pose"](hidden, model.scale(features), features)
    return loss


def _evaluate(
    model: SequenceModel,
    tensors: dict[str, Tensor],
    examples: Sequence[Example],
    features: Sequence[NDArray[np.float32]],
    recipe: Recipe,
    fps: float,
) -> dict[str, dict[str, float]]:
    """Validation scores of the averaged weights, per head group."""
    raw = {n: t.clone() for n, t in model.state_dict().items()}
    model.load_state_dict(tensors)
    answers = [predict(model, f, recipe.model.lookahead_frames) for f in features]
    model.load_state_dict(raw)
    return score(model.heads, examples, answers, fps)
