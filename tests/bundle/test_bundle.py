"""A bundle: what is saved comes back, and whatever was changed, cut or never was one is an error that says so."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.bundle.bundle import (
    MANIFEST,
    PRECISIONS,
    SCHEMA,
    STEP,
    WEIGHTS,
    Bundle,
    add_derived_file,
    derived_file,
    load_bundle,
    save_bundle,
    seal,
)
from rtseg.bundle.network import NetworkSpec
from rtseg.config import DecodingSettings, GapSettings
from rtseg.errors import BundleError
from rtseg.features.ranges import FeatureRanges
from rtseg.features.spec import FeatureSpec

PICKLE_OR_ZIP = (b"\x80", b"PK\x03\x04", b"PK\x05\x06", b"(dp", b"(lp", b"cposix", b"ctorch")


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (folder / MANIFEST).write_bytes(seal(manifest)[0])


def replace_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Other weights with a hash that fits: what a foreign tool, not a damaged disk, would leave."""
    from safetensors.numpy import load, save

    weights = load((folder / WEIGHTS).read_bytes())
    change(weights)
    packed = save(weights)
    (folder / WEIGHTS).write_bytes(packed)
    rewrite(folder, lambda m: m["files"].update({WEIGHTS: hashlib.sha256(packed).hexdigest()}))


def test_what_is_saved_comes_back(tiny_bundle: Path, tmp_path: Path) -> None:
    full = replace(
        load_bundle(tiny_bundle),
        name="cage 7, Übung",
        lookahead_frames=3,
        simulated=True,
        decoding=DecodingSettings(0.1, 5, 2),
        gaps=GapSettings(7, 0.25),
        tolerance=2e-5,
        scores={"task1": {"f1": 0.75, "onset_delay_s": None}},
        provenance={"dataset": "sha256 of it", "videos": [1, 6, 11]},
    )
    digest = save_bundle(full, tmp_path / "new" / "deep")
    again = load_bundle(tmp_path / "new" / "deep")
    assert again.hash == digest
    for field in fields(Bundle):
        if field.name not in ("hash", "weights", "features", "stored"):
            assert getattr(again, field.name) == getattr(full, field.name), field.name
    assert again.features.features(again.skeleton) == full.features.features(full.skeleton)
    assert again.features.to_dict() == full.features.to_dict()
    assert set(again.weights) == set(full.network.shapes())
    assert all(again.weights[n].tobytes() == w.tobytes() for n, w in full.weights.items())
    assert again.heads == full.heads


def test_a_derived_file_leaves_the_hash_and_goes_with_the_next_save(folder: Path) -> None:
    before = load_bundle(folder)
    add_derived_file(folder, STEP, b"one")
    add_derived_file(folder, PRECISIONS, b"two")
    add_derived_file(folder, STEP, b"three")
    again = load_bundle(folder)
    assert again.hash == before.hash
    assert (derived_file(again, STEP), derived_file(again, PRECISIONS)) == (b"three", b"two")
    assert derived_file(before, STEP) is None, "it was read before there was one"
    assert derived_file(replace(again, name="other"), STEP) is None, "a changed bundle's step would be another"
    (folder / STEP).write_bytes(b"tampered")
    with pytest.raises(BundleError, match=r"step\.onnx was changed or cut: .* make it anew: 'rtseg step'"):
        derived_file(again, STEP)
    assert save_bundle(load_bundle(folder), folder) == before.hash
    assert not (folder / STEP).exists()
    assert derived_file(load_bundle(folder), PRECISIONS) is None
    with pytest.raises(BundleError, match=r"may be written to; found no manifest\.json"):
        add_derived_file(folder.parent, STEP, b"")


def test_thresholds_and_ranges_come_back_and_older_bundles_have_none(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    assert (dict(bundle.abstain_below), bundle.ranges) == ({}, None)
    manifest = json.loads((tiny_bundle / MANIFEST).read_text(encoding="utf-8"))
    assert not {"abstain_below", "ranges"} & set(manifest)
    n = bundle.network.n_features
    ranges = FeatureRanges(np.linspace(-1, 0, n, dtype=np.float32), np.full(n, np.inf, np.float32), 0.1, 3.0)
    save_bundle(replace(bundle, abstain_below={"task1": 0.6}, ranges=ranges), tmp_path)
    again = load_bundle(tmp_path)
    assert dict(again.abstain_below) == {"task1": 0.6}
    assert again.ranges is not None
    assert again.ranges.to_dict() == ranges.to_dict()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("abstain_below", {"task9": 0.5}, "heads that the bundle has not: task9"),
        ("abstain_below", {"task1": 1.5}, "probability in"),
        ("abstain_below", 0.5, "damaged or foreign"),
        ("ranges", {"low": [0], "high": [1], "share": 0.1, "far": 1}, "expected .* features with low < high"),
        ("ranges", {"low": []}, "damaged or foreign"),
        ("ranges", [], "damaged or foreign"),
    ],
)
def test_thresholds_and_ranges_that_no_model_has_are_refused(folder: Path, key: str, value: Any, reason: str) -> None:
    rewrite(folder, lambda manifest: manifest.update({key: value}))
    with pytest.raises(BundleError, match=reason):
        load_bundle(folder)


def test_saving_twice_gives_the_same_bytes_and_hash(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    assert save_bundle(bundle, tmp_path / "a") == save_bundle(bundle, tmp_path / "b") == bundle.hash
    for name in (MANIFEST, WEIGHTS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_saving_over_an_old_bundle_replaces_it_and_leaves_no_half_files(tiny_bundle: Path, folder: Path) -> None:
    save_bundle(replace(load_bundle(tiny_bundle), name="newer"), folder)
    assert load_bundle(folder).name == "newer"
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST, WEIGHTS]


def test_the_hash_tells_models_apart(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    weights = {n: w.copy() for n, w in bundle.weights.items()}
    weights["input.bias"][0] += np.float32(1e-6)
    hashes = {
        bundle.hash,
        save_bundle(replace(bundle, weights=weights), tmp_path / "a"),
        save_bundle(replace(bundle, fps=25.0), tmp_path / "b"),
        save_bundle(replace(bundle, decoding=DecodingSettings(0.1)), tmp_path / "c"),
    }
    assert len(hashes) == 4


def test_no_file_is_a_pickle_or_a_zip(tiny_bundle: Path) -> None:
    files = [p for p in tiny_bundle.rglob("*") if p.is_file()]
    assert sorted(p.name for p in files) == [MANIFEST, WEIGHTS]
    for path in files:
        assert not path.read_bytes().startswith(PICKLE_OR_ZIP), path
    json.loads((tiny_bundle / MANIFEST).read_text(encoding="utf-8"))
    header = (tiny_bundle / WEIGHTS).read_bytes()
    json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])


def test_the_manifest_names_every_feature_with_its_unit(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / MANIFEST).read_text(encoding="utf-8"))
    bundle = load_bundle(tiny_bundle)
    assert len(manifest["feature_names"]) == bundle.network.n_features
    assert manifest["feature_names"][0] == "position: resident.nose.x [px]"
    assert manifest["schema"] == SCHEMA


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(BundleError, match=r"no bundle here.*rtseg train") as refusal:
            load_bundle(path)
        assert str(path) in str(refusal.value)


def test_a_missing_weights_file_is_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(BundleError, match=r"weights.safetensors is missing") as refusal:
        load_bundle(folder)
    assert str(folder) in str(refusal.value)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_of_the_weights_is_found(tiny_bundle: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("flip") / "b"))
    raw = bytearray((folder / WEIGHTS).read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / WEIGHTS).write_bytes(raw)
    with pytest.raises(BundleError, match=r"weights.safetensors was changed or cut"):
        load_bundle(folder)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_of_the_manifest_is_found(
    tiny_bundle: Path, tmp_path_factory: Any, data: st.DataObject
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("flip") / "b"))
    raw = bytearray((folder / MANIFEST).read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / MANIFEST).write_bytes(raw)
    with pytest.raises(BundleError, match=r"manifest.json|bundle schema"):
        load_bundle(folder)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_cut_file_is_found(folder: Path, name: str, share: float) -> None:
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(folder)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "5", '"schema"', "{}", '{"name": "x"}', "not json", "[" * 100_000, "\ufeff{}"],
)
def test_a_foreign_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match="not the manifest of a bundle"):
        load_bundle(folder)


def test_a_manifest_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\x80\x04\x95\xff")
    with pytest.raises(BundleError, match="not the manifest"):
        load_bundle(folder)


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "1", None])
def test_another_schema_is_refused(folder: Path, schema: object) -> None:
    rewrite(folder, lambda m: m.update(schema=schema))
    with pytest.raises(BundleError, match=f"schema {schema!r}, this rtseg reads {SCHEMA}: update rtseg"):
        load_bundle(folder)


FOREIGN: list[object] = [None, -1, 5, 1e999, "x", [], {}, [1], {"x": 1}, True]
REQUIRED = [
    "name",
    "skeleton",
    "fps",
    "arena",
    "features",
    "architecture",
    "lookahead_frames",
    "warmup_frames",
    "simulated",
    "decoding",
    "gaps",
    "tolerance",
    "scores",
    "provenance",
    "files",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    rewrite(folder, lambda m: m.pop(key))
    with pytest.raises(BundleError, match=key) as refusal:
        load_bundle(folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize("key", ["skeleton", "arena", "features", "architecture", "decoding", "gaps", "files"])
@pytest.mark.parametrize("value", FOREIGN, ids=repr)
def test_a_key_of_the_wrong_kind_is_a_bundle_error(folder: Path, key: str, value: object) -> None:
    rewrite(folder, lambda m: m.update({key: value}))
    if key in ("decoding", "gaps", "features") and value == {}:  # an empty section means the defaults
        defaults = {"decoding": DecodingSettings(), "gaps": GapSettings(), "features": FeatureSpec()}
        assert getattr(load_bundle(folder), key) == defaults[key]
        return
    with pytest.raises(BundleError):
        load_bundle(folder)


@pytest.mark.parametrize("key", ["fps", "lookahead_frames", "warmup_frames", "tolerance"])
@pytest.mark.parametrize("value", ["x", [], None, 1e999, {}], ids=repr)
def test_a_field_that_is_no_number_is_a_bundle_error(folder: Path, key: str, value: object) -> None:
    rewrite(folder, lambda m: m.update({key: value}))
    with pytest.raises(BundleError):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fps", 0),
        ("fps", -30),
        ("fps", float("nan")),
        ("tolerance", -1e-5),
        ("lookahead_frames", -1),
        ("warmup_frames", -1),
        ("arena", [0, 0, 0, 10]),
        ("arena", [0, 10, 5, 2]),
        ("arena", [0, 0, float("inf"), 10]),
        ("arena", [0, 0, float("nan"), 10]),
    ],
)
def test_a_number_out_of_range_is_a_bundle_error(folder: Path, key: str, value: object) -> None:
    rewrite(folder, lambda m: m.update({key: value}))
    with pytest.raises(BundleError, match=key):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["architecture"].update(kind="transformer"), "kind 'multitask-tcn', got 'transformer'"),
        (lambda m: m["architecture"].update(attention=3), "attention"),
        (lambda m: m["architecture"].pop("kernel"), "kernel"),
        (lambda m: m["architecture"].update(dilations=[1, 2, 4, 8, 0]), "positive, got 0"),
        (lambda m: m["architecture"].update(dilations=[1, 2, 4, 8, "x"]), "got 'x'"),
        (lambda m: m["architecture"].update(channels=16.0), "got 16.0"),
        (lambda m: m["architecture"].update(channels=32), "expected .* got"),
        (lambda m: m["architecture"]["heads"][0].update(scored=["fly"]), "task1"),
        (lambda m: m["architecture"]["heads"][0].update(classes=["x"]), "task1"),
        (lambda m: m["architecture"]["heads"].pop(), "does not know.*sniff_face"),
        (lambda m: m["features"].update(groups=["position"]), "wants .* features, this rtseg makes 28 of"),
        (lambda m: m["features"].update(groups=["smell"]), "smell"),
        (lambda m: m["features"].update(lags=[3, 1]), "lags"),
        (lambda m: m["skeleton"]["animals"].append("third"), "features"),
        (lambda m: m["decoding"].update(colour=1), "colour"),
        (lambda m: m["gaps"].update(fill_frames=0.5), "fill_frames"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder: Path, change: Callable[[Any], None], says: str) -> None:
    rewrite(folder, change)
    with pytest.raises(BundleError, match=says):
        load_bundle(folder)


def set_nan(weights: dict[str, Any]) -> None:
    weights["trunk.mix.weight"][2, 3, 4] = np.nan


def set_infinite(weights: dict[str, Any]) -> None:
    weights["scaler.scale"][0] = np.inf


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_nan, "'trunk.mix.weight' holds a number that is not finite"),
        (set_infinite, "'scaler.scale' holds"),
        (lambda w: w.pop("input.bias"), r"'input.bias': expected \(16,\) float32, got nothing"),
        (lambda w: w.update(extra=np.zeros(3, np.float32)), "does not know: extra"),
        (lambda w: w.update({"input.bias": np.zeros(17, np.float32)}), r"'input.bias': expected .* got \(17,\)"),
        (lambda w: w.update({"input.bias": np.zeros(16, np.float64)}), "'input.bias': expected .* got .* float64"),
        (lambda w: w.update({"input.weight": w["input.weight"].T.copy()}), "'input.weight': expected"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, change: Callable[[Any], None], says: str) -> None:
    replace_weights(folder, change)
    with pytest.raises(BundleError, match=says) as refusal:
        load_bundle(folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize("raw", [b"", b"\x80\x04pickle", b"PK\x03\x04", b"\xff" * 200])
def test_weights_that_are_no_safetensors_are_refused(folder: Path, raw: bytes) -> None:
    (folder / WEIGHTS).write_bytes(raw)
    rewrite(folder, lambda m: m["files"].update({WEIGHTS: hashlib.sha256(raw).hexdigest()}))
    with pytest.raises(BundleError):
        load_bundle(folder)


def test_an_architecture_survives_json(tiny_bundle: Path) -> None:
    network = load_bundle(tiny_bundle).network
    assert NetworkSpec.from_dict(json.loads(json.dumps(network.to_dict()))) == network


@pytest.mark.parametrize("name", ["rats58", "mice-sim"])
def test_a_checkout_s_bundles_are_found_by_their_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_bundle(name).name == name
    (tmp_path / name).mkdir()  # a folder of this name is meant, whatever is in it
    with pytest.raises(BundleError, match="no bundle here"):
        load_bundle(name)


def test_a_bare_name_finds_the_bundle_in_the_package_unless_a_folder_has_it(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.bundle.bundle.SHIPPED", tiny_bundle.parent)
    monkeypatch.chdir(tmp_path)
    assert load_bundle("tiny").hash == load_bundle(tiny_bundle).hash
    with pytest.raises(BundleError, match="no bundle here"):
        load_bundle("engines/tiny")
    (tmp_path / "tiny").mkdir()
    with pytest.raises(BundleError, match="no bundle here"):
        load_bundle("tiny")
