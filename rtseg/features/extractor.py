"""State in, features out: the feature kernel with the shapes of one skeleton and spec.

The extractor holds no state of any stream; `init_state` makes it, `step` and `run` move it on. Frames were validated
at the boundary (`rtseg.frames.frame`) and are not looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.compiled.array_tables import ArrayTable, TableRows
from rtseg.errors import SettingError
from rtseg.features import kernels, tables
from rtseg.features.body_size import BodySize
from rtseg.features.scale import SizeMeter, SizeState
from rtseg.features.slot_state import check_values, load_slot
from rtseg.features.spec import GROUPS, FeatureSpec, has_long_tail, length_power
from rtseg.features.tables import FeaturePlan, FeatureRule, Memory
from rtseg.frames.skeleton import Skeleton


@dataclass(frozen=True, eq=False, slots=True)
class FeatureState:
    """The memory of all slots. Iterating gives its arrays. rows: of their table (`compiled.array_tables`).

    size: of `FeatureExtractor.step`; whoever measures the animals' size himself leaves it alone.
    """

    memory: Memory
    rows: TableRows
    size: SizeState

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self.memory)


class FeatureExtractor:
    """Causal features of a skeleton at a frame rate (paper, section III, and the groups of `spec`).

    size: training's, which features in body lengths need. meter: what measures it. plan_rows: of the table of its plan
    (`compiled.array_tables`). Raises SettingError where features are to be divided by a body length that is not known.
    """

    def __init__(self, skeleton: Skeleton, spec: FeatureSpec, fps: float, size: BodySize | None = None) -> None:
        if spec.scale == "body" and size is None:
            raise SettingError(
                "features.scale = 'body' needs a body length: two points of an animal that are seen together in "
                f"training; the keypoints are {', '.join(skeleton.keypoints)}. Set features.scale = 'px'"
            )
        rear, front = skeleton.axis_indices
        self.skeleton, self.spec, self.fps, self.size = skeleton, spec, fps, size
        self.features = spec.features(skeleton)
        self.n_features = len(self.features)
        self._n_averages = sum(f.group == "averages" for f in self.features)
        windows = spec.window_frames(fps)
        # A ring of no frames takes no bytes: snapshots of models without windows stay as they were.
        self._window_frames = max(windows, default=0) if "speed" in spec.groups else 0
        self._n_speeds = len(skeleton.animals) * len(skeleton.keypoints) * len(spec.lags) if self._window_frames else 0
        # Sorted columns do not depend on which animal is called first; `kept` leaves them alone.
        orbits = spec.orbits(skeleton) if spec.animal_order == "sorted" else []
        unsigned = [i for i, f in enumerate(self.features) if f.orbit == "turn_sin" and spec.animal_order == "sorted"]
        rooted = [i for i, f in enumerate(self.features) if spec.motion == "roots" and has_long_tail(f)]
        rule = FeatureRule(
            fps=fps,
            hold_frames=spec.hold_frames,
            absence_cap_s=spec.absence_cap_s,
            rear_keypoint=rear,
            front_keypoint=front,
            is_relinked=spec.identities == "relinked",
            relink_margin_px=spec.relink_margin_px,
            relink_cap_px=spec.relink_cap_px,
        )
        plan = FeaturePlan(
            # In the order of GROUPS, which is the order in which kernels compute them.
            enabled=np.array([g in spec.groups for g in GROUPS]),
            lags=np.array(spec.lags, np.int64),
            # Computed in float64 and rounded once.
            decay=np.exp(-1.0 / (fps * np.array(spec.horizons_s))).astype(np.float32),
            # Indices and switches are exact in float64, so all eight numbers share one array and one address.
            rule=np.array(rule, np.float64),
            orbits=np.array([column for orbit in orbits for column in orbit], np.int64),
            orbit_ends=np.cumsum([len(orbit) for orbit in orbits], dtype=np.int64),
            unsigned=np.array(unsigned, np.int64),
            powers=np.array([length_power(f) for f in self.features], np.int64),
            rooted=np.array(rooted, np.int64),
            windows=np.array(windows, np.int64),
        )
        self.meter = SizeMeter(skeleton, size if spec.scale == "body" else None, fps, divides=spec.scale == "body")
        # What frames are divided by where nothing is measured, for as many of them as there were at once so far.
        self._ones = np.ones(1)
        self._plan = ArrayTable(plan)
        self.plan_rows = self._plan.rows

    def init_state(self, slots: int, arena: tuple[float, float, float, float]) -> FeatureState:
        """A fresh state for S slots; arena: box x0, y0, x1, y1 in px."""
        a, k = self.skeleton.shape
        # An acceleration compares velocities one lag apart, each over one lag.
        depth = 2 * max(self.spec.lags) + 1
        memory = Memory(
            past=np.empty((slots, depth, a, k, 2), np.float32),
            held=np.empty((slots, a, k, 2), np.float32),
            age=np.empty((slots, a, k), np.int32),
            averages=np.empty((slots, max(self._n_averages, 1)), np.float32),
            averaged=np.empty((slots, max(self._n_averages, 1)), np.int32),
            frames=np.empty(slots, np.int64),
            arena=np.tile(np.array(arena, np.float32), (slots, 1)),
            links=np.empty((slots, a), np.int32),
            speeds=np.empty((slots, self._window_frames, self._n_speeds), np.float32),
        )
        # `reset` alone says what a fresh slot is; the arrays above are not initialised.
        for slot in range(slots):
            tables.reset(memory, slot)
        return FeatureState(memory, ArrayTable(memory).rows, self.meter.init_state(slots))

    def reset(self, state: FeatureState, slot: int) -> None:
        """Start one slot again."""
        tables.reset(state.memory, slot)
        self.meter.reset(state.size, slot)

    def load_slot(self, data: object) -> Memory:
        """One slot's memory as `slot_state.slot_bytes` gave it. Raises SnapshotError."""
        memory = Memory(*load_slot(self.init_state(1, (0.0, 0.0, 0.0, 0.0)), data, "features"))
        # Numbers that a kernel divides by or looks up something with; of the others any value can be computed with.
        counts = (memory.frames, memory.age, memory.averaged)
        check_values(min(int(np.min(count)) for count in counts) >= 0, "counts of frames")
        # A permutation: each of the source's animals belongs to exactly one.
        check_values(sorted(memory.links.tolist()) == list(range(len(memory.links))), "links of animals")
        return memory

    def step(
        self,
        keypoints: NDArray[np.float32],
        confidence: NDArray[np.float32],
        slots: NDArray[np.int32],
        state: FeatureState,
        out: NDArray[np.float32],
    ) -> None:
        """Frames (N, A, K, 2) and (N, A, K) of the slots (N,), in order, into out (N, F); NaN = not known."""
        scales = self._scales(keypoints, slots, state.size)
        kernels.advance(keypoints, confidence, slots, self.plan_rows, state.rows, scales, out)

    def run(
        self,
        keypoints: NDArray[np.float32],
        confidence: NDArray[np.float32],
        arena: tuple[float, float, float, float],
        before: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Features (T, F) float32 of a whole recording (T, A, K, 2) from a fresh state: the same step, T times.

        before: (N, A, K, 2) frames that came earlier, of which only the animals' size is remembered.
        """
        out, state = np.empty((len(keypoints), self.n_features), np.float32), self.init_state(1, arena)
        if before is not None and self.spec.scale == "body":
            self.meter.measure(before, np.zeros(len(before), np.int32), state.size)
        self.step(keypoints, confidence, np.zeros(len(keypoints), np.int32), state, out)
        return out

    def _scales(self, keypoints: NDArray[np.float32], slots: NDArray[np.int32], size: SizeState) -> NDArray[np.float64]:
        """What the features of each frame are divided by."""
        if self.spec.scale == "body":
            return self.meter.measure(keypoints, slots, size)
        if len(slots) > len(self._ones):
            self._ones = np.ones(len(slots))
        return self._ones
