"""DeepLabCut HDF5: the real files beside pandas' reading of them, both layouts, and everything that is a pickle."""

from __future__ import annotations

import pickletools
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.errors import RecordingError
from rtseg.recordings.poses.dlc import read_dlc_csv
from rtseg.recordings.poses.dlc_h5 import literal_names, read_dlc_h5

REAL = [
    ("dlc_single_mouse.h5", (100, 1, 14)),
    ("madlc_two_mice.h5", (100, 2, 14)),
    ("dlc_three_mice.h5", (1800, 3, 12)),
]


def expected_points(frame: pd.DataFrame, shape: tuple[int, ...]) -> np.ndarray:
    """(T, A, K, 2), NaN where both coordinates are 0."""
    cells = frame.to_numpy(np.float32).reshape(*shape, -1)[..., :2]
    return np.where((cells == 0).all(axis=-1, keepdims=True), np.nan, cells)


@pytest.mark.parametrize(("name", "shape"), REAL)
def test_real_files_equal_pandas_reading(data_root: Path, name: str, shape: tuple[int, int, int]) -> None:
    path = data_root / "formats" / name
    recording = read_dlc_h5(path, fps=25)
    frame = pd.read_hdf(path)
    np.testing.assert_array_equal(recording.keypoints, expected_points(frame, shape))
    assert recording.confidence.shape == shape
    assert recording.skeleton.keypoints == tuple(dict.fromkeys(frame.columns.get_level_values("bodyparts")))
    assert (recording.fps, recording.name) == (25, path.stem)


def test_without_likelihood_zero_is_missing_and_counted(data_root: Path) -> None:
    recording = read_dlc_h5(data_root / "formats/dlc_three_mice.h5", fps=30)
    assert recording.skeleton.animals == ("mouse1", "mouse2", "mouse3")
    n_missing = int(np.isnan(recording.keypoints[..., 0]).sum())
    assert recording.warnings == (
        f"points written as 0, 0 or -1, -1 or with a negative likelihood are taken as missing ({n_missing} points)",
    )
    assert n_missing == 6744
    assert set(np.unique(recording.confidence)) == {0, 1}


def test_csv_and_h5_of_one_video_agree(data_root: Path) -> None:
    table = read_dlc_csv(data_root / "formats/madlc_two_mice.csv", fps=30)
    array = read_dlc_h5(data_root / "formats/madlc_two_mice.h5", fps=30)
    assert table.skeleton == array.skeleton
    np.testing.assert_array_equal(table.keypoints, array.keypoints[: len(table)])


@pytest.mark.parametrize(("name", "shape"), REAL)
def test_the_table_layout_of_deeplabcut_itself(
    data_root: Path, tmp_path: Path, name: str, shape: tuple[int, int, int]
) -> None:
    path = tmp_path / "table.h5"
    frame = pd.read_hdf(data_root / "formats" / name)
    assert isinstance(frame, pd.DataFrame)
    frame.to_hdf(path, key="df_with_missing", format="table", mode="w")
    recording = read_dlc_h5(path, fps=30)
    np.testing.assert_array_equal(recording.keypoints, expected_points(frame, shape))
    assert recording.skeleton == read_dlc_h5(data_root / "formats" / name, fps=30).skeleton


def test_columns_of_two_dtypes_find_their_places(tmp_path: Path) -> None:
    columns = pd.MultiIndex.from_product(
        [["s"], ["nose", "tail"], ["x", "y", "likelihood"]], names=["scorer", "bodyparts", "coords"]
    )
    frame = pd.DataFrame(np.arange(12).reshape(2, 6), columns=columns)
    frame = frame.astype({c: "float64" if c[2] == "likelihood" else "int64" for c in columns})
    frame.iloc[:, [2, 5]] = 0.5
    frame.to_hdf(tmp_path / "a.h5", key="df", mode="w")
    recording = read_dlc_h5(tmp_path / "a.h5", fps=30)
    np.testing.assert_array_equal(recording.keypoints[:, 0], [[[0, 1], [3, 4]], [[6, 7], [9, 10]]])
    assert (recording.confidence == 0.5).all()


def test_object_columns_are_refused_unopened(data_root: Path, tmp_path: Path) -> None:
    frame = pd.read_hdf(data_root / "formats/dlc_single_mouse.h5")
    assert isinstance(frame, pd.DataFrame)
    frame = frame.astype(object)
    with pytest.warns(pd.errors.PerformanceWarning, match="pickle"):
        frame.to_hdf(tmp_path / "objects.h5", key="df", mode="w")
    with pytest.raises(RecordingError, match=r"pickled objects, which are never opened; save it as CSV"):
        read_dlc_h5(tmp_path / "objects.h5", fps=30)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(data_root: Path, tmp_path: Path) -> None:
    path, witness = tmp_path / "evil.h5", tmp_path / "it_ran"
    frame = pd.read_hdf(data_root / "formats/dlc_single_mouse.h5")
    assert isinstance(frame, pd.DataFrame)
    frame.to_hdf(path, key="df", format="table", mode="w")
    evil = f"cposix\nsystem\n(Vtouch {witness}\ntR.".encode()
    assert [op.name for op, _, _ in pickletools.genops(evil)][:2] == ["GLOBAL", "MARK"]
    with h5py.File(path, "r+") as file:
        for node in (file["df"], file["df/table"]):
            for key in list(node.attrs):
                if key.endswith("_kind") or key in ("info", "non_index_axes", "values_cols"):
                    node.attrs[key] = np.bytes_(evil)
    with pytest.raises(RecordingError, match="more than a list of texts"):
        read_dlc_h5(path, fps=30)
    assert not witness.exists()


@given(st.binary(max_size=80))
def test_any_bytes_for_column_names_give_names_or_an_error(raw: bytes) -> None:
    try:
        names = literal_names(Path("a.h5"), raw)
    except RecordingError:
        return
    assert all(isinstance(n, str) for row in names for n in row)


def test_files_of_another_kind(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="expected one pandas table, found 0 among node_names"):
        read_dlc_h5(data_root / "formats/sleap_predictions.analysis.h5", fps=30)
    raw = (data_root / "formats/madlc_two_mice.h5").read_bytes()
    path = tmp_path / "cut.h5"
    for part in (raw[: len(raw) // 2], b"scorer,a,b\n", b""):
        path.write_bytes(part)
        with pytest.raises(RecordingError, match="cut or damaged" if part else "the file is empty"):
            read_dlc_h5(path, fps=30)
    frame = pd.DataFrame({"a": [1.0]}, index=["img0.png"])
    frame.to_hdf(path, key="df", mode="w")
    with pytest.raises(RecordingError, match="labelled training images are no recording"):
        read_dlc_h5(path, fps=30)


def test_frame_indices_follow_the_rule_of_the_csv(data_root: Path, tmp_path: Path) -> None:
    frame = pd.read_hdf(data_root / "formats/dlc_single_mouse.h5")
    assert isinstance(frame, pd.DataFrame)
    path = tmp_path / "a.h5"
    frame.drop(index=[10, 11]).to_hdf(path, key="df", mode="w")
    recording = read_dlc_h5(path, fps=30)
    assert recording.warnings == ("frame indices skip frames, which are taken as never recorded (2 frames)",)
    assert np.isnan(recording.keypoints[10:12]).all()
    frame.iloc[[0, 1, 1, 2]].to_hdf(path, key="df", mode="w")
    with pytest.raises(RecordingError, match="row 3: frame index 1 repeats"):
        read_dlc_h5(path, fps=30)


@pytest.mark.parametrize("format_", ["table", "fixed"])
def test_compression_that_h5py_lacks_is_named_with_the_mend(data_root: Path, tmp_path: Path, format_: str) -> None:
    frame = pd.read_hdf(data_root / "formats/dlc_single_mouse.h5")
    assert isinstance(frame, pd.DataFrame)
    path = tmp_path / "a.h5"
    frame.to_hdf(path, key="df_with_missing", format=format_, mode="w", complib="blosc", complevel=9)
    with pytest.raises(RecordingError, match=r"a\.h5: its array .* is compressed with blosc.*complib='zlib'"):
        read_dlc_h5(path, fps=30)
    frame.to_hdf(path, key="df_with_missing", format=format_, mode="w", complib="zlib", complevel=5)
    assert len(read_dlc_h5(path, fps=30)) == len(frame)


@pytest.mark.parametrize("layout", ["table", "fixed"])
@pytest.mark.parametrize(
    "levels",
    [
        ("scorer", "individuals", "bodyparts", "coords"),
        ("scorer", "bodyparts", "individuals", "coords"),
        ("individuals", "bodyparts", "coords"),
        ("bodyparts", "coords", "individuals"),
    ],
)
def test_levels_are_known_by_their_names_whatever_their_order(tmp_path: Path, layout: str, levels: tuple[str]) -> None:
    names = {"scorer": ["s"], "individuals": ["a", "b"], "bodyparts": ["nose", "tail"], "coords": ["x", "y"]}
    columns = pd.MultiIndex.from_product(list(names.values()), names=list(names))
    frame = pd.DataFrame(np.arange(16.0).reshape(2, 8) + 1, columns=columns)
    if "scorer" not in levels:
        frame = frame.droplevel("scorer", axis=1)
    frame.columns = frame.columns.reorder_levels(list(levels))
    frame.to_hdf(tmp_path / "a.h5", key="df", mode="w", format=layout)
    recording = read_dlc_h5(tmp_path / "a.h5", fps=30)
    assert (recording.skeleton.animals, recording.skeleton.keypoints) == (("a", "b"), ("nose", "tail"))
    assert recording.keypoints[0].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
