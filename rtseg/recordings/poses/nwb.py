"""NWB files with poses by the extension ndx-pose, read as plain HDF5.

Every PoseEstimation is an animal; those of one processing module are of one video, unless they name different ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.scale import MM
from rtseg.recordings.files.hdf5 import open_hdf5, readable_array, text_of
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.pose_file import PoseReader, confidence_of_points, float32_of
from rtseg.recordings.poses.timed import Series, recording_from_series
from rtseg.recordings.recording import Recording

_ANIMAL, _KEYPOINT, _SKELETON, _DEVICE = "PoseEstimation", "PoseEstimationSeries", "Skeleton", "Device"
_PIXELS = ("pixel", "pixels", "px")


def is_nwb(probe: FileProbe) -> bool:
    """Whether an HDF5 file has the parts that every NWB file has."""
    return {"processing", "file_create_date"} <= set(probe.hdf5_names)


def read_nwb(path: Path, *, fps: float | None = None, name: str | None = None) -> Iterator[Recording]:
    """The recordings of an NWB file: one, named after the file, or one for each video with poses.

    Those of different processing modules are of different videos, and within a module those that name other videos or
    other cameras: two views of one animal are no two animals. Such recordings are named after the file, the module and
    their first animal. The rate comes from the file. name: of several recordings the one to read, else the recording's
    name. Keypoints are in the order of the skeleton where the file has one. Raises RecordingError for files without
    poses, for poses in three dimensions, and for times that keep no rate.
    """
    with open_hdf5(path, "NWB files") as file:
        videos = _animals_by_video(file)
        if not videos:
            raise RecordingError(path, "holds no poses (PoseEstimation of ndx-pose); write them with ndx-pose")
        recordings = []
        for video, animals in videos.items():
            own_name = name or path.stem if len(videos) == 1 else f"{path.stem}/{video}"
            if name in (None, own_name):
                recordings.append(_recording(path, animals, fps, own_name))
    yield from recordings


def _animals_by_video(file: Any) -> dict[str, dict[str, Any]]:
    """Processing module -> animal -> its PoseEstimation group; those of several videos apart."""
    videos: dict[str, dict[str, Any]] = {}
    for module, animals in _animals_by_module(file).items():
        apart: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}
        for animal, group in animals.items():
            apart.setdefault((_original_videos(group), _cameras(group)), {})[animal] = group
        # Where only some say what they are of, nothing tells them from the others.
        if len(apart) > 1 and all(any(said) for said in apart):
            videos |= {f"{module}/{next(iter(some))}": some for some in apart.values()}
        else:
            videos[module] = animals
    return videos


def _original_videos(group: Any) -> tuple[str, ...]:
    """The videos that a PoseEstimation says it was made of; none where it says nothing."""
    return tuple(text_of(name) for name in group["original_videos"][:]) if "original_videos" in group else ()


def _cameras(group: Any) -> tuple[str, ...]:
    """The devices that a PoseEstimation links to, by their ids."""
    devices = [child.attrs for child in group.values() if text_of(child.attrs.get("neurodata_type", "")) == _DEVICE]
    return tuple(sorted(text_of(attributes.get("object_id", "")) for attributes in devices))


def _animals_by_module(file: Any) -> dict[str, dict[str, Any]]:
    """Processing module -> animal -> its PoseEstimation group."""
    found: dict[str, dict[str, Any]] = {}

    def visit(place: str, node: Any) -> None:
        if text_of(node.attrs.get("neurodata_type", "")) == _ANIMAL:
            module, _, animal = place.removeprefix("processing/").rpartition("/")
            # SLEAP names the container of a track track=NAME.
            found.setdefault(module, {})[animal.removeprefix("track=")] = node

    file.visititems(visit)
    return found


def _recording(path: Path, animals: dict[str, Any], fps: float | None, name: str) -> Recording:
    series: list[Series] = []
    keypoints: list[str] = []
    units: set[str] = set()
    for animal, group in animals.items():
        points = {k: s for k, s in group.items() if text_of(s.attrs.get("neurodata_type", "")) == _KEYPOINT}
        # HDF5 lists groups by the alphabet; the skeleton has the order that the lab gave its keypoints.
        order = [node for node in _nodes(group) if node in points]
        keypoints += [k for k in dict.fromkeys((*order, *points)) if k not in keypoints]
        for keypoint, node in points.items():
            series.append(_series(path, animal, keypoint, node))
            units.add(text_of(readable_array(path, node, "data").attrs.get("unit", "pixels")).lower())
    if not series:
        raise RecordingError(path, "holds a PoseEstimation without keypoints; write the file again")
    px_per_mm, warnings = _scale_of(path, units)
    recording = recording_from_series(
        path, series, animals=list(animals), keypoints=keypoints, fps=fps, name=name, warnings=warnings
    )
    return replace(recording, px_per_mm=px_per_mm)


def _scale_of(path: Path, units: set[str]) -> tuple[float | None, list[ReadingWarning]]:
    """px_per_mm by the units of all points, None for pixels, and a warning about others."""
    if units <= set(_PIXELS):
        return None, []
    listed = ", ".join(sorted(units))
    if len(units) > 1:
        raise RecordingError(path, f"has coordinates in several units ({listed}); write them in one")
    unit = min(units)
    if unit not in MM:
        return None, [ReadingWarning(f"coordinates are in {unit}, and read as px", 1, "file")]
    scale = 1 / MM[unit]
    return scale, [ReadingWarning(f"coordinates are in {unit}, and read as px with px_per_mm = {scale:g}", 1, "file")]


def _nodes(group: Any) -> list[str]:
    """The skeleton's keypoints in order, of new versions of ndx-pose and of old; none where there is no skeleton."""
    # The link to a skeleton has the skeleton's own name.
    skeletons = [child for child in group.values() if text_of(child.attrs.get("neurodata_type", "")) == _SKELETON]
    nodes = skeletons[0]["nodes"] if skeletons else group.get("nodes")
    return [text_of(name) for name in nodes[:]] if nodes is not None else []


def _series(path: Path, animal: str, keypoint: str, node: Any) -> Series:
    stored = readable_array(path, node, "data")
    data = float32_of(stored[:])
    if data.ndim != 2 or data.shape[1] != 2:
        problem = f"{animal}/{keypoint}: expected x and y, got data of shape {data.shape}; only 2-D tracks are read"
        raise RecordingError(path, problem)
    confidence = confidence_of_points(data)
    # NWB stores what an instrument gave; these make the unit of it.
    scale, shift = (float(stored.attrs.get(key, default)) for key, default in (("conversion", 1.0), ("offset", 0.0)))
    if (scale, shift) != (1.0, 0.0):
        data = float32_of(data.astype(np.float64) * scale + shift)
    if "confidence" in node:
        confidence = float32_of(readable_array(path, node, "confidence")[:])
    times = _times(path, node, len(data))
    if confidence.shape != (len(data),) or times.shape != (len(data),):
        problem = f"{animal}/{keypoint}: {len(data)} points, {len(confidence)} confidences and {len(times)} times"
        raise RecordingError(path, f"{problem} do not fit; write the file again")
    return Series(animal, keypoint, times, data, confidence)


def _times(path: Path, node: Any, n: int) -> NDArray[np.float64]:
    if "timestamps" in node:
        return np.asarray(readable_array(path, node, "timestamps")[:], np.float64)
    start = readable_array(path, node, "starting_time")
    return float(start[()]) + np.arange(n) / float(start.attrs["rate"])


READER = PoseReader("NWB with ndx-pose .nwb", (".nwb", ".h5"), is_nwb, read_nwb, carries_rate=True)
