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
from torch import Tensor

from rtseg import config
from rtseg.config import Recipe
from rtseg.errors import SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.metrics import group_scores, score_head
from rtseg.model.tcn import MultitaskTCN
from rtseg.network import NetworkSpec
from rtseg.recordings.heads import Head
from rtseg.skeleton import Skeleton
from rtseg.training import checkpoint
from rtseg.training.crops import CropSampler, Example, fit_scaler
from rtseg.training.losses import class_weights, multitask_loss

Report = Callable[[dict[str, Any]], None]
"""Called after every batch and epoch with what happened, for a progress bar."""


@dataclass
class Trained:
    """The best weights, how they scored on the validation recordings, and the run's history."""

    spec: NetworkSpec
    tensors: dict[str, NDArray[np.float32]]
    score: float
    epoch: int
    seconds: float
    history: list[dict[str, Any]] = field(default_factory=list)


def network_spec(recipe: Recipe, n_features: int, heads: Sequence[Head]) -> NetworkSpec:
    """The network that a recipe asks for."""
    m = recipe.model
    return NetworkSpec(
        n_features=n_features,
        channels=m.channels,
        kernel=m.kernel,
        dilations=tuple(m.first_dilation * 2**i for i in range(m.layers)),
        head_channels=m.head_channels,
        head_dilations=tuple(2**i for i in range(m.head_layers)),
        heads=tuple(heads),
    )


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
    """Train the causal multitask TCN; resumes from `folder`'s checkpoint if it holds one of the same recipe.

    Stops when `patience` evaluations brought no better validation score (mean over head groups of macro-F1 and mAP).
    """
    if not training or not validation:
        raise SettingError("training needs at least one training and one validation recording")
    settings = recipe.train
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(settings.seed)
    extractor = FeatureExtractor(skeleton, FeatureSpec(**config.to_plain(recipe.features)), fps)
    model = MultitaskTCN(network_spec(recipe, extractor.n_features, heads), recipe.model.dropout)
    validation_features = [extractor.run(e.keypoints, e.confidence, recipe.arena) for e in validation]
    sampler = CropSampler(training, recipe, skeleton, extractor)
    weights = class_weights([e.labels for e in training], heads, settings.class_weight_power)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    run = _Run(fingerprint(recipe, training, validation, skeleton, fps, tuple(heads)))
    resumed = checkpoint.load(folder, run.fingerprint) if folder else None
    if resumed:
        tensors, progress = resumed
        model.load_state_dict(tensors["model"])
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
        losses = []
        for batch in sampler.epoch(run.epoch):
            rate = settings.learning_rate * _schedule(run.step, settings.warmup_steps, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
                first, refined = model(torch.from_numpy(batch.features))
            loss = multitask_loss(first, refined, torch.from_numpy(batch.labels), heads, weights, settings)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_gradient)
            optimizer.step()
            run.step += 1
            # A young average would remember the random start; its memory grows with the run.
            keep = min(settings.ema, (1 + run.step) / (10 + run.step))
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    run.average[name].lerp_(value, 1 - keep)
            losses.append(loss.item())
            report({"epoch": run.epoch, "step": run.step, "steps": steps, "loss": losses[-1]})
        run.epoch += 1
        run.seconds += time.monotonic() - started
        if run.epoch % settings.evaluate_every == 0 or run.epoch == settings.epochs:
            scores = _evaluate(model, run.average, heads, validation, validation_features, recipe, fps)
            mean = _overall(scores)
            entry = {"epoch": run.epoch, "loss": float(np.mean(losses)), "score": mean, "groups": scores}
            entry["seconds"] = round(run.seconds, 1)
            run.history.append(entry)
            if mean > run.best_score:
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
                    "average": run.average,
                    "best": run.best,
                    "optimizer": checkpoint.optimizer_tensors(optimizer),
                },
                run.progress(),
            )
    model.load_state_dict(run.best)
    return Trained(model.spec, model.tensors(), run.best_score, run.best_epoch, run.seconds, run.history)


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


def _overall(scores: dict[str, dict[str, float]]) -> float:
    """Mean over head groups of macro-F1 and mAP; a group without a positive validation frame has none and is left out.

    Raises SettingError where no group has a score: nothing would tell good weights from bad ones.
    """
    groups = [[v for v in (s["f1"], s["map"]) if not math.isnan(v)] for s in scores.values()]
    means = [sum(g) / len(g) for g in groups if g]
    if not means:
        raise SettingError("no scored class has a frame in the validation recordings; choose others for validation")
    return float(np.mean(means))


def _evaluate(
    model: MultitaskTCN,
    tensors: dict[str, Tensor],
    heads: Sequence[Head],
    examples: Sequence[Example],
    features: Sequence[NDArray[np.float32]],
    recipe: Recipe,
    fps: float,
) -> dict[str, dict[str, float]]:
    """Validation scores of the averaged weights, per head group."""
    raw = {n: t.clone() for n, t in model.state_dict().items()}
    model.load_state_dict(tensors)
    model.eval()
    delay = recipe.model.lookahead_frames
    with torch.no_grad():
        outputs = [model.probabilities(torch.from_numpy(f)[None])[0].numpy() for f in features]
    model.load_state_dict(raw)
    offsets = model.spec.offsets
    scores = {}
    for column, head in enumerate(heads):
        videos = [
            (p[delay:, offsets[column] : offsets[column + 1]], e.labels[: len(e) - delay, column])
            for p, e in zip(outputs, examples, strict=True)
        ]
        scores[head.name] = score_head(head, videos, fps)
    return group_scores(heads, scores)
