"""Slow, obvious versions of what the package computes cleverly: features, decoding, segmental scores.

Plain Python and numpy in float64, straight from the words of the specification. Imports no kernel and nothing of
rtseg.features; every value is worked out anew from the whole past, so that no state can be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

NAN = float("nan")
Columns = dict[str, list[float]]


@dataclass(frozen=True)
class Scene:
    """A recording (T, A, K, 2) and (T, A, K) with the settings that its features depend on."""

    keypoints: NDArray[np.float32]
    confidence: NDArray[np.float32]
    animals: tuple[str, ...]
    names: tuple[str, ...]
    axis: tuple[str, str]
    arena: tuple[float, float, float, float]
    fps: float
    lags: tuple[int, ...]
    horizons_s: tuple[float, ...]
    hold_frames: int
    absence_cap_s: float
    windows_s: tuple[float, ...] = ()

    def age(self, t: int, a: int, k: int) -> float:
        """Frames since the point was seen; infinite if it never was."""
        return next((back for back in range(t + 1) if not math.isnan(self.keypoints[t - back, a, k, 0])), math.inf)

    def point(self, t: int, a: int, k: int) -> tuple[float, float]:
        """Where a point is, or was last seen up to hold_frames ago; NaN otherwise and before the recording."""
        if t < 0 or self.age(t, a, k) > self.hold_frames:
            return NAN, NAN
        x, y = self.keypoints[t - int(self.age(t, a, k)), a, k]
        return float(x), float(y)

    def points(self, t: int, a: int) -> list[tuple[float, float]]:
        return [self.point(t, a, k) for k in range(len(self.names))]

    def known(self, t: int, a: int) -> list[tuple[float, float]]:
        return [p for p in self.points(t, a) if not math.isnan(p[0])]

    def center(self, t: int, a: int) -> tuple[float, float]:
        known = self.known(t, a)
        if not known:
            return NAN, NAN
        return sum(x for x, _ in known) / len(known), sum(y for _, y in known) / len(known)

    def extension(self, t: int, a: int) -> float:
        known = self.known(t, a)
        return sum(math.dist(p, self.center(t, a)) for p in known) / len(known) if known else NAN

    def heading(self, t: int, a: int) -> tuple[float, float]:
        """(cos, sin) from the rear to the front point; the center stands for a missing one."""
        ends = []
        for name in self.axis:
            point = self.point(t, a, self.names.index(name))
            ends.append(self.center(t, a) if math.isnan(point[0]) else point)
        length = math.dist(*ends)
        if not length > 1e-3:
            return NAN, NAN
        return (ends[1][0] - ends[0][0]) / length, (ends[1][1] - ends[0][1]) / length

    def speed(self, t: int, a: int, k: int, lag: int) -> float:
        """px/s of one point over the last `lag` frames."""
        return math.dist(self.point(t, a, k), self.point(t - lag, a, k)) * self.fps / lag

    def velocity(self, t: int, a: int, lag: int) -> tuple[float, float]:
        """px/s over the last `lag` frames: the mean over the points known at both ends."""
        both = [
            (p, q)
            for p, q in zip(self.points(t, a), self.points(t - lag, a), strict=True)
            if not math.isnan(p[0]) and not math.isnan(q[0])
        ]
        if not both:
            return NAN, NAN
        scale = self.fps / lag / len(both)
        return sum(p[0] - q[0] for p, q in both) * scale, sum(p[1] - q[1] for p, q in both) * scale

    def along_across(self, t: int, a: int, x: float, y: float) -> tuple[float, float]:
        """A vector seen by an animal: forward, and to the side (a quarter turn from x to y)."""
        c, s = self.heading(t, a)
        return x * c + y * s, -x * s + y * c

    def overlap(self, t: int, a: int, b: int) -> float:
        one, two = self.known(t, a), self.known(t, b)
        if not one or not two:
            return NAN
        sides = []
        for axis in (0, 1):
            low = max(min(p[axis] for p in one), min(p[axis] for p in two))
            high = min(max(p[axis] for p in one), max(p[axis] for p in two))
            sides.append(max(high - low, 0.0))
        return sides[0] * sides[1]

    def approach(self, t: int, a: int, b: int, lag: int) -> float:
        (ax, ay), (bx, by), (vx, vy) = self.center(t, a), self.center(t, b), self.velocity(t, a, lag)
        return (vx * (bx - ax) + vy * (by - ay)) / (math.dist((ax, ay), (bx, by)) + 1e-3)


def relinked(
    keypoints: NDArray[np.float32], confidence: NDArray[np.float32], margin: float, cap: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints (T, A, K, 2) and confidence (T, A, K) in the order of the animals that were last seen nearest.

    Two animals trade the tracker's names where their points, on average and each `cap` at most, come nearer by `margin`
    to where they were last seen.
    """
    n_animals, n_points = confidence.shape[1:]
    links, held = list(range(n_animals)), np.full((n_animals, n_points, 2), np.nan)
    points, scores = np.empty_like(keypoints), np.empty_like(confidence)

    def apart(t: int, pairs: list[tuple[int, int]]) -> float:
        far = [math.dist(keypoints[t, i, k], held[a, k]) for i, a in pairs for k in range(n_points)]
        known = [min(d, cap) for d in far if not math.isnan(d)]
        return sum(known) / len(known) if known else 0.0

    for t in range(len(keypoints)):
        for a, b in combinations(range(n_animals), 2):
            kept, traded = [(links[a], a), (links[b], b)], [(links[b], a), (links[a], b)]
            if apart(t, traded) + margin < apart(t, kept):
                links[a], links[b] = links[b], links[a]
        points[t], scores[t] = keypoints[t, links], confidence[t, links]
        seen = ~np.isnan(points[t, ..., 0])
        held[seen] = points[t][seen]
    return points, scores


def jumps(
    keypoints: NDArray[np.float32], margin: float, cap: float, swap: bool
) -> tuple[list[int], NDArray[np.float32]]:
    """1 for every frame of (T, A, K, 2) in which two animals seem mixed up, else 0; and the points, swapped back if so.

    Two animals are mixed up where their points, on average and each `cap` at most, come nearer by `margin` to where the
    other one was last seen. Where of one of the two assignments nothing is known, nothing is said.
    """
    _, n_animals, n_points, _ = keypoints.shape
    links, held = list(range(n_animals)), np.full((n_animals, n_points, 2), np.nan)
    found, points = [], keypoints.copy()
    for t, frame in enumerate(keypoints):
        found.append(0)
        for a, b in combinations(range(n_animals), 2):
            costs = []
            for pairs in ([(links[a], a), (links[b], b)], [(links[b], a), (links[a], b)]):
                far = [math.dist(frame[i, k], held[c, k]) for i, c in pairs for k in range(n_points)]
                known = [min(d, cap) for d in far if not math.isnan(d)]
                costs.append(sum(known) / len(known) if known else NAN)
            if costs[1] + margin < costs[0]:
                found[-1] = 1
                if swap:
                    links[a], links[b] = links[b], links[a]
        points[t] = frame[links]
        seen = ~np.isnan(points[t, ..., 0])
        held[seen] = points[t][seen]
    return found, points


def features(scene: Scene) -> dict[str, Columns]:
    """Group -> name of a feature -> its values in every frame."""
    groups: dict[str, Columns] = {}
    for t in range(len(scene.keypoints)):
        for group, columns in {**_paper(scene, t), **_field(scene, t)}.items():
            for name, value in columns.items():
                groups.setdefault(group, {}).setdefault(name, []).append(value)
    groups["averages"] = _averages(scene)
    return groups


def _paper(s: Scene, t: int) -> dict[str, dict[str, float]]:
    mid = (s.arena[0] + s.arena[2]) / 2, (s.arena[1] + s.arena[3]) / 2
    animals, points = list(enumerate(s.animals)), list(enumerate(s.names))
    out: dict[str, dict[str, float]] = {
        g: {}
        for g in ("position", "within_distance", "between_distance", "speed", "box_overlap", "center", "extension")
    }
    for a, animal in animals:
        for axis, letter in enumerate("xy"):
            out["center"][f"{animal}.center.{letter}"] = s.center(t, a)[axis] - mid[axis]
            for k, name in points:
                out["position"][f"{animal}.{name}.{letter}"] = s.point(t, a, k)[axis] - mid[axis]
        out["extension"][f"{animal}.extension"] = s.extension(t, a)
        for (i, one), (j, two) in combinations(points, 2):
            out["within_distance"][f"{animal}.{one}-{two}"] = math.dist(s.point(t, a, i), s.point(t, a, j))
        for k, name in points:
            for lag in s.lags:
                out["speed"][f"{animal}.{name}.speed_{lag}"] = s.speed(t, a, k, lag)
                for window in s.windows_s:
                    frames = range(t, max(t - max(1, round(window * s.fps)), -1), -1)
                    known = [v for v in (s.speed(u, a, k, lag) for u in frames) if not math.isnan(v)]
                    mean, largest = (sum(known) / len(known), max(known)) if known else (NAN, NAN)
                    out["speed"][f"{animal}.{name}.speed_{lag}.mean_{window:g}s"] = mean
                    out["speed"][f"{animal}.{name}.speed_{lag}.max_{window:g}s"] = largest
    for (a, one), (b, two) in combinations(animals, 2):
        out["box_overlap"][f"{one}-{two}.overlap"] = s.overlap(t, a, b)
        for i, p in points:
            for j, q in points:
                out["between_distance"][f"{one}.{p}-{two}.{q}"] = math.dist(s.point(t, a, i), s.point(t, b, j))
    return out


def _field(s: Scene, t: int) -> dict[str, dict[str, float]]:
    animals, points = list(enumerate(s.animals)), list(enumerate(s.names))
    kinds = "egocentric_self egocentric_other heading relative_angle body_velocity approach acceleration"
    out: dict[str, dict[str, float]] = {g: {} for g in (*kinds.split(), "confidence", "missing", "absence")}
    for a, animal in animals:
        cx, cy = s.center(t, a)
        c, sine = s.heading(t, a)
        out["heading"] |= {f"{animal}.heading_sin": sine, f"{animal}.heading_cos": c}
        for k, name in points:
            x, y = s.point(t, a, k)
            along, across = s.along_across(t, a, x - cx, y - cy)
            out["egocentric_self"] |= {f"{animal}.{name}.along": along, f"{animal}.{name}.across": across}
            age = s.age(t, a, k)
            out["confidence"][f"{animal}.{name}.confidence"] = float(s.confidence[t, a, k])
            out["missing"][f"{animal}.{name}.missing"] = float(age > 0)
            out["absence"][f"{animal}.{name}.absence"] = min(age / s.fps, s.absence_cap_s)
        for lag in s.lags:
            (vx, vy), (wx, wy) = s.velocity(t, a, lag), s.velocity(t - lag, a, lag)
            for group, letter, vector in (
                ("body_velocity", "v", (vx, vy)),
                ("acceleration", "a", ((vx - wx) * s.fps / lag, (vy - wy) * s.fps / lag)),
            ):
                along, across = s.along_across(t, a, *vector)
                out[group] |= {f"{animal}.{letter}_along_{lag}": along, f"{animal}.{letter}_across_{lag}": across}
    for (a, one), (b, two) in permutations(animals, 2):
        (ax, ay), (bx, by) = s.center(t, a), s.center(t, b)
        for k, name in points:
            x, y = s.point(t, b, k)
            along, across = s.along_across(t, a, x - ax, y - ay)
            out["egocentric_other"] |= {f"{one}>{two}.{name}.along": along, f"{one}>{two}.{name}.across": across}
        ahead, aside = s.along_across(t, a, bx - ax, by - ay)
        length = math.dist((ax, ay), (bx, by)) + 1e-3
        out["relative_angle"] |= {
            f"{one}>{two}.bearing_sin": aside / length,
            f"{one}>{two}.bearing_cos": ahead / length,
        }
        for lag in s.lags:
            out["approach"][f"{one}>{two}.approach_{lag}"] = s.approach(t, a, b, lag)
    for (a, one), (b, two) in combinations(animals, 2):
        turn = math.atan2(*reversed(s.heading(t, b))) - math.atan2(*reversed(s.heading(t, a)))
        out["relative_angle"] |= {f"{one}-{two}.turn_sin": math.sin(turn), f"{one}-{two}.turn_cos": math.cos(turn)}
    return out


def _averages(s: Scene) -> Columns:
    frames, first = range(len(s.keypoints)), s.lags[0]
    signals: Columns = {}
    for a, animal in enumerate(s.animals):
        signals[f"{animal}.speed"] = [math.hypot(*s.velocity(t, a, first)) for t in frames]
        signals[f"{animal}.extension"] = [s.extension(t, a) for t in frames]
    for (a, one), (b, two) in combinations(enumerate(s.animals), 2):
        signals[f"{one}-{two}.distance"] = [math.dist(s.center(t, a), s.center(t, b)) for t in frames]
        signals[f"{one}-{two}.overlap"] = [s.overlap(t, a, b) for t in frames]
    for (a, one), (b, two) in permutations(enumerate(s.animals), 2):
        signals[f"{one}>{two}.approach"] = [s.approach(t, a, b, first) for t in frames]
    return {
        f"{name}.mean_{horizon:g}s": [_average(values[: t + 1], horizon * s.fps) for t in frames]
        for name, values in signals.items()
        for horizon in s.horizons_s
    }


def _average(values: Sequence[float], frames: float) -> float:
    """Of the known values, the newest weighing 1 - exp(-1 / frames), or 1 / n as long as that is more."""
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return NAN
    total, rest = 0.0, 1.0  # from the newest back; rest: the weight that is left for the older ones
    for n in range(len(known), 0, -1):
        weight = max(1 - math.exp(-1 / frames), 1 / n)
        total += rest * weight * known[n - 1]
        rest *= 1 - weight
    return total


def forget_order(group: str, columns: Columns) -> Columns:
    """What is left of a group's features where the animals' order is not to be known.

    Features that differ in the animals alone share their values, largest first and unknown last; of a signed turn from
    one animal to another only the magnitude is known.
    """
    alike: dict[str, list[str]] = {}
    for name in columns:
        what = name.partition(".")[2]
        if group == "between_distance":  # a.nose-b.tail and a.tail-b.nose
            what = " and ".join(sorted(part.partition(".")[2] for part in name.split("-")))
        alike.setdefault(what, []).append(name)
    out: Columns = {}
    for what, names in alike.items():
        rows = []
        for values in zip(*(columns[name] for name in names), strict=True):
            if what == "turn_sin":
                values = [abs(v) for v in values]
            rows.append(sorted(values, key=lambda v: (math.isnan(v), -v)))
        for place, name in enumerate(names):
            out[name] = [row[place] for row in rows]
    return out


def decode(
    probs: NDArray[np.float32],
    margin: float,
    min_bout: int,
    merge_gap: int,
    settle_margin: float = 0.0,
    settle_frames: int = 0,
) -> tuple[list[int], list[bool]]:
    """Labels (T,) and bout starts (T,) of one head from probabilities (T, n), each frame from the whole past.

    The running label gives way to another when that one leads by `margin`, has led in `min_bout` frames on end, and
    the running one has not led in more than `merge_gap` frames on end. The margin is wider by a part of
    `settle_margin`: the part of `settle_frames` that is left since the bout began; not in the first bout.
    """
    fade = settle_margin / max(settle_frames, 1)
    labels: list[int] = []
    starts: list[bool] = []
    for t in range(len(probs)):
        if t == 0:
            labels.append(int(np.argmax(probs[0])))
            starts.append(True)
            continue
        running = labels[-1]
        began = max(u for u in range(t) if starts[u])
        leaders = []  # since the frame after the bout's start
        for age, row in enumerate(probs[began + 1 : t + 1], start=1):
            best = int(np.argmax(row))
            left = max(settle_frames - age, 0) if began > 0 else 0
            leaders.append(best if float(row[best]) >= float(row[running]) + (margin + fade * left) else running)
        led = next((i for i, who in enumerate(reversed(leaders)) if who != leaders[-1]), len(leaders))
        gone = next((i for i, who in enumerate(reversed(leaders)) if who == running), len(leaders))
        changes = leaders[-1] != running and led >= min_bout and gone > merge_gap
        labels.append(leaders[-1] if changes else running)
        starts.append(changes)
    return labels, starts


def segments(labels: Sequence[int]) -> list[tuple[int, set[int]]]:
    """(label, frames) of every stretch."""
    found: list[tuple[int, set[int]]] = []
    for t, label in enumerate(labels):
        if t == 0 or label != labels[t - 1]:
            found.append((int(label), set()))
        found[-1][1].add(t)
    return found


def segmental_f1(
    guesses: Sequence[Sequence[int]], truths: Sequence[Sequence[int]], scored: Sequence[int], overlap: float
) -> float:
    """Lea et al. 2017: each guessed segment claims its best true one; a hit if the overlap is enough and it is free."""
    hits = false = 0
    n_true = 0
    for guess, truth in zip(guesses, truths, strict=True):
        wanted = [s for s in segments(truth) if s[0] in scored]
        n_true += len(wanted)
        free = set(range(len(wanted)))
        for label, frames in segments(guess):
            if label not in scored:
                continue
            ious = [len(frames & f) / len(frames | f) if name == label else 0.0 for name, f in wanted]
            best = max(range(len(wanted)), key=lambda i: ious[i], default=None)
            if best is not None and best in free and ious[best] >= overlap:
                free.remove(best)
                hits += 1
            else:
                false += 1
    return 100 * 2 * hits / max(hits + false + n_true, 1)


def edit_score(guess: Sequence[int], truth: Sequence[int], scored: Sequence[int]) -> float:
    """100 * (1 - Levenshtein distance of the orders of segments / the longer one's length)."""
    a = [label for label, _ in segments(guess) if label in scored]
    b = [label for label, _ in segments(truth) if label in scored]
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) + 1):
        for j in range(len(b) + 1):
            if i == 0 or j == 0:
                table[i][j] = i + j
            else:
                change = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
                table[i][j] = min(change, table[i - 1][j] + 1, table[i][j - 1] + 1)
    return 100 * (1 - table[-1][-1] / max(len(a), len(b), 1))
