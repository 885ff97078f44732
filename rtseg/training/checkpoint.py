"""Checkpoints of a training run: safetensors and JSON, written aside and renamed, so a kill leaves the last one whole.

Random draws depend on the seed and the epoch alone; a run that resumes from here continues bit for bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rtseg.errors import SettingError
from rtseg.system.files import replace_atomically

NAME = "checkpoint.safetensors"


def save_checkpoint(folder: Path, modules: dict[str, dict[str, Tensor]], progress: dict[str, Any]) -> None:
    """Write named groups of tensors and a JSON-able progress record as one file."""
    # One file for weights and progress: of two, a kill could leave one from this epoch and one from the last.
    flat = {f"{group}:{name}": t.contiguous() for group, tensors in modules.items() for name, t in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with replace_atomically(folder / NAME) as part:
        save_file(flat, part, metadata={"progress": json.dumps(progress)})


def load_checkpoint(folder: Path, fingerprint: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """What `save_checkpoint` wrote, or None where there is nothing.

    Raises SettingError when the checkpoint belongs to another recipe (its fingerprint differs), or was cut or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / NAME
    if not path.is_file():
        return None
    try:
        # The header alone says whether the weights are worth reading.
        with safe_open(path, "pt") as file:
            progress: dict[str, Any] = json.loads(file.metadata()["progress"])
        is_ours = progress["fingerprint"] == fingerprint
        tensors = load_file(path) if is_ours else {}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"{path} was cut or damaged ({error}): remove the folder to start anew, or put a copy of it back"
        ) from error
    if not is_ours:
        raise SettingError(
            f"{path} belongs to another recipe or data set: remove the folder to start anew, or restore the recipe"
        )
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(":")
        modules.setdefault(group, {})[rest] = tensor
    return modules, progress


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An AdamW's moments and step counts as flat tensors."""
    state = optimizer.state_dict()["state"]
    # Flat, because safetensors holds tensors by name and nothing nested.
    return {f"{i}.{key}": value for i, moments in state.items() for key, value in moments.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put what `optimizer_tensors` gave back."""
    # The fresh optimizer's own groups stay: learning rates and weight decay come from the recipe, not from the file.
    plain = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    plain["state"] = state
    optimizer.load_state_dict(plain)
