"""The training loop: batches in, the weights with the best validation score (or the last ones) out.

Knows recordings only as `Example`s; writes checkpoints and reports events, never a bundle (that is `export`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rtseg import config
from rtseg.bundle.network import NetworkSpec
from rtseg.config import TrainSettings
from rtseg.errors import DivergenceError, SettingError
from rtseg.features.extractor import FeatureExtractor
from rtseg.model.base import SequenceModel
from rtseg.model.select import make_model
from rtseg.model.tcn import MultitaskTCN
from rtseg.training import checkpoint
from rtseg.training.crops import Batch, CropSampler, fit_scaler
from rtseg.training.future_pose import FuturePose
from rtseg.training.losses import MultitaskLoss
from rtseg.training.selection import (
    GroupScores,
    constant_f1,
    is_above,
    predict_probabilities,
    score_held_out,
)
from rtseg.training.task import EventCallback, TrainingTask, features_of

LARGEST_GRADIENT = 1.0
"""Gradients are scaled down to this norm: crops of rare classes make steep ones."""


@dataclass
class TrainedNetwork:
    """The network with its best weights, how they scored on the validation recordings, and the run's history.

    score: NaN where nothing was held out.
    """

    model: SequenceModel
    score: float
    epoch: int
    seconds: float
    cpu_seconds: float
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The best weights, by name."""
        return self.model.tensors()

    @property
    def spec(self) -> NetworkSpec:
        """The sizes for a bundle. Raises SettingError where no engine could step the network."""
        if not isinstance(self.model, MultitaskTCN) or not self.model.causal:
            raise SettingError(config.NO_BUNDLE)
        return self.model.spec


def train(task: TrainingTask, folder: Path | None = None, report: EventCallback = lambda event: None) -> TrainedNetwork:
    """Train the network that the recipe names; resumes from `folder`'s checkpoint if it holds one of the same task.

    Stops when `patience` evaluations brought no better validation score (mean over head groups of macro-F1 and mAP,
    unless `train.select` says otherwise), counted from where `train.patience_from` says. Raises DivergenceError where
    the loss is no finite number any more.
    """
    task = task.in_pieces()
    task.require_recordings()
    settings = task.recipe.train
    make_torch_deterministic(settings)
    run = _TrainingRun(task)
    if folder is None or not run.load_checkpoint(folder):
        run.initialize_weights()
    progress = run.progress
    while not progress.is_over(settings):
        loss = run.train_epoch(report)
        if progress.epoch % settings.evaluate_every == 0 or progress.epoch == settings.epochs:
            run.evaluate(loss, report)
        # After every epoch, evaluated or not: a killed run loses one epoch at most.
        if folder:
            run.save_checkpoint(folder)
    # Not the last weights: those of the best evaluation.
    run.model.load_state_dict(run.best)
    run.model.eval()
    return TrainedNetwork(
        run.model, progress.best_score, progress.best_epoch, progress.seconds, progress.cpu_seconds, progress.history
    )


def make_torch_deterministic(settings: TrainSettings) -> None:
    """The same seed and threads give the same bits."""
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    # Filling memory that is about to be written costs time and changes nothing that is read.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(settings.seed)


@dataclass
class _Progress:
    """What a run has reached so far, as a checkpoint records it."""

    fingerprint: str
    epoch: int = 0
    step: int = 0
    stale: int = 0
    """Evaluations since the best one, of those that count."""
    has_learnt: bool = False
    """Whether the network was ever better than the best constant answer."""
    best_epoch: int = 0
    best_score: float = -math.inf
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the processor, which other load does not lengthen."""
    history: list[dict[str, Any]] = field(default_factory=list)

    def is_over(self, settings: TrainSettings) -> bool:
        """Whether all epochs are trained, or `patience` evaluations have brought nothing better."""
        return self.epoch >= settings.epochs or self.stale >= settings.patience

    def record_evaluation(self, entry: dict[str, Any], settings: TrainSettings, above_constant: bool) -> bool:
        """Add an evaluation to the history; whether its weights are the ones to keep so far."""
        self.history.append(entry)
        self.has_learnt |= above_constant
        is_best: bool = entry["score"] > self.best_score or settings.select == "last"
        if is_best:
            self.best_score, self.best_epoch, self.stale = entry["score"], self.epoch, 0
        elif self.has_learnt or settings.patience_from == "start":
            self.stale += 1
        return is_best


class _TrainingRun:
    """The network in training, with everything that changes it: sampler, loss, optimizer, averaged and best weights."""

    def __init__(self, task: TrainingTask) -> None:
        self.task, recipe = task, task.recipe
        extractor = task.feature_extractor()
        self.extractor = extractor
        views = extractor.spec.views(task.skeleton) if recipe.model.forget_order else ()
        # The network before anything else: its weights are the first that torch's generator draws.
        self.model = make_model(recipe, extractor.n_features, task.heads, views)
        self.extras = _extras(self.model, task, extractor)
        self.validation_features = [features_of(e, extractor, recipe) for e in task.validation]
        self.constant_f1 = constant_f1(task.heads, task.validation)
        self.sampler = CropSampler(task, extractor)
        self.parameters = [*self.model.parameters(), *self.extras.parameters()]
        self.optimizer = _optimizer(self.parameters, recipe.train)
        self.steps = recipe.train.epochs * self.sampler.batches_per_epoch
        self.progress = _Progress(task.fingerprint())
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}

    def initialize_weights(self) -> None:
        """Start a new run: the scaler from the training recordings, the other weights as they were drawn."""
        scaler = self.task.recipe.scaler
        features = [features_of(e, self.extractor, self.task.recipe) for e in self.task.training]
        for name, value in fit_scaler(features, scaler.kind, scaler.clip).items():
            self.model.weight(name).copy_(torch.from_numpy(value))
        # After the scaler was put in, or the averaged weights would hold another one.
        self.average, self.best = _copied(self.model.state_dict()), _copied(self.model.state_dict())

    def train_epoch(self, report: EventCallback) -> float:
        """One epoch; the mean loss of its batches."""
        settings, progress = self.task.recipe.train, self.progress
        started, cpu_started = time.monotonic(), time.process_time()
        # Anew for every epoch, so that a resumed run draws the same dropout as one that was never stopped.
        torch.manual_seed(hash_seed(settings.seed, progress.epoch))
        self.model.train()
        self.model.frame_stride = settings.frame_stride
        losses = []
        for batch in self.sampler.epoch(progress.epoch):
            losses.append(self._train_batch(batch, settings))
            report({"epoch": progress.epoch, "step": progress.step, "steps": self.steps, "loss": losses[-1]})
        self.model.frame_stride = 1  # evaluation sees every frame
        progress.epoch += 1
        progress.seconds += time.monotonic() - started
        progress.cpu_seconds += time.process_time() - cpu_started
        return float(np.mean(losses))

    def _train_batch(self, batch: Batch, settings: TrainSettings) -> float:
        rate = settings.learning_rate * learning_rate_factor(self.progress.step, settings, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            loss = _batch_loss(self.model, self.extras, batch)
        value = loss.item()
        if not math.isfinite(value):  # its gradients would make every weight NaN, for good
            raise DivergenceError(
                f"training diverged: the loss is {value} at batch {self.progress.step + 1}; lower "
                f"train.learning_rate ({settings.learning_rate:g}), or look for wild points with `rtseg inspect`"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, LARGEST_GRADIENT)
        self.optimizer.step()
        self.progress.step += 1
        # A young average would remember the random start; its memory grows with the run.
        keep = min(settings.ema, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            # Buffers are averaged as well; they do not change, so they stay as they are.
            for name, tensor in self.model.state_dict().items():
                self.average[name].lerp_(tensor, 1 - keep)
        return value

    def evaluate(self, loss: float, report: EventCallback) -> None:
        """Score the averaged weights on the validation recordings, and keep them where they are the best so far."""
        settings, progress = self.task.recipe.train, self.progress
        scores, score = self._validation_scores()
        entry = {"epoch": progress.epoch, "loss": loss, "score": score, "groups": scores}
        entry |= {"seconds": round(progress.seconds, 1), "batches": progress.step}
        if progress.record_evaluation(entry, settings, is_above(scores, self.constant_f1, settings)):
            self.best = _copied(self.average)
        report(entry)

    def _validation_scores(self) -> tuple[GroupScores, float]:
        # The averaged weights are scored; training goes on with the weights themselves.
        task, raw = self.task, _copied(self.model.state_dict())
        self.model.load_state_dict(self.average)
        lookahead = task.recipe.model.lookahead_frames
        predictions = [predict_probabilities(self.model, f, lookahead) for f in self.validation_features]
        self.model.load_state_dict(raw)
        return score_held_out(task, predictions)

    def load_checkpoint(self, folder: Path) -> bool:
        """Continue from a checkpoint of the same task; False where there is none."""
        found = checkpoint.load_checkpoint(folder, self.progress.fingerprint)
        if found is None:
            return False
        tensors, progress = found
        self.model.load_state_dict(tensors["model"])
        self.extras.load_state_dict(tensors.get("extras", {}))
        checkpoint.restore_optimizer(self.optimizer, tensors["optimizer"])
        self.average, self.best = tensors["average"], tensors["best"]
        self.progress = _Progress(**progress)
        return True

    def save_checkpoint(self, folder: Path) -> None:
        """Write everything that `load_checkpoint` needs to continue bit for bit."""
        tensors = {
            "model": self.model.state_dict(),
            "extras": self.extras.state_dict(),
            "average": self.average,
            "best": self.best,
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
        }
        checkpoint.save_checkpoint(folder, tensors, vars(self.progress))


def learning_rate_factor(step: int, settings: TrainSettings, steps: int) -> float:
    """Linear warm-up to 1, then half a cosine down to a tenth, or 1 to the end."""
    warmup = settings.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    # From 1 at the end of the warm-up to 0.1 at the last step.
    return 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))


def hash_seed(*parts: int) -> int:
    """One 32-bit seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _optimizer(parameters: Sequence[nn.Parameter], settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW, biases and other vectors without weight decay."""
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        fused=True,  # all weights in one call: a deep network has hundreds of small ones
    )


def _extras(model: SequenceModel, task: TrainingTask, extractor: FeatureExtractor) -> nn.ModuleDict:
    """What is trained beside the network and dropped afterwards: the loss's own weights, the future pose's output."""
    settings = task.recipe.train
    extras: dict[str, nn.Module] = {"loss": MultitaskLoss(task.heads, [e.labels for e in task.training], settings)}
    if settings.future_pose_weight:
        # Up-sampling and the stride change how many rows of a crop make a second.
        rows_per_s = task.fps * task.recipe.augment.interpolate / settings.frame_stride
        extras["future_pose"] = FuturePose(model, extractor.features, settings.future_pose_weight, rows_per_s)
    return nn.ModuleDict(extras)


def _batch_loss(model: SequenceModel, extras: nn.ModuleDict, batch: Batch) -> Tensor:
    # The trunk is computed once for both losses.
    features = torch.from_numpy(batch.features)
    hidden = model.trunk(features)
    loss: Tensor = extras["loss"](model.stage_logits(hidden), torch.from_numpy(batch.labels))
    if "future_pose" in extras:
        loss = loss + extras["future_pose"](hidden, features, model)
    return loss
