"""What a bundle may ask for: everything beyond is refused with BundleError, at once, before memory is taken."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.bundle.bundle import MANIFEST, STEP, WEIGHTS, add_derived_file, derived_file, load_bundle, seal
from rtseg.bundle.limits import MAX_MANIFEST_BYTES
from rtseg.errors import BundleError
from rtseg.inference.classifier import Classifier, load
from rtseg.serve.publish.batch_sender import BatchSender
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.wire.messages import Hello

KEYPOINTS = ["nose", "left_ear", "right_ear", "neck", "left_hip", "right_hip", "tail_base", *map(str, range(900))]
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def rewrite(folder: Path, change: Change) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (folder / MANIFEST).write_bytes(seal(manifest)[0])


def one_head(manifest: dict[str, Any], **changes: Any) -> None:
    manifest["architecture"]["heads"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(lookahead_frames=10**9), "lookahead_frames is out of range"),
        (lambda m: m.update(lookahead_frames=1.5), "lookahead_frames"),
        (lambda m: m.update(lookahead_frames=True), "lookahead_frames"),
        (lambda m: m.update(warmup_frames=2**63), "warmup_frames"),
        (lambda m: m.update(fps=1e-300), "fps"),
        (lambda m: m.update(fps=True), "fps"),
        (lambda m: m.update(name="x" * 1000), "name: expected 1 to 200 printable"),
        (lambda m: m.update(name="\ud800"), "name: expected"),
        (lambda m: m.update(scores=[]), "scores"),
        (lambda m: m.update(arena=[0, 0, 1e-9, 1]), "arena"),
        (lambda m: m["gaps"].update(fill_frames=10**9), "fill_frames"),
        (lambda m: m["gaps"].update(low_confidence=float("nan")), "low_confidence"),
        (lambda m: m["decoding"].update(min_bout_frames=2**62), "min_bout_frames"),
        (lambda m: m["features"].update(lags=[1, 200_000]), "a stream's state may take"),
        (lambda m: m["features"].update(lags=list(range(1, 99))), "at most 16 values"),
        (lambda m: m["features"].update(lags=[1.5]), "lags"),
        (lambda m: m["features"].update(horizons_s=[float("nan")]), "horizons_s"),
        (lambda m: m["features"].update(windows_s=[0.5, 3600.0]), "windows_s is out of range"),
        (
            lambda m: m["features"].update(windows_s=[600.0], lags=[*range(1, 16), 80_000]),
            "lags and windows_s: a stream's state may",
        ),
        (lambda m: m["features"].update(relink_cap_px=float("inf")), "relink_cap_px"),
        (lambda m: m["skeleton"].update(keypoints=KEYPOINTS), "this rtseg makes 16385 of"),
        (lambda m: m["skeleton"].update(keypoints=[f"k{i}" for i in range(5000)]), "at most 1024"),
        (lambda m: m["skeleton"].update(animals=[f"a{i}" for i in range(1000)]), "at most 4096 points"),
        (lambda m: m["skeleton"].update(edges=[["nose", "neck"]] * 5000), "skeleton.edges"),
        (lambda m: m["skeleton"]["animals"].__setitem__(0, 5), "printable"),
        (lambda m: m["architecture"].update(heads=m["architecture"]["heads"] * 2), "different names"),
        (lambda m: m["architecture"].update(heads=[]), "different names, got none"),
        (lambda m: one_head(m, name="\0"), "heads: expected"),
        (lambda m: one_head(m, classes=["a", "a", "b"], scored=["b"]), "has the classes"),
        (lambda m: one_head(m, classes=[f"c{i}" for i in range(5000)], scored=[]), "at most 1024 outputs"),
        (lambda m: m["architecture"].update(dilations=[16_000] * 30), "bytes of a stream's state"),
        (lambda m: m["architecture"].update(dilations=[1] * 500), "at most 32 layers"),
        (lambda m: m["architecture"].update(n_features=10**12, views=[[1]]), "at most 16384"),
        (lambda m: m["architecture"].update(kernel=10**9), "at most 16384"),
        (lambda m: m["architecture"].update(kernel=True), "got True"),
        (lambda m: m["architecture"].update(channels=16_000), "at most"),
        (lambda m: m["architecture"].update(cells=[{"encoder": 4096, "hidden": 1024}]), "bytes of weights"),
        (lambda m: m["architecture"].update(views=[list(range(m["architecture"]["n_features"], 0, -1))]), "first view"),
    ],
)
def test_what_no_model_needs_is_refused(folder: Path, change: Change, says: str) -> None:
    rewrite(folder, change)
    with pytest.raises(BundleError, match=says) as refusal:
        load(folder)
    # It goes to clients and into logs, whatever the manifest holds.
    assert len(str(refusal.value).encode()) < 5000


def test_steps_that_would_hold_up_other_streams_are_refused(folder: Path) -> None:
    rewrite(folder, lambda m: m["gaps"].update(fill_frames=1000))
    load_bundle(folder)  # of a small network so many can be stepped at once
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["architecture"].update(channels=256, dilations=[1, 1])
    (folder / MANIFEST).write_bytes(seal(manifest)[0])
    with pytest.raises(BundleError, match=r"1000 steps of .* would hold up all streams"):
        load_bundle(folder)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, STEP])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "sparse"])
def test_only_regular_files_of_the_right_size_are_read(folder: Path, name: str, kind: str) -> None:
    add_derived_file(folder, STEP, b"step")
    bundle = load_bundle(folder)
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    with pytest.raises(BundleError, match=f"{name} cannot be read: (is no regular file|holds 1099511627776 bytes)"):
        derived_file(bundle, STEP) if name == STEP else load_bundle(folder)


def test_a_manifest_is_read_up_to_its_limit(folder: Path) -> None:
    text = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(text + b" " * (MAX_MANIFEST_BYTES - len(text)))
    with pytest.raises(BundleError, match="was changed"):
        load_bundle(folder)
    (folder / MANIFEST).write_bytes(text + b" " * (MAX_MANIFEST_BYTES + 1 - len(text)))
    with pytest.raises(BundleError, match="at most 1048576 are read"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "/proc/self/mem", "/dev/null/x"])
def test_a_path_that_cannot_be_one_is_a_bundle_error(name: str) -> None:
    with pytest.raises(BundleError):
        load_bundle(name)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value[:8]) if isinstance(value, list) else ()
    return found + [deeper for key, inner in items for deeper in paths_in(inner, (*path, key))]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-2, 5000),
    st.floats(),
    st.text(max_size=300),
    st.lists(st.one_of(st.integers(-5, 300), st.none(), st.text(max_size=3)), max_size=5),
    st.dictionaries(st.sampled_from(["name", "kind", "x"]), st.integers(), max_size=2),
)


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_sealed_manifest_is_served_or_refused(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any other error would be an exception in a daemon that serves other streams."""
    plain = json.loads((tiny_bundle / MANIFEST).read_text(encoding="utf-8"))
    manifest = copy.deepcopy(plain)
    *way, last = data.draw(st.sampled_from([path for path in paths_in(plain) if path[0] not in ("schema", "sha256")]))
    inner: Any = manifest
    for key in way:
        inner = inner[key]
    value = inner[last]
    if isinstance(value, list) and data.draw(st.booleans()):
        inner[last] = value * data.draw(st.sampled_from([0, 2, 100]))
    else:
        inner[last] = data.draw(VALUES)
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / WEIGHTS).symlink_to(tiny_bundle / WEIGHTS)
    (folder / MANIFEST).write_bytes(seal(manifest)[0])
    try:
        classifier = load(folder, "numba", 2)
    except BundleError:
        return
    answer_through_gaps(classifier)


def answer_through_gaps(classifier: Classifier) -> None:
    streams, sender, bundle = Streams(ServedModel(classifier, "")), BatchSender(None), classifier.bundle
    stream = streams.open_stream(b"", Hello("s", bundle.skeleton, bundle.fps), None, 0)
    points = np.zeros((*bundle.skeleton.shape, 2))
    for seq in (0, 1, 4, 10**9):
        for prediction in stream.session.step(classifier.frame(points, seq=seq))[:100]:
            sender.add_prediction(stream, prediction, 0, wanted=True)
    stream.session.finish()
    for sent in sender.send_batch(pack_all=True)[0]:
        assert list(msgpack.unpackb(sent.packed)["probs"]) == [head.name for head in bundle.heads]
