"""The split: every behaviour on both sides, no frame on both, a margin between, and several held-out recordings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.errors import SettingError
from rtseg.project.split import LabelledVideo, Split, propose_split
from rtseg.recordings.heads import Head

HEAD = Head("social", ("other", "sniff", "chase"), ("sniff", "chase"), "social")
FPS = 30.0
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def video(name: str, bouts: list[tuple[int, int, int]], n_frames: int = 6000) -> LabelledVideo:
    frames = np.zeros(n_frames, np.int16)
    for start, stop, label in bouts:
        frames[start:stop] = label
    return LabelledVideo(name, {HEAD.name: frames}, n_frames, 0, n_frames)


def regular(n: int = 20, n_frames: int = 6000) -> list[tuple[int, int, int]]:
    return [(i * n_frames // n + 50, i * n_frames // n + 110, 1 + i % 2) for i in range(n)]


def check_split(split: Split, videos: list[LabelledVideo]) -> None:
    """What holds for every split. Frames of every recording are trained on, or held out, or neither."""
    whole = {v.name: np.zeros(v.n_frames, np.int8) for v in videos}
    labels = {v.name: v.labels[HEAD.name] for v in videos}
    parts = {part.id: part for part in split.parts}
    held_out_with_labels = 0
    for side, names in ((1, split.train), (2, split.validation)):
        seen: set[int] = set()
        for name in names:
            part = parts.get(name)
            frames = slice(part.from_frame, part.to_frame) if part else slice(None)
            of = part.recording if part else name
            assert not whole[of][frames].any(), "a frame is on both sides, or twice on one"
            whole[of][frames] = side
            own = set(labels[of][frames].tolist())
            seen |= own
            held_out_with_labels += side == 2 and len(own) > 1
        assert seen >= {0, 1, 2}, "a behaviour is missing on one side"
    assert held_out_with_labels >= 2  # calibration is measured on others than it is fitted on
    for side in whole.values():
        changes = np.flatnonzero((side[1:] == 2) & (side[:-1] == 1) | (side[1:] == 1) & (side[:-1] == 2))
        assert not len(changes), "no margin between what is trained on and what is held out"


@QUICK
@given(st.integers(8, 40), st.integers(3000, 20_000))
def test_blocks_of_one_video(n_bouts: int, n_frames: int) -> None:
    videos = [video("v", regular(n_bouts, n_frames), n_frames)]
    try:
        split = propose_split(videos, [HEAD], FPS)
    except SettingError:
        assert n_bouts < 16  # with eight bouts of each, blocks are always found
        return
    check_split(split, videos)
    held_out = sum(p.to_frame - p.from_frame for p in split.parts if p.id in split.validation and p.to_frame)
    assert 0.15 * n_frames < held_out < 0.5 * n_frames


@QUICK
@given(st.integers(2, 9))
def test_whole_videos_are_held_out(n: int) -> None:
    videos = [video(f"v{i}", regular(8 + i)) for i in range(n)]
    split = propose_split(videos, [HEAD], FPS)
    check_split(split, videos)
    recordings = {part.id: part.recording for part in split.parts}
    trained, held_out = ({recordings.get(name, name) for name in names} for names in (split.train, split.validation))
    assert not trained & held_out


def test_a_rare_behaviour_is_put_on_both_sides() -> None:
    videos = [video(f"v{i}", [(100, 200, 1), (300, 360, 2)] if i in (3, 4) else [(100, 200, 1)]) for i in range(8)]
    check_split(propose_split(videos, [HEAD], FPS), videos)


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(SettingError, match="bring a second video"):
        propose_split([video("v", [(100, 200, 1), (240, 300, 1)])], [HEAD], FPS)
    empty = LabelledVideo("v", {HEAD.name: np.full(900, -1, np.int16)}, 900, 0, 900)
    with pytest.raises(SettingError, match="0 frames carry a label"):
        propose_split([empty], [HEAD], FPS)


def test_frames_that_nobody_looked_at_are_in_no_part() -> None:
    one = video("v", regular(16, 4000), 9000)
    one = LabelledVideo("v", one.labels, 9000, 0, 4000)
    split = propose_split([one], [HEAD], FPS)
    assert max(part.to_frame or 9000 for part in split.parts) == 4000


def views(name: str, bouts: list[tuple[int, int, int]], n_frames: int = 6000) -> list[LabelledVideo]:
    """Two cameras on one session, the second of which stopped later."""
    pair = video(f"{name}_top", bouts, n_frames), video(f"{name}_side", bouts, n_frames + 7)
    return [replace(view, session=name) for view in pair]


@pytest.mark.parametrize("n_sessions", [2, 3, 7])
def test_views_of_one_session_stay_on_one_side(n_sessions: int) -> None:
    videos = [view for i in range(n_sessions) for view in views(f"s{i}", regular(12 + i))]
    split = propose_split(videos, [HEAD], FPS)
    check_split(split, videos)
    recordings = {part.id: part.recording for part in split.parts}
    trained, held_out = (
        {recordings.get(name, name).partition("_")[0] for name in names} for names in (split.train, split.validation)
    )
    assert trained
    assert not trained & held_out


def test_views_of_a_single_session_are_cut_at_the_same_frames() -> None:
    videos = views("s", regular(24))
    split = propose_split(videos, [HEAD], FPS)
    check_split(split, videos)
    frames = [
        [(part.from_frame, part.to_frame, part.id in split.train) for part in split.parts if part.recording == one.name]
        for one in videos
    ]
    assert frames[0][:-1] == frames[1][:-1]
    assert [last[-1][1] for last in frames] == [6000, 6007]
