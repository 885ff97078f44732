"""Four ways to the same answers, bit for bit: a daemon, that daemon's recording, `annotate` and a `Session`.

Over generated recordings: gaps of 1 to 100 frames in any order, late starts, points that come and go, confidences above
1 as SLEAP's are. One daemon answers all of them, each as a stream of its own. RTSEG_EXAMPLES=100 draws a hundred times
as many.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.bundle.bundle import load_bundle, save_bundle
from rtseg.inference.annotate import annotate
from rtseg.inference.classifier import Classifier
from rtseg.inference.gap_rule import Counters
from rtseg.inference.predictions import Predictions, Quality
from rtseg.playback.replay import replay
from rtseg.recordings.open import read_recordings
from rtseg.recordings.recording import Recording
from tests.examples import FACTOR, examples
from tests.live import REPO, Child, daemon, random_walk, without_frames, write_gapped_poses
from tests.trees import with_trees

LOOKAHEAD, N_EXAMPLES = 7, 5


@dataclass
class Served:
    """A daemon that records, the same bundle in this process, and what streams were answered so far, by name."""

    child: Child
    classifier: Classifier
    folder: Path
    answers: dict[str, list[bytes]] = field(default_factory=dict)


@pytest.fixture(params=["network", "trees"])
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    bundle = replace(load_bundle(REPO / "engines" / "mice-sim"), lookahead_frames=LOOKAHEAD)
    bundle = with_trees(bundle) if request.param == "trees" else bundle
    save_bundle(bundle, tmp_path / "bundle")
    with daemon(tmp_path / "bundle", record=str(tmp_path / "recordings")) as child:
        yield Served(child, Classifier(bundle, "numba", 2), tmp_path)


@dataclass(frozen=True)
class Scene:
    """What a recording is made of. late: frames that never came before the first. parts: frames that came, and frames
    of the gap behind them. rest: frames at the end. unseen: share of frames in which one of the animals is not.
    """

    late: int
    parts: tuple[tuple[int, int], ...]
    rest: int
    score_factor: float
    unseen: float
    animal: int
    seed: int

    def recording(self, name: str) -> Recording:
        absent = [np.ones(self.late, np.bool_)]
        for n_came, n_missing in self.parts:
            absent += [np.zeros(n_came, np.bool_), np.ones(n_missing, np.bool_)]
        mask = np.concatenate([*absent, np.zeros(self.rest, np.bool_)])
        walk = random_walk(len(mask), self.seed)
        keypoints, confidence = walk.keypoints.copy(), walk.confidence * np.float32(self.score_factor)
        gone = np.random.default_rng(self.seed).random(len(mask)) < self.unseen
        keypoints[gone, self.animal] = np.nan
        return without_frames(replace(walk, name=name, keypoints=keypoints, confidence=confidence), mask)


SCENES = st.builds(
    Scene,
    late=st.integers(0, 150),
    parts=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 100)), min_size=1, max_size=6).map(tuple),
    rest=st.integers(1, 90),
    score_factor=st.sampled_from([1.0, 1.03, 1.2]),
    unseen=st.sampled_from([0.0, 0.2, 1.0]),
    animal=st.integers(0, 1),
    seed=st.integers(0, 2**16),
)


def stepped(classifier: Classifier, recording: Recording) -> tuple[Predictions, Counters]:
    """The answers of a `Session` that is given the frames that came, one by one, and what it counted."""
    session, answers = classifier.open("live"), []
    try:
        for t in recording.came.tolist():
            answers += session.step(classifier.frame(recording.keypoints[t], recording.confidence[t], seq=t))
        answers += session.finish()
    finally:
        session.close()
    return Predictions.collect(classifier.bundle.heads, answers), session.counters


def whole(classifier: Classifier, recording: Recording) -> tuple[Predictions, Counters]:
    """The same of a `Session` that is given the whole recording."""
    session = classifier.open("whole")
    try:
        return session.run(recording, chunk_frames=50), session.counters
    finally:
        session.close()


def bits(answers: Predictions) -> list[bytes]:
    quality = answers.quality & ~int(Quality.LATE)  # late is what a clock says
    return [part.tobytes() for part in (answers.seq, answers.probs, answers.labels, quality, answers.unsure)]


def test_four_ways_to_the_same_answers(served: Served) -> None:
    @examples(N_EXAMPLES)
    @given(SCENES)
    def agree(scene: Scene) -> None:
        name = f"stream {len(served.answers)}"
        recording = scene.recording(name)
        answers, counted = stepped(served.classifier, recording)
        served.answers[name] = expected = bits(answers)
        answers, counted_whole = whole(served.classifier, recording)
        assert bits(answers) == expected
        assert replace(counted_whole, clipped=counted.clipped) == counted
        poses = write_gapped_poses(recording, served.folder / "poses.csv")
        (done,) = annotate(served.classifier, [poses], served.folder / "out", fps=30.0, overwrite=True)
        assert bits(done.predictions) == expected
        assert bits(replay(recording, served.child.frames, speed=None).predictions) == expected

    agree()
    served.child.signal(signal.SIGTERM)
    served.child.rest()
    found: dict[str, list[bytes]] = {}
    for file in (served.folder / "recordings").glob("*.mcap"):
        for recording in read_recordings(file):
            # A stream whose first frame is not frame 0 is called NAME@SEQ.
            found[recording.name.partition("@")[0]] = bits(served.classifier.run(recording))
    assert found == served.answers
    assert len(found) >= N_EXAMPLES * FACTOR
