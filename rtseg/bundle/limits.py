"""What a bundle may ask for: sizes, counts and names, checked before memory is taken or a loop begins.

A bundle comes from somebody else, and is loaded by a daemon that answers other people's streams. Its hash tells that it
is whole, not that it is harmless. The limits are far above what models of poses need (docs/security.md lists them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rtseg.bundle.architecture import LARGEST_SIZE, Architecture
from rtseg.bundle.network import NetworkSpec
from rtseg.bundle.trees import MAX_COLUMNS, MAX_NODES, MAX_WINDOWS, TreesSpec
from rtseg.config import MAX_LOOKAHEAD_FRAMES, DecodingSettings, FeatureSettings, GapSettings
from rtseg.errors import BundleError
from rtseg.frames import scale
from rtseg.frames.skeleton import Skeleton
from rtseg.wire.fields import MAX_NAME_CHARACTERS
from rtseg.wire.messages import MAX_POINTS

MAX_MANIFEST_BYTES = 1 << 20
MAX_WEIGHTS_BYTES = 32 << 20
MAX_DERIVED_BYTES = {"step.onnx": 2 * MAX_WEIGHTS_BYTES, "precisions.json": 256 << 10}
MAX_FEATURES = LARGEST_SIZE
MAX_HEADS, MAX_OUTPUTS = 64, 1024
MAX_LAYERS, MAX_KERNEL, MAX_CELLS, MAX_VIEWS = 32, 16, 16, 24
MAX_WIDTH = 4096
"""Of a trunk's output, of all heads' channels, of all cells' codes."""
MAX_STATE_BYTES = 32 << 20
"""What a stream's state may take. The shipped models take some kilobytes, the paper's causal MS-TCN 3 MB, its multitask
model with a head for each of CalMS21's annotators and behaviours 15 MB."""
MAX_FILL_FRAMES = 1000
MAX_FROZEN_S = 86_400
MAX_WINDOW_S = 600
MAX_STEPS_AT_ONCE = 150_000_000
"""Multiply-adds of the steps that one message of a client can cause: a gap that is filled, or the answers that a
lookahead owes at a stream's end. About 10 ms of a CPU, in which no other stream is answered."""
MAX_FRAMES = 1_000_000
"""Of decoding, warm-up and holding: a million frames are nine hours."""
_MAX_LISTED = 1024


def check_description(manifest: Mapping[str, Any]) -> None:
    """Raise BundleError for what no model can say of itself: a number out of range, too many names. Builds nothing."""
    _check_name(manifest["name"], "name")
    for key, kind in (("simulated", bool), ("scores", dict), ("provenance", dict), ("features", dict), ("files", dict)):
        if type(manifest[key]) is not kind:
            raise BundleError(f"{key}: expected {kind.__name__}, got {manifest[key]!r}")
    _check_number(manifest["fps"], "fps", 0.01, 10_000)
    _check_number(manifest["tolerance"], "tolerance", 0, 1)
    _check_count(manifest["lookahead_frames"], "lookahead_frames", 0, MAX_LOOKAHEAD_FRAMES)
    _check_count(manifest["warmup_frames"], "warmup_frames", 0, MAX_FRAMES)
    arena = manifest["arena"]
    if not isinstance(arena, list) or len(arena) != 4:
        raise BundleError(f"arena must be a box x0, y0, x1, y1, got {arena!r}")
    for end in arena:
        _check_number(end, "arena", -1e6, 1e6)
    # A thousandth of a pixel: below that float32 no longer tells its ends apart.
    if arena[2] - arena[0] < 1e-3 or arena[3] - arena[1] < 1e-3:
        raise BundleError(f"arena must be a box x0, y0, x1, y1, got {arena}")
    _check_skeleton(manifest["skeleton"])
    for head, threshold in _mapping(manifest.get("abstain_below", {}), "abstain_below").items():
        _check_number(threshold, f"abstain_below.{head}", 0, 1, "a probability in [0, 1]")
    ranges = manifest.get("ranges")
    if ranges is not None:
        _check_number(_mapping(ranges, "ranges")["share"], "ranges.share", 0, 1)
        _check_number(ranges["far"], "ranges.far", 0, 1e9)
        for value in (*ranges["low"], *ranges["high"]):
            if value is not None:  # an open end
                _check_number(value, "ranges", -1e38, 1e38)

    _check_size(manifest)


def check_features(settings: FeatureSettings) -> None:
    """Raise BundleError for feature settings that take too much memory or are not finite."""
    for name, values, most in (
        ("lags", settings.lags, MAX_FRAMES),
        ("horizons_s", settings.horizons_s, 86_400),
        ("windows_s", settings.windows_s, MAX_WINDOW_S),
    ):
        if len(values) > 16:
            raise BundleError(f"features.{name}: at most 16 values, got {len(values)}")
        for value in values:
            _check_number(value, f"features.{name}", 1e-3, most)
    for name in ("hold_frames", "absence_cap_s", "relink_margin_px", "relink_cap_px"):
        _check_number(getattr(settings, name), f"features.{name}", 0, MAX_FRAMES)


def read_architecture(plain: Mapping[str, Any]) -> Architecture:
    """What `Architecture.to_dict` gave, checked. Raises BundleError, also for a kind that this rtseg does not know."""
    is_trees = dict(plain).get("kind") == "gradient-boosting"
    architecture = TreesSpec.from_dict(plain) if is_trees else NetworkSpec.from_dict(dict(plain))
    check_architecture(architecture)
    return architecture


def check_architecture(architecture: Architecture) -> None:
    """Raise BundleError for a model that is too large, or whose heads can't be told apart."""
    names = [head.name for head in architecture.heads]
    if len(set(names)) != len(names) or not names:
        raise BundleError(f"heads have different names, got {', '.join(names) or 'none'}")
    for head in architecture.heads:
        for name in (head.name, *head.classes, head.group):
            _check_name(name, "heads")
    sizes: list[tuple[str, int, int]] = [
        ("heads", len(names), MAX_HEADS),
        ("outputs", architecture.n_outputs, MAX_OUTPUTS),
        ("features", architecture.n_features, MAX_FEATURES),
    ]
    if isinstance(architecture, NetworkSpec):
        sizes += _network_sizes(architecture)
    if isinstance(architecture, TreesSpec):
        sizes += [
            ("windows", len(architecture.windows), MAX_WINDOWS),
            ("columns", architecture.n_columns, MAX_COLUMNS),
            ("nodes of a head's trees", max(trees.nodes for trees in architecture.trees), MAX_NODES),
        ]
    sizes += [
        ("bytes of weights", weight_bytes(architecture), MAX_WEIGHTS_BYTES),
        ("bytes of a stream's state", 4 * architecture.state_floats, MAX_STATE_BYTES),
    ]
    for what, number, most in sizes:
        if number > most:
            raise BundleError(f"architecture: at most {most} {what}, got {number}")


def _network_sizes(spec: NetworkSpec) -> list[tuple[str, int, int]]:
    if spec.views and list(spec.views[0]) != list(range(1, spec.n_features + 1)):
        raise BundleError(f"the first view must be the features as they are, got {list(spec.views[0])[:8]} ...")
    return [
        ("layers", max(len(spec.dilations), len(spec.head_dilations)), MAX_LAYERS),
        ("taps", spec.kernel, MAX_KERNEL),
        ("cells", len(spec.cells), MAX_CELLS),
        ("views", len(spec.views), MAX_VIEWS),
        ("values of the trunk", spec.width, MAX_WIDTH),
        ("channels of all heads", len(spec.heads) * spec.head_channels, MAX_WIDTH),
        ("values of all cells' codes", sum(cell.encoder for cell in spec.cells), MAX_WIDTH),
    ]


def check_servable(
    architecture: Architecture,
    features: FeatureSettings,
    skeleton: Skeleton,
    fps: float,
    lookahead_frames: int,
    decoding: DecodingSettings,
    gaps: GapSettings,
) -> None:
    """Raise BundleError for a model that no daemon loads: for its sizes, a stream's memory, or a message's work."""
    check_architecture(architecture)
    _check_memory(features, skeleton, fps, architecture)
    step = architecture.work + speeds_in_windows(features, skeleton, fps)
    _check_work(step, lookahead_frames, decoding, gaps)


def _check_memory(features: FeatureSettings, skeleton: Skeleton, fps: float, architecture: Architecture) -> None:
    # Features look back by twice their longest lag, and remember the speeds of their longest window.
    animals, keypoints = skeleton.shape
    state = 4 * architecture.state_floats + 8 * animals * keypoints * (2 * max(features.lags) + 1)
    state += 4 * speeds_in_windows(features, skeleton, fps)
    if state > MAX_STATE_BYTES:
        raise BundleError(
            f"features.lags and windows_s: a stream's state may take {MAX_STATE_BYTES} bytes, got {state}"
        )


def speeds_in_windows(features: FeatureSettings, skeleton: Skeleton, fps: float) -> int:
    """How many speeds a step sums up: of every point and lag, those of the longest window."""
    animals, keypoints = skeleton.shape
    return animals * keypoints * len(features.lags) * max(features.window_frames(fps), default=0)


def _check_work(step: int, lookahead_frames: int, decoding: DecodingSettings, gaps: GapSettings) -> None:
    """Raise BundleError where one message could hold up all streams, or decoding counts beyond MAX_FRAMES.

    step: work of the model (`Architecture.work`) and speeds in windows, for one frame.
    """
    for name in ("min_bout_frames", "merge_gap_frames", "settle_frames"):
        _check_count(getattr(decoding, name), f"decoding.{name}", 0, MAX_FRAMES)
    _check_count(gaps.fill_frames, "gaps.fill_frames", 0, MAX_FILL_FRAMES)
    _check_number(gaps.low_confidence, "gaps.low_confidence", 0, 1)
    _check_number(gaps.frozen_s, "gaps.frozen_s", 0, MAX_FROZEN_S)
    steps = max(lookahead_frames, gaps.fill_frames, 1)
    if steps * step > MAX_STEPS_AT_ONCE:
        raise BundleError(
            f"lookahead_frames and gaps.fill_frames: {steps} steps of {step} multiply-adds each, sums over windows "
            f"included, would hold up all streams of a daemon; at most {MAX_STEPS_AT_ONCE} together"
        )


def weight_bytes(architecture: Architecture) -> int:
    """Of all tensors that the architecture names."""
    return 4 * sum(math.prod(shape) for shape in architecture.shapes().values())


def _check_size(manifest: Mapping[str, Any]) -> None:
    if manifest.get("px_per_mm") is not None:
        _check_number(manifest["px_per_mm"], "px_per_mm", scale.MIN_PX_PER_MM, scale.MAX_PX_PER_MM)
    size = manifest.get("body_size")
    if size is not None:
        lengths = _mapping(size, "body_size")["lengths_px"]
        if not isinstance(size["pairs"], list) or not isinstance(lengths, list) or len(size["pairs"]) > _MAX_LISTED:
            raise BundleError(f"body_size: expected at most {_MAX_LISTED} pairs and their lengths, got {size!r}")
        for value in lengths:
            _check_number(value, "body_size.lengths_px", 1e-6, 1e9)
        for key in ("low", "high"):
            _check_number(size[key], f"body_size.{key}", 1e-6, 1e6)
        _check_number(size["horizon_s"], "body_size.horizon_s", 1e-3, MAX_FRAMES)
        _check_count(size["frames"], "body_size.frames", 1, MAX_FRAMES)


def _check_skeleton(plain: Any) -> None:
    skeleton = _mapping(plain, "skeleton")
    counts = []
    for what in ("animals", "keypoints", "pairs", "edges"):
        listed = skeleton.get(what, [])
        if not isinstance(listed, list) or len(listed) > _MAX_LISTED:
            raise BundleError(f"skeleton.{what}: expected a list of at most {_MAX_LISTED}, got {listed!r}")
        counts.append(len(listed))
    if counts[0] * counts[1] > MAX_POINTS:
        raise BundleError(f"skeleton: at most {MAX_POINTS} points, got {counts[0]} animals x {counts[1]} keypoints")
    for name in (*skeleton["animals"], *skeleton["keypoints"]):
        _check_name(name, "skeleton")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise BundleError(f"damaged or foreign manifest: {where}: expected a map, got {value!r}")
    return value


def _check_name(name: Any, where: str) -> None:
    # As on the wire, where all of them travel. A text that is not printable may be none that UTF-8 can write.
    if type(name) is not str or not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise BundleError(f"{where}: expected 1 to {MAX_NAME_CHARACTERS} printable characters, got {name!r}")


def _check_count(value: Any, where: str, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise BundleError(f"{where} is out of range: expected a whole number in {least} .. {most}, got {value!r}")


def _check_number(value: Any, where: str, least: float, most: float, what: str = "") -> None:
    # A NaN is in no range, and to Python a bool is a number.
    if type(value) not in (int, float) or not least <= value <= most:
        raise BundleError(
            f"{where} is out of range: expected {what or f'a number in {least:g} .. {most:g}'}, got {value!r}"
        )
