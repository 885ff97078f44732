"""What an independent writer meant is what is read, or the file is refused: over generated files of every table format.

The writers (`writers.py`) share no code with the readers. A file that is written plainly must be read; where a style
makes it ambiguous, such as decimal commas between commas, it must be refused.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.bouts import Bout, frames_of
from rtseg.recordings.open import read_labels, read_recording
from rtseg.recordings.recording import IGNORE
from tests.examples import examples
from tests.recordings import writers
from tests.recordings.writers import ABSENT, Observation, State, Style

FPS = 30.0
N_FRAMES = 600

STYLES = st.builds(
    Style,
    delimiter=st.sampled_from([",", ";", "\t"]),
    quote=st.booleans(),
    rest_rows=st.integers(0, 2),
    rest_columns=st.integers(0, 2),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
).flatmap(
    lambda style: st.builds(
        lambda comma: Style(**{**style.__dict__, "decimal_comma": comma and style.delimiter != ","}), st.booleans()
    )
)


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder for each example."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@st.composite
def poses(draw: st.DrawFn, max_animals: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, A, K, 2) with missing ones, and likelihoods, both with three decimals; every animal is seen."""
    t, a, k = draw(st.integers(2, 8)), draw(st.integers(1, max_animals)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    points = rng.uniform(-5, 900, (t, a, k, 2)).round(3)
    points[points == -1] = 7  # a true point at -1, -1 is not to be told from a missing one
    missing = rng.random((t, a, k)) < draw(st.sampled_from([0.0, 0.3]))
    missing[-1] = False  # the last frame is whole, so that it is written
    points[missing] = np.nan
    return points, np.where(missing, 0.0, rng.uniform(0.1, 1.0, (t, a, k)).round(3))


def assert_same(recording, points: np.ndarray, likelihood: np.ndarray) -> None:
    np.testing.assert_array_equal(recording.keypoints, points.astype(np.float32))
    np.testing.assert_array_equal(recording.confidence, likelihood.astype(np.float32))


def names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}_{i}" for i in range(n)]


@examples(60)
@given(poses(), STYLES, st.sampled_from(sorted(ABSENT)), st.integers(0, 400), st.sampled_from([(), ("x_ens_var",)]))
def test_deeplabcut(scene, style: Style, absent: str, first: int, extra: tuple[str, ...]) -> None:
    points, likelihood = scene
    animals, keypoints = names("mouse", points.shape[1]), names("point", points.shape[2])
    with folder() as tmp:
        path = tmp / "m1DLC_net.csv"
        writers.write_dlc(
            path, points, likelihood, animals, keypoints, style=style, absent=absent, first=first, extra=extra
        )
        recording = read_recording(path, fps=FPS)
    late = ((first, 0), (0, 0), (0, 0))
    expected = np.pad(points, (*late, (0, 0)), constant_values=np.nan)
    assert_same(recording, expected, np.pad(likelihood, late))
    assert recording.skeleton.keypoints == tuple(keypoints)
    assert recording.skeleton.animals == (tuple(animals) if len(animals) > 1 else ("animal",))


@examples(40)
@given(poses(), st.data())
def test_skipped_frames_of_deeplabcut_are_missing(scene, data: st.DataObject) -> None:
    points, likelihood = scene
    n = len(points)
    skip = data.draw(st.lists(st.integers(0, n - 2), max_size=(n - 1) // 2, unique=True))
    with folder() as tmp:
        animals, keypoints = names("mouse", points.shape[1]), names("point", points.shape[2])
        path = writers.write_dlc(tmp / "a.csv", points, likelihood, animals, keypoints, skip=skip)
        recording = read_recording(path, fps=FPS)
    points[skip], likelihood[skip] = np.nan, 0
    assert_same(recording, points, likelihood)


@examples(40)
@given(poses(), STYLES, st.sampled_from(sorted(ABSENT)), st.integers(0, 200), st.data())
def test_sleap_csv_in_any_order_of_rows(scene, style: Style, absent: str, first: int, data: st.DataObject) -> None:
    points, likelihood = scene
    n_tracks = points.shape[1]
    tracks = [
        f"track_{i}" for i in sorted(data.draw(st.sets(st.integers(0, 12), min_size=n_tracks, max_size=n_tracks)))
    ]
    orders = [data.draw(st.permutations(range(n_tracks))) for _ in points]
    with folder() as tmp:
        path = tmp / "a.csv"
        nodes = names("node", points.shape[2])
        writers.write_sleap_csv(
            path, points, likelihood, tracks, nodes, lambda t: orders[t], style=style, absent=absent, first=first
        )
        recording = read_recording(path, fps=FPS)
    assert recording.skeleton.animals == tuple(tracks)
    late = first + next(t for t in range(len(points)) if np.isfinite(points[t]).any())
    assert recording.absent is None or recording.absent[:late].all()
    pad = ((first, 0), (0, 0), (0, 0))
    assert_same(recording, np.pad(points, (*pad, (0, 0)), constant_values=np.nan), np.pad(likelihood, pad))


@examples(30)
@given(poses(), st.booleans(), st.data())
def test_sleap_h5_with_tracks_that_are_never_seen(scene, dims: bool, data: st.DataObject) -> None:
    points, likelihood = scene
    n_tracks = points.shape[1]
    gone = data.draw(st.sets(st.integers(0, n_tracks - 1), max_size=n_tracks - 1))
    points[:, sorted(gone)], likelihood[:, sorted(gone)] = np.nan, 0
    tracks, nodes = [f"track_{i}" for i in range(n_tracks)][::-1], names("node", points.shape[2])
    with folder() as tmp:
        path = writers.write_sleap_h5(tmp / "a.h5", points, likelihood, tracks, nodes, dims=dims)
        recording = read_recording(path, fps=FPS)
    seen = [a for a in range(n_tracks) if a not in gone]
    assert recording.skeleton.animals == tuple(tracks[a] for a in seen)
    assert recording.listed_animals == tuple(tracks)
    assert_same(recording, points[:, seen], likelihood[:, seen])
    # A model of as many animals has those that are never seen as missing.
    assert_same(recording.select(Skeleton(tuple(tracks), tuple(nodes))), points, likelihood)


@examples(40)
@given(poses(), STYLES, st.sampled_from(sorted(ABSENT)), st.sampled_from(["{}", "{}.0"]))
def test_plain_csv(scene, style: Style, absent: str, form: str) -> None:
    points, likelihood = scene
    animals, keypoints = names("mouse", points.shape[1]), names("point", points.shape[2])
    if style.decimal_comma:
        form = form.replace(".", ",")
    with folder() as tmp:
        path = tmp / "a.csv"
        writers.write_plain_poses(
            path, points, likelihood, animals, keypoints, style=style, absent=absent, frame=form.format
        )
        recording = read_recording(path, fps=FPS)
    assert recording.skeleton.animals == tuple(animals)
    assert_same(recording, points, likelihood)


def test_decimal_commas_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    points, likelihood = np.full((2, 1, 1, 2), 1.5), np.full((2, 1, 1), 0.5)
    style = Style(decimal_comma=True, quote=True)
    with pytest.raises(RecordingError, match="expected"):
        read_recording(writers.write_dlc(tmp_path / "a.csv", points, likelihood, ["a"], ["k"], style=style))
    mixed = tmp_path / "b.csv"
    mixed.write_text("frame;a.k.x;a.k.y\n0;1,5;2,5\n1;1.234;2,5\n")
    with pytest.raises(RecordingError, match="mixes decimal commas and decimal points"):
        read_recording(mixed)


@st.composite
def states(draw: st.DrawFn, modifiers: bool = True) -> tuple[State, ...]:
    """States on a grid of 0.1 s; those of one subject, behaviour and modifier do not overlap, but may touch."""
    found = []
    for subject in draw(st.lists(st.sampled_from(["A", "B"]), min_size=1, max_size=2, unique=True)):
        for behaviour in draw(st.lists(st.sampled_from(["sniff", "chase, fast"]), min_size=1, max_size=2, unique=True)):
            for modifier in draw(st.lists(st.sampled_from(["", "head", "tail"]), min_size=1, max_size=2, unique=True)):
                edges = sorted(draw(st.lists(st.integers(0, 190), min_size=2, max_size=6, unique=True)))
                touching = draw(st.booleans())
                pairs = pairwise(edges) if touching else zip(edges[::2], edges[1::2], strict=False)
                found += [State(subject, behaviour, a / 10, b / 10, modifier if modifiers else "") for a, b in pairs]
                if not modifiers:
                    break
    return tuple(found)


def expected_labels(some: tuple[State, ...]) -> dict[str, list[str]]:
    """Track -> the behaviour of every frame; '' = none, '?' = two at once."""
    tracks: dict[str, list[set[str]]] = {}
    for s in some:
        for track in (s.subject, f"{s.subject}:{s.behaviour}"):
            frames = tracks.setdefault(track, [set() for _ in range(N_FRAMES)])
            for t in range(round(s.start_s * FPS), round(s.stop_s * FPS)):
                frames[t].add(s.behaviour)
    return {track: ["?" if len(f) > 1 else next(iter(f), "") for f in frames] for track, frames in tracks.items()}


def assert_labels(tracks, some: tuple[State, ...]) -> None:
    expected = expected_labels(some)
    assert set(tracks) == set(expected)
    for name, labels in expected.items():
        track = tracks[name]
        got = ["" if code == IGNORE else track.classes[code] for code in track.frames]
        assert got == ["" if label == "?" else label for label in labels]
        assert track.covered.tolist() == [bool(label) for label in labels]


@examples(60)
@given(
    states(), STYLES, st.sampled_from([0.0, 2.5, 100.0]), st.booleans(), st.sampled_from(["", "one\ntwo", 'a "b", c'])
)
def test_boris_tabular(some, style: Style, offset_s: float, start_first: bool, comment: str) -> None:
    one = Observation("obs 1", "m1.mp4", some, offset_s)
    if style.line_end != "\n":
        comment = comment.replace("\n", " ")
    with folder() as tmp:
        path = tmp / "events.csv"
        writers.write_boris_tabular(path, [one], style, comment=comment, start_before_stop=start_first)
        assert_labels(read_labels(path, N_FRAMES, FPS), some)


@examples(30)
@given(states(), STYLES, st.sampled_from([0.0, 2.5]), st.lists(st.integers(1, 900), max_size=4), st.integers(0, 4))
def test_boris_over_several_media_files(some, style: Style, offset_s: float, tenths: list[int], place: int) -> None:
    others = tuple((f"C:\\videos\\m{i + 2}.mp4", n / 10) for i, n in enumerate(tenths))
    one = Observation("obs", "C:\\videos\\m1.mp4", some, offset_s, others[:place], others[place:])
    with folder() as tmp:
        path = writers.write_boris_tabular(tmp / "events.csv", [one], style)
        assert_labels(read_labels(path, N_FRAMES, FPS, names=["m1DLC_resnet50.csv"]), some)
        if others:
            with pytest.raises(RecordingError, match="none is named like the poses"):
                read_labels(path, N_FRAMES, FPS, names=["m77DLC_resnet50.csv"])


@examples(30)
@given(states(), STYLES, st.sampled_from([0.0, 2.5]))
def test_boris_aggregated(some, style: Style, offset_s: float) -> None:
    with folder() as tmp:
        path = writers.write_boris_aggregated(tmp / "e.csv", [Observation("o", "m1.mp4", some, offset_s)], style)
        assert_labels(read_labels(path, N_FRAMES, FPS), some)


@examples(30)
@given(states(modifiers=False), STYLES, st.sampled_from([0.0, 2.5]))
def test_boris_of_old_versions(some, style: Style, offset_s: float) -> None:
    with folder() as tmp:
        path = writers.write_boris_old(tmp / "e.csv", Observation("o", "m1.mp4", some, offset_s), style)
        assert_labels(read_labels(path, N_FRAMES, FPS), some)


@examples(40)
@given(st.lists(states(), min_size=2, max_size=4), st.data())
def test_boris_with_several_observations(several, data: st.DataObject) -> None:
    observations = [Observation(f"obs {i}", f"C:\\videos\\m{i}.mp4", some) for i, some in enumerate(several)]
    wanted = data.draw(st.integers(0, len(several) - 1))
    with folder() as tmp:
        path = writers.write_boris_tabular(tmp / "e.csv", observations)
        with pytest.raises(RecordingError, match="observations"):
            read_labels(path, N_FRAMES, FPS)
        with pytest.raises(RecordingError, match="observations"):
            read_labels(path, N_FRAMES, FPS, names=["m77DLC_resnet50.csv"])
        assert_labels(read_labels(path, N_FRAMES, FPS, names=[f"m{wanted}DLC_resnet50.csv"]), several[wanted])
        assert_labels(read_labels(path, N_FRAMES, FPS, observation=f"obs {wanted}"), several[wanted])


@examples(40)
@given(
    st.dictionaries(st.sampled_from(["S1", "S2"]), st.lists(st.integers(1, N_FRAMES - 1), max_size=8), min_size=1),
    STYLES,
    st.data(),
)
def test_caltech(edges: dict[str, list[int]], style: Style, data: st.DataObject) -> None:
    classes = ["base", "bite", "chase"]
    tracks = {}
    for track, some in edges.items():
        bounds = sorted({0, *some, N_FRAMES})
        labels = [data.draw(st.sampled_from(classes)) for _ in bounds[1:]]
        tracks[track] = [(a, b, label) for (a, b), label in zip(pairwise(bounds), labels, strict=True)]
    with folder() as tmp:
        path = writers.write_caltech(tmp / "a.txt", classes, tracks, style.encoding, style.line_end)
        found = read_labels(path, N_FRAMES, FPS)
    assert set(found) == set(tracks)
    for track, bouts in tracks.items():
        expected = frames_of([Bout(a, b, classes.index(label)) for a, b, label in bouts], N_FRAMES, IGNORE)
        np.testing.assert_array_equal(found[track].frames, expected)


@examples(40)
@given(
    st.lists(st.tuples(st.integers(0, 199), st.integers(1, 30), st.sampled_from(["a", "b"])), min_size=1, max_size=6),
    STYLES,
    st.sampled_from(
        [
            *("start,stop,behaviour", "Start,Stop,Behavior", "START,END,LABEL"),
            *("onset_s,offset_s,label", "start_s,stop_s,h:mm:ss", "start_s,stop_s,m:ss"),
            *("start,duration,label", "start_s,duration_s,label"),
        ]
    ),
)
def test_bouts_in_csv(triples: list[tuple[int, int, str]], style: Style, header: str) -> None:
    in_seconds, clock = "_s" in header, {"h:mm:ss": "0:00:", "m:ss": "0:"}.get(header.split(",")[-1])
    rows = [[name.replace("h:mm:ss", "label").replace("m:ss", "label") for name in header.split(",")]]
    for start, length, label in triples:
        edges = (start, length if "duration" in header else start + length)
        cells = [style.number(e / FPS, 4) if in_seconds else str(e) for e in edges]
        # Up to here there are no minutes: 59 s would be too many frames for a quick test.
        rows.append([*(clock + cell.zfill(7) if clock else cell for cell in cells), label])
    with folder() as tmp:
        found = read_labels(style.write(tmp / "bouts.csv", rows), 300, FPS)["labels"]
    for t in range(300):
        said = {label for start, length, label in triples if start <= t < start + length}
        assert found.covered[t] == bool(said)
        assert (found.classes[found.frames[t]] if found.frames[t] != IGNORE else None) == (
            next(iter(said)) if len(said) == 1 else None
        )


@examples(40)
@given(
    st.lists(st.booleans(), min_size=60, max_size=90),
    STYLES,
    st.sampled_from(["frame", "Frame", "", "Unnamed: 0"]),
    st.sampled_from([("0", "1"), ("0.0", "1.0"), ("False", "True")]),
)
def test_zeros_and_ones_in_csv(values: list[bool], style: Style, index: str, words: tuple[str, str]) -> None:
    if style.decimal_comma:
        words = words[0].replace(".", ","), words[1].replace(".", ",")
    rows = [[index, "attack"], *[[str(t), words[value]] for t, value in enumerate(values)]]
    with folder() as tmp:
        track = read_labels(style.write(tmp / "labels.csv", rows), len(values), FPS)["attack"]
    assert track.classes == ("other", "attack")
    assert track.frames.tolist() == [int(value) for value in values]


@examples(40)
@given(
    st.lists(st.booleans(), min_size=20, max_size=60),
    st.sampled_from([0.1, 0.2, 0.5, 1 / 30, 1 / 25, 0.01]),
    st.sampled_from(["time", "Time (s)", "timestamp"]),
)
def test_steps_of_time_in_csv(values: list[bool], step: float, name: str) -> None:
    rows = [[name, "sniff"], *[[f"{i * step:.4f}", str(int(value))] for i, value in enumerate(values)]]
    n_frames = round(len(values) * step * FPS)
    with folder() as tmp:
        track = read_labels(Style().write(tmp / "labels.csv", rows), n_frames, FPS)["sniff"]
    # A frame has the value of the step in which its time lies; at an edge, rounding decides.
    for t in range(n_frames):
        place = t / FPS / step
        if abs(place - round(place)) * step > 2e-3 or abs(step * FPS - round(step * FPS)) < 1e-9:
            assert track.frames[t] == values[min(int(place + 0.03), len(values) - 1)]
