"""`step.onnx` in a bundle: the same bytes every time, checked, calibration inside, any number of streams."""

from __future__ import annotations

import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.bundle.bundle import MANIFEST, STEP, Bundle, load_bundle, save_bundle
from rtseg.engine.onnx.onnx_graph import step_model
from rtseg.engine.onnx.step_file import add_step, step_bytes, write_step
from rtseg.engine.onnx.step_interface import OPEN
from rtseg.engine.select import make_engine
from rtseg.errors import BundleError
from rtseg.features.extractor import FeatureExtractor
from rtseg.inference.decoding import Decoder
from rtseg.recordings.open import read_recording
from tests.conftest import REPO
from tests.engine.networks import F32, SPECS, bundle_of, features_of, torch_in_double

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rtseg[dev]'")

SHIPPED = [folder for folder in sorted((REPO / "engines").iterdir()) if (folder / STEP).is_file()]


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def test_writing_twice_gives_the_same_bytes_and_the_bundle_keeps_its_hash(folder: Path) -> None:
    before = load_bundle(folder)
    path = write_step(folder)
    first, manifest = path.read_bytes(), (folder / MANIFEST).read_bytes()
    write_step(folder)
    assert (path.read_bytes(), (folder / MANIFEST).read_bytes()) == (first, manifest)
    after = load_bundle(folder)
    assert after.hash == before.hash
    assert step_bytes(after) == first == step_bytes(before)


def test_a_changed_file_is_refused_and_a_changed_bundle_has_another_step(folder: Path) -> None:
    write_step(folder)
    bundle = load_bundle(folder)
    weights = {**bundle.weights, "head.task1.calibration.scale": np.full(4, 0.25, np.float32)}
    changed = replace(bundle, weights=weights)
    features = features_of(bundle.network, 80)
    answers = make_engine(changed, "onnx").run(features)
    assert not np.allclose(answers, make_engine(bundle, "onnx").run(features), atol=0.01)
    np.testing.assert_allclose(answers, make_engine(changed, "numba").run(features), rtol=0, atol=2e-5)
    (folder / STEP).write_bytes((folder / STEP).read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"step\.onnx was changed or cut"):
        make_engine(load_bundle(folder), "onnx")


def test_saving_the_bundle_again_deletes_the_old_step(folder: Path) -> None:
    write_step(folder)
    save_bundle(replace(load_bundle(folder), lookahead_frames=2), folder)
    assert not (folder / STEP).exists()
    add_step(folder)
    assert (folder / STEP).is_file()


def test_without_onnx_a_bundle_is_written_without_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with caplog.at_level(logging.INFO, logger="rtseg"):
        add_step(folder)
    assert not (folder / STEP).exists()
    assert "step.onnx is left out" in caplog.text
    assert "needs the package 'onnx'" in caplog.text


@pytest.mark.parametrize("name", ["small", "cells beside convolutions", "nothing refined"])
def test_storing_float16_changes_no_bit_and_an_open_batch_equals_a_static_one(name: str) -> None:
    """With matrices that are exact in float16, as in every bundle that training writes."""
    spec = SPECS[name]
    bundle = bundle_of(spec)
    weights = {
        n: w.astype(np.float16).astype(np.float32) if n.endswith(".weight") else w for n, w in bundle.weights.items()
    }
    static = step_model(spec, weights, batch=3).SerializeToString()
    halved = step_model(spec, weights, "in_place", OPEN, store_float16=True).SerializeToString(deterministic=True)
    assert len(halved) < len(static)
    answers = []
    for model, options in ((static, ort.SessionOptions()), (halved, ort.SessionOptions())):
        session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
        answers.append(rolled(session, np.stack([features_of(spec, 60, seed=s) for s in range(3)], 1)))
    assert answers[0].tobytes() == answers[1].tobytes()


def rolled(session: ort.InferenceSession, features: F32) -> F32:
    """Answers (T, B, P) to features (T, B, F); an open batch is taken from what is fed."""
    batch = features.shape[1]
    static = {value.name: value.shape for value in session.get_inputs()}
    feeds = {}
    for name, shape in static.items():
        sizes = [_size(d, batch) for d in shape]
        feeds[name] = np.zeros(sizes, np.int64 if name == "frame" else np.float32)
    found = []
    for row in features:
        feeds["features"] = row
        answer, *caches = session.run(None, feeds)
        feeds |= {f"past.{i}": cache for i, cache in enumerate(caches)}
        feeds["frame"] = feeds["frame"] + 1
        found.append(answer)
    return np.array(found)


def _size(dimension: int | str, batch: int) -> int:
    if isinstance(dimension, int):
        return dimension
    copies = dimension.partition("*")[0]
    return batch * (1 if copies == "B" else int(copies))


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda folder: folder.name)
def test_the_shipped_steps_are_those_of_their_weights(shipped: Path) -> None:
    bundle = load_bundle(shipped)
    stored = onnx.load_model_from_string(step_bytes(bundle))
    made = onnx.load_model_from_string(step_bytes(replace(bundle)))
    assert stored == made, "write it anew with 'rtseg step'"
    assert (shipped / STEP).stat().st_size < 2_000_000


@pytest.mark.slow
def test_whole_recordings_in_one_batch_equal_torch_in_double(data_root: Path) -> None:
    """Two recordings, each in two streams at other phases, through rats58's step; one stream is started again."""
    bundle = load_bundle(REPO / "engines" / "rats58")
    recordings = [features_of_video(bundle, data_root, video) for video in ("26", "56")]
    expected = [torch_in_double(bundle, features) for features in recordings]
    engine, n_outputs = make_engine(bundle, "onnx", 16), bundle.network.n_outputs
    starts, at, out = [0, 7, 100, 1000], np.zeros(4, np.int64), np.empty((4, n_outputs), np.float32)
    answers = [np.empty((len(recordings[s % 2]), n_outputs), np.float32) for s in range(4)]
    for t in range(max(map(len, recordings)) + 1000):
        if t == 3000:
            engine.reset(np.array([3], np.int32))
            at[3] = 0
        going = [s for s in range(4) if starts[s] <= t and at[s] < len(recordings[s % 2])]
        rows = [recordings[s % 2][at[s]] for s in going]
        if going:
            engine.step(np.stack(rows), np.array(going, np.int32), out[: len(going)])
        for row, s in enumerate(going):
            answers[s][at[s]] = out[row]
            at[s] += 1
    for s, given in enumerate(answers):
        given, right = given[: at[s]], expected[s % 2][: at[s]]
        assert len(given) > 3000
        np.testing.assert_allclose(given, right, rtol=0, atol=bundle.tolerance)
        events = decoded(bundle, given)
        assert events.sum() > 10, "a recording without bouts would prove nothing"
        assert np.array_equal(events, decoded(bundle, right.astype(np.float32)))


def features_of_video(bundle: Bundle, data_root: Path, video: str) -> F32:
    (path,) = (data_root / "rats58" / "poses").glob(f"{video}DLC_*.csv")
    recording = read_recording(path, fps=bundle.fps).select(bundle.skeleton)
    extractor = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size)
    return extractor.run(recording.keypoints, recording.confidence, bundle.arena).copy()


def decoded(bundle: Bundle, probabilities: F32) -> NDArray[np.bool_]:
    """Where bouts begin and end (T, H) by the bundle's own rule."""
    decoder = Decoder(bundle.network.offsets, bundle.decoding)
    events = np.empty((len(probabilities), decoder.n_heads), np.bool_)
    slots = np.zeros(len(probabilities), np.int32)
    decoder.step(probabilities, slots, decoder.init_state(1), np.empty(events.shape, np.int16), events)
    return events
