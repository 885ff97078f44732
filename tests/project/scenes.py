"""Small folders of files as laboratories have them: poses of walking animals, and labels of several programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.recordings.writers import write_dlc

POINTS = ("nose", "left_ear", "right_ear", "tail_base")
SHAPE = np.array([(20.0, 0.0), (12.0, -6.0), (12.0, 6.0), (-20.0, 0.0)])
N_FRAMES = 1800
Bouts = Sequence[tuple[str, float, float]]


def walk(n_frames: int, n_animals: int = 2, seed: int = 0) -> np.ndarray:
    """Points (T, A, K, 2) of animals that walk forwards on circles of their own."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_frames)[:, None]
    angle = 0.02 * t + rng.uniform(0, 6, n_animals)
    center = np.stack([400 + 150 * np.cos(angle), 300 + 150 * np.sin(angle)], axis=-1)
    heading = angle + np.pi / 2
    turn = np.stack([np.cos(heading), -np.sin(heading), np.sin(heading), np.cos(heading)], axis=-1)
    points = np.einsum("tars,ks->takr", turn.reshape(n_frames, n_animals, 2, 2), SHAPE)
    return center[:, :, None] + points + rng.normal(0, 0.3, points.shape)


def write_poses(
    path: Path, n_frames: int = N_FRAMES, animals: Sequence[str] = ("adult", "juvenile"), seed: int = 0
) -> Path:
    points = walk(n_frames, len(animals), seed)
    return write_dlc(path, points, np.full(points.shape[:3], 0.9), animals, POINTS)


def write_boris(path: Path, bouts: Bouts, subject: str = "adult", fps: float = 30.0) -> Path:
    """BORIS' tabular events. bouts: (behaviour, start, stop) in seconds."""
    rows = ["Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status"]
    marks = [(t, b, s) for b, start, stop in bouts for t, s in ((start, "START"), (stop, "STOP"))]
    rows += [f"{t:.3f},v.mp4,{N_FRAMES / fps:.1f},{fps:.1f},{subject},{b},,,{s}" for t, b, s in sorted(marks)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def regular_bouts(behaviours: Sequence[str] = ("sniff",), n: int = 12, length_s: float = 1.5) -> Bouts:
    """Bouts evenly over a minute, the behaviours in turn."""
    return [(behaviours[i % len(behaviours)], 5.0 * i + 1, 5.0 * i + 1 + length_s) for i in range(n)]


def write_bouts(path: Path, rows: Sequence[tuple[int, int, str]], header: str = "start,stop,behaviour") -> Path:
    path.write_text("\n".join([header, *(f"{a},{b},{c}" for a, b, c in rows)]) + "\n", encoding="utf-8")
    return path
