"""The bundle: a portable folder that is the only thing that passes from training to serving.

`manifest.json` says what the model is, `weights.safetensors` holds it. No pickle; every file's hash is checked at load.
Files made from these two (`add_derived_file`) are checked when they are read, and do not change the bundle's hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.bundle import limits
from rtseg.bundle.architecture import Architecture
from rtseg.bundle.network import NetworkSpec
from rtseg.bundle.weights import MAX_HEADER_BYTES, parse_tensors
from rtseg.config import DecodingSettings, FeatureSettings, GapSettings
from rtseg.errors import BundleError, RateError, RtsegError
from rtseg.features.body_size import BodySize
from rtseg.features.ranges import FeatureRanges
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.heads import Head
from rtseg.system.files import read_bounded, write_atomically
from rtseg.system.json_parser import parse_json

SCHEMA = 1
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
STEP, PRECISIONS = "step.onnx", "precisions.json"
"""Derived files: the step as ONNX, and what was measured of it in float16 and int8."""
REMAKE = f"or make it anew: 'rtseg step' writes {STEP}, 'rtseg calibrate --int8 --fp16' {PRECISIONS}"
RATE_TOLERANCE = 0.01
"""Share by which a source's frame rate may differ from the model's."""
UNSEALED = "0" * 64
"""Stands in a manifest for its own hash while that is taken."""
SHIPPED = Path(__file__).parent.parent / "bundles"
"""Where a wheel puts the default bundle."""
CHECKOUT = Path(__file__).parent.parent.parent / "engines"
"""Where a checkout has them."""
MAX_ERROR_CHARACTERS = 1000
NO_NETWORK = (
    "holds gradient-boosted trees, which the engine numba alone steps, in float32: ONNX, TensorRT, CUDA, torch and "
    "other precisions are for networks"
)
TOLERANCE = 1e-5
"""How far a float32 engine's probabilities may be from the torch reference's."""


@dataclass(frozen=True)
class StoredFiles:
    """Where a bundle was read from, and the sha256 of the files there by name."""

    folder: Path
    files: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model and everything that serving it needs.

    fps: the rate it was trained at. arena: default box x0, y0, x1, y1 in px; a stream's hello may name its own.
    lookahead_frames: the answer about frame t is given at t + lookahead. warmup_frames: a stream's first answers are
    flagged, since training's crops always had this much context. decoding: defaults. abstain_below: head -> the
    probability below which it is unsure; a head not named never is. ranges: of training's features; older bundles have
    none. body_size: how large training's animals appear; older bundles, and those of one point for each animal, have
    none. px_per_mm: of training's recordings, where they say it. scores and provenance: what was measured on what.
    hash: sha256 over the manifest, which holds it and the weights' own. stored: for a bundle as it was read; one that
    was made or changed (`dataclasses.replace`) has none.
    """

    name: str
    skeleton: Skeleton
    fps: float
    arena: tuple[float, float, float, float]
    features: FeatureSpec
    architecture: Architecture
    weights: Mapping[str, NDArray[Any]]
    lookahead_frames: int = 0
    warmup_frames: int = 0
    simulated: bool = False
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    gaps: GapSettings = field(default_factory=GapSettings)
    abstain_below: Mapping[str, float] = field(default_factory=dict)
    ranges: FeatureRanges | None = None
    body_size: BodySize | None = None
    px_per_mm: float | None = None
    tolerance: float = TOLERANCE
    scores: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    hash: str = ""
    stored: StoredFiles | None = field(default=None, init=False, repr=False)

    @property
    def heads(self) -> tuple[Head, ...]:
        """In the order of the outputs."""
        return self.architecture.heads

    @property
    def network(self) -> NetworkSpec:
        """The network's sizes. Raises BundleError for a bundle of trees, which only the numba engine steps."""
        if isinstance(self.architecture, NetworkSpec):
            return self.architecture
        raise BundleError(f"bundle {self.name!r} {NO_NETWORK}")

    def has_rate(self, fps: float) -> bool:
        """Whether frames at this rate can be stepped as they are (29.97 passes for 30)."""
        return abs(fps - self.fps) <= RATE_TOLERANCE * self.fps

    def check_rate(self, fps: float, who: str) -> None:
        """Raise RateError unless `who` has the rate that the model was trained at (29.97 passes for 30)."""
        if not self.has_rate(fps):
            raise RateError(
                f"{who}: {fps:g} frames per second; the model was trained at {self.fps:g}. Name a file's true rate "
                "with --fps, set the camera to the model's, or have it resampled (annotate --resample; resample in a "
                "stream's hello)"
            )

    def scale_of(self, px_per_mm: float | None) -> float | None:
        """How many px of a source with so many px for a mm stand for one of training; None where either is not known.

        None, too, where features are divided by the body length, which is measured in the same px.
        """
        if px_per_mm is None or self.px_per_mm is None or self.features.scale == "body":
            return None
        return px_per_mm / self.px_per_mm

    def select_heads(self, names: Sequence[str]) -> Bundle:
        """The same model without the heads that are not named: nothing is computed for them, and the others' answers
        are the same bits on the numba engine.

        Its hash names the heads too, since a stream's state and answers differ from the whole model's. Raises
        SettingError for a name that no head has, and for no name.
        """
        architecture = self.architecture.select_heads(names)
        left = {head.name for head in architecture.heads}
        if len(left) == len(self.heads):
            return self
        return replace(
            self,
            architecture=architecture,
            weights={name: self.weights[name] for name in architecture.shapes()},
            abstain_below={name: below for name, below in self.abstain_below.items() if name in left},
            hash=f"{self.hash}:{','.join(head.name for head in architecture.heads)}",
        )


def save_bundle(bundle: Bundle, folder: Path | str) -> str:
    """Write a bundle into a folder, made if need be; its hash. The manifest is written last, by a rename.

    Derived files of another bundle that was there are deleted.
    """
    from safetensors.numpy import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = bundle.architecture
    assert set(model.shapes()) == set(bundle.weights), "weights and architecture name the same tensors"
    packed = save({n: np.ascontiguousarray(bundle.weights[n], model.dtype(n)) for n in model.shapes()})
    manifest = {
        "schema": SCHEMA,
        "sha256": UNSEALED,
        "name": bundle.name,
        "simulated": bundle.simulated,
        "skeleton": bundle.skeleton.to_dict(),
        "fps": bundle.fps,
        "arena": list(bundle.arena),
        "features": bundle.features.to_dict(),
        "feature_names": [f"{f.group}: {f.name} [{f.unit}]" for f in bundle.features.features(bundle.skeleton)],
        "architecture": model.to_dict(),
        "lookahead_frames": bundle.lookahead_frames,
        "warmup_frames": bundle.warmup_frames,
        "decoding": config.to_plain(bundle.decoding),
        "gaps": config.to_plain(bundle.gaps),
        "tolerance": bundle.tolerance,
        "scores": dict(bundle.scores),
        "provenance": dict(bundle.provenance),
        **_optional(bundle),
        "files": {WEIGHTS: hashlib.sha256(packed).hexdigest()},
    }
    json.dumps(manifest, allow_nan=False)  # ValueError for a score that is NaN: a mistake of ours, found before writing
    text, digest = seal(manifest)
    write_atomically(folder / WEIGHTS, packed)
    # Last: until it is there, the old manifest's hash of the weights refuses the mixture.
    write_atomically(folder / MANIFEST, text)
    for name in (STEP, PRECISIONS):
        (folder / name).unlink(missing_ok=True)
    return digest


def check_writable(folder: Path) -> None:
    """Raise BundleError unless `folder` itself holds a bundle: one known by its bare name came with the package."""
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder}: expected the folder of a bundle that may be written to; found no {MANIFEST}")


def add_derived_file(folder: Path, name: str, data: bytes) -> None:
    """Put a file that was made from a bundle (STEP, PRECISIONS) beside it and its sha256 into the manifest.

    Raises BundleError where `folder` holds no bundle that may be written to.
    """
    check_writable(folder)
    text = (folder / MANIFEST).read_bytes()
    derived: dict[str, str] = json.loads(text).get("derived", {})
    derived[name] = hashlib.sha256(data).hexdigest()
    # Appended to the text, whose other bytes stay as they are: the bundle's hash is taken over them.
    line = b',\n "derived": ' + json.dumps(derived, sort_keys=True).encode()
    write_atomically(folder / name, data)
    write_atomically(folder / MANIFEST, _without_derived(text).removesuffix(b"\n}\n") + line + b"\n}\n")


def derived_file(bundle: Bundle, name: str) -> bytes | None:
    """The content of a derived file of a bundle that was read from a folder, checked; None where it has none.

    Raises BundleError for a file that is missing or was changed.
    """
    stored = bundle.stored
    if stored is None or name not in stored.files:
        return None
    try:
        return _checked(stored.folder / name, stored.files[name], limits.MAX_DERIVED_BYTES[name])
    except BundleError as error:
        raise BundleError(f"{stored.folder}: {error}; {REMAKE}") from error


def _without_derived(text: bytes) -> bytes:
    """A manifest without its last line if that has the hashes of derived files: the bundle's own hash leaves it out."""
    at = text.rfind(b',\n "derived": {')
    line = text[at + 2 :].removesuffix(b"\n}\n")
    is_last = at >= 0 and text.endswith(b"}\n}\n") and b"\n" not in line
    return text[:at] + b"\n}\n" if is_last else text


def seal(manifest: Mapping[str, Any]) -> tuple[bytes, str]:
    """A manifest's bytes with their own sha256 in them (taken with zeros in its place), and that digest."""
    text = (json.dumps({**manifest, "sha256": UNSEALED}, indent=1) + "\n").encode()
    digest = hashlib.sha256(text).hexdigest()
    return text.replace(UNSEALED.encode(), digest.encode(), 1), digest


def load_bundle(folder: Path | str) -> Bundle:
    """Read and check a bundle: a folder, or the bare name of one that came with the installed package.

    Raises BundleError when the folder is none, was written by a newer rtseg, a file is missing or was changed, or the
    bundle asks for more than `limits` allow. Nothing is read before its size is known.
    """
    try:
        folder = _folder_of(folder)
        manifest, digest = _read_manifest(folder)
        return _bundle_of(folder, manifest, digest)
    except BundleError as error:
        raise BundleError(_printable(f"{folder}: {error}")) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError, RtsegError) as error:
        raise BundleError(_printable(f"{folder}: damaged or foreign manifest: {error!r}")) from error


def _printable(text: str) -> str:
    """An error's text, short and writable: it may quote a manifest that holds anything, and goes to clients."""
    return text[:MAX_ERROR_CHARACTERS].encode(errors="backslashreplace").decode()


def _read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """A folder's manifest and the bundle's hash. Raises BundleError where it is none or was changed."""
    try:
        text = read_bounded(folder / MANIFEST, limits.MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            f"no bundle here: expected a folder with {MANIFEST}; make one with 'rtseg train', or name one of engines/"
        ) from None
    except OSError as error:
        raise BundleError(f"{MANIFEST} cannot be read: {error.strerror}") from None
    try:
        manifest: dict[str, Any] = parse_json(text)
        schema = manifest["schema"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BundleError(f"{MANIFEST} is not the manifest of a bundle") from None
    if schema != SCHEMA:
        raise BundleError(f"bundle schema {schema!r}, this rtseg reads {SCHEMA}: update rtseg or train anew")
    digest = str(manifest.get("sha256", ""))
    # As it was when `seal` took the hash: without derived files, and zeros where the hash is now.
    bare = _without_derived(text).replace(digest.encode(errors="replace"), UNSEALED.encode(), 1)
    if len(digest) != 64 or hashlib.sha256(bare).hexdigest() != digest:
        raise BundleError(f"{MANIFEST} was changed or cut: its sha256 is another; copy the whole folder again")
    return manifest, digest


def _bundle_of(folder: Path, manifest: dict[str, Any], digest: str) -> Bundle:
    """The bundle that a manifest describes, with its weights. Raises whatever a wrong field makes Python raise."""
    # What the manifest asks for is checked before it is built, and all of it before the weights are read.
    limits.check_description(manifest)
    skeleton = Skeleton.from_dict(manifest["skeleton"])
    limits.check_features(config.from_plain(manifest["features"], FeatureSettings, where="features"))
    features = FeatureSpec.from_dict(manifest["features"])
    architecture = limits.read_architecture(manifest["architecture"])
    decoding = config.from_plain(manifest["decoding"], DecodingSettings, where="decoding")
    gaps = config.from_plain(manifest["gaps"], GapSettings, where="gaps")
    limits.check_servable(
        architecture, features, skeleton, manifest["fps"], manifest["lookahead_frames"], decoding, gaps
    )
    abstain_below = _abstain(manifest.get("abstain_below", {}), architecture)
    ranges, body_size = manifest.get("ranges"), manifest.get("body_size")
    x0, y0, x1, y1 = map(float, manifest["arena"])
    bundle = Bundle(
        name=manifest["name"],
        skeleton=skeleton,
        fps=float(manifest["fps"]),
        arena=(x0, y0, x1, y1),
        features=features,
        architecture=architecture,
        weights=_read_weights(
            folder, manifest, architecture, features.count_features(skeleton, limits.MAX_FEATURES + 1)
        ),
        lookahead_frames=manifest["lookahead_frames"],
        warmup_frames=manifest["warmup_frames"],
        simulated=manifest["simulated"],
        decoding=decoding,
        gaps=gaps,
        abstain_below=abstain_below,
        ranges=None if ranges is None else FeatureRanges.from_dict(ranges, architecture.n_features),
        body_size=None if body_size is None else BodySize.from_dict(body_size, skeleton),
        px_per_mm=manifest.get("px_per_mm"),
        tolerance=float(manifest["tolerance"]),
        scores=manifest["scores"],
        provenance=manifest["provenance"],
        hash=digest,
    )
    stored = StoredFiles(folder, {**manifest["files"], **manifest.get("derived", {})})
    # Not a field of `__init__`: a copy with changes (`dataclasses.replace`) must not claim to be what is in the folder.
    object.__setattr__(bundle, "stored", stored)
    return bundle


def _optional(bundle: Bundle) -> dict[str, Any]:
    """Fields that older bundles do not have, and that only some need: left out, so that hashes stay the same."""
    plain: dict[str, Any] = {}
    if bundle.abstain_below:
        plain["abstain_below"] = dict(bundle.abstain_below)
    if bundle.ranges is not None:
        plain["ranges"] = bundle.ranges.to_dict()
    if bundle.body_size is not None:
        plain["body_size"] = bundle.body_size.to_dict()
    if bundle.px_per_mm is not None:
        plain["px_per_mm"] = bundle.px_per_mm
    return plain


def _abstain(below: Mapping[str, Any], model: Architecture) -> dict[str, float]:
    checked = {str(head): float(threshold) for head, threshold in below.items()}
    config.check_abstain(checked)
    unknown = set(checked) - {h.name for h in model.heads}
    if unknown:
        raise BundleError(f"abstain_below names heads that the bundle has not: {', '.join(sorted(unknown))}")
    return checked


def _folder_of(name: Path | str) -> Path:
    """A bundle's folder; a bare name that is no folder here is looked up among those of the package."""
    folder = Path(name)
    if len(folder.parts) == 1 and not folder.exists():
        for shipped in (SHIPPED / folder, CHECKOUT / folder):
            if (shipped / MANIFEST).is_file():
                return shipped
    return folder


def _checked(path: Path, digest: str, max_bytes: int) -> bytes:
    """A file's content if its sha256 is what the manifest says."""
    try:
        data = read_bounded(path, max_bytes)
    except FileNotFoundError:
        raise BundleError(f"{path.name} is missing: copy the whole folder again") from None
    except OSError as error:
        raise BundleError(f"{path.name} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(data).hexdigest()  # other threads run meanwhile
    if found != digest:
        raise BundleError(f"{path.name} was changed or cut: expected sha256 {str(digest)[:12]}…, got {found[:12]}…")
    return data


def _read_weights(
    folder: Path, manifest: Mapping[str, Any], model: Architecture, n_features: int
) -> dict[str, NDArray[Any]]:
    """Raise BundleError unless the tensors are those that the model names: kernels read them without a check."""
    if model.n_features != n_features:
        raise BundleError(
            f"the architecture wants {model.n_features} features, this rtseg makes {n_features} of the manifest's "
            "groups: the bundle was made by another version; train anew"
        )
    # Of weights in float64 the name is still told; a larger file can hold none of this model's.
    most = 2 * limits.weight_bytes(model) + MAX_HEADER_BYTES
    weights = parse_tensors(_checked(folder / WEIGHTS, manifest["files"][WEIGHTS], most))
    model.check_tensors(weights)
    return weights
