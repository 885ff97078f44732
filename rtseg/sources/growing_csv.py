"""Keypoints from a CSV that grows: DeepLabCut's, or a plain one, while the tracker writes it.

The header and every row are read by the readers of `rtseg.recordings.poses`, so that a row means live what it means in
the whole file. Waits by short sleeps, which every file system allows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import FrameError, RecordingError, SkeletonError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.column_names import is_rate
from rtseg.recordings.files.delimited import as_plain_lines, delimited_rows, delimiter_of
from rtseg.recordings.naming import NameMap
from rtseg.recordings.poses import dlc
from rtseg.recordings.poses.layout import SINGLE_ANIMAL, Column
from rtseg.recordings.poses.pose_file import LikelihoodsSoFar, check_rate, float32_of, recording_from_columns
from rtseg.recordings.poses.tables import plain
from rtseg.recordings.recording import Recording
from rtseg.sources.bridge import SourceFrame
from rtseg.sources.growing_text import GrowingText, NewLines
from rtseg.sources.points import Pose

LOG = logging.getLogger("rtseg.sources")
MOST_HEADER_LINES = 5
ROWS_AT_ONCE = 256
_NO_ROW = np.full((1, 2), np.nan, np.float32)


class GrowingCsv:
    """Frames from a file that another program writes; it may not be there yet.

    fps: of the camera. animals: of SLEAP's long layout, which has a row for each animal: which tracks take part, for
    nobody knows which ones are still to come; a frame of it is whole when the next one begins. names: as for files.
    from_end: leave out the rows that are there at first. wait_s: how long to wait for the header, None = for ever.
    Frames have the numbers that the file gives them. Raises RecordingError where the header is none that is read, or
    does not come.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: float,
        animals: Sequence[str] = (),
        names: NameMap | None = None,
        from_end: bool = False,
        wait_s: float | None = None,
    ) -> None:
        self.clock = "monotonic"
        self._path, self._fps, self._animals, self._names = path, fps, tuple(animals), names or NameMap()
        self._text = GrowingText(path)
        self._header: list[str] = []
        self._frame_column: int | None = None  # of a long layout, and what its cells are apart by
        self._delimiter = ","
        self._rows: list[tuple[int, str]] = []  # of the frame that is not whole yet
        self._waiting: deque[SourceFrame | FrameError] = deque()
        self._newest = -1
        self._first: int | None = None  # the number of the first row
        self._held: tuple[int, int, Pose] | None = None  # the line with that number once more, number and pose
        self._begins = False
        self._unknown_tracks: set[str] = set()
        self._likelihoods = LikelihoodsSoFar()
        # A quarter of a frame: a row waits a tenth of the time on average that passes until the next one.
        self._look_every_s = min(0.01, max(0.001, 0.25 / fps))
        self._sleeping = threading.Event()  # never set; its wait is ended by a signal
        self._skeleton: Skeleton | None = None  # until the header has come
        try:
            self._wait_for_header(wait_s)
            if from_end:
                self._skip_rows()
        except BaseException:
            self.close()
            raise

    @property
    def skeleton(self) -> Skeleton:
        """Animals and keypoints by the header, under the names that `names` gives them."""
        assert self._skeleton is not None
        return self._skeleton

    def receive(self, timeout_s: float) -> SourceFrame | None:
        """See `bridge.Source`."""
        deadline_s = time.monotonic() + timeout_s
        while not self._waiting:
            self._take(self._text.read())
            left_s = deadline_s - time.monotonic()
            if self._waiting or left_s <= 0:
                break
            self._sleeping.wait(min(self._look_every_s, left_s))
        if not self._waiting:
            return None
        frame = self._waiting.popleft()
        if isinstance(frame, FrameError):
            raise frame
        return frame

    def close(self) -> None:
        """Close the file."""
        self._text.close()

    def _take(self, new: NewLines) -> None:
        """Frames of new lines into the queue."""
        if new.begins:
            LOG.warning("%s %s: read from its beginning", self._path, new.begins)
            self._header, self._rows = [], []
            self._likelihoods = LikelihoodsSoFar()
            self._count_anew()
        lines = [row for row in enumerate(new.lines, start=new.first) if row[1].strip(' ,;\t"')]
        if not self._is_header_whole():
            while lines and not self._is_header_whole():
                self._header.append(lines.pop(0)[1])
                self._check_header()
            if not self._is_header_whole():
                return
            skeleton = self._read_header()
            if self._skeleton not in (None, skeleton):
                raise SkeletonError(f"{self._path} has another header now: start `rtseg source csv` again")
            self._skeleton = skeleton
        self._take_rows(lines)

    def _take_rows(self, lines: Sequence[tuple[int, str]]) -> None:
        """Frames of rows into the queue. lines: with their numbers, none of them empty."""
        for number, line in lines:
            if line == self._header[0]:
                # A tracker that was started again and appends writes its header again.
                self._queue_rows(is_frame_whole=True)
                LOG.warning("%s, line %d: the header again: what follows is another recording", self._path, number)
                self._count_anew()
            elif line not in self._header:
                # Numbers count rows; with another header, columns of the same number would be other points.
                if not line[0].isdigit() and dlc.first_cell(line) in map(dlc.first_cell, self._header):
                    raise SkeletonError(f"{self._path}, line {number}: another header: start `rtseg source csv` again")
                self._rows.append((number, line))
        self._queue_rows(is_frame_whole=self._frame_column is None)

    def _queue_rows(self, *, is_frame_whole: bool) -> None:
        """is_frame_whole: whether no more rows of the last frame can come; of a long layout they may."""
        groups = [list(rows) for _, rows in groupby(self._rows, key=self._frame_of)]
        self._rows = groups.pop() if groups and not is_frame_whole else []
        for i in range(0, len(groups), ROWS_AT_ONCE):
            self._queue_frames(groups[i : i + ROWS_AT_ONCE])

    def _count_anew(self) -> None:
        """What came before does not belong to what comes."""
        self._newest, self._first, self._held, self._begins = -1, None, None, True

    def _queue_frames(self, groups: list[list[tuple[int, str]]]) -> None:
        """groups: the rows of each frame. One that cannot be read leaves the others alone."""
        try:
            recording, numbers = self._read_rows([row for rows in groups for row in rows])
            if len(numbers) != len(groups):
                raise RecordingError(self._path, "a frame's rows do not stand together", line=groups[0][0][0])
        except RecordingError as error:
            if len(groups) == 1:
                self._waiting.append(FrameError(f"{self._path}, line {groups[0][0][0]}: {error.problem}"))
                return
            for group in groups:
                self._queue_frames([group])
            return
        for t, number in enumerate(numbers):
            pose = np.concatenate([recording.keypoints[t], recording.confidence[t][..., None]], axis=-1)
            self._queue_frame(groups[t][0][0], number, pose)

    def _queue_frame(self, line: int, number: int, pose: Pose) -> None:
        """One frame by its number. The first number once more waits for the row behind it, which says what it is."""
        if self._held is not None:
            (held_line, held_number, held_pose), self._held = self._held, None
            if held_number < number <= self._newest:
                LOG.warning("%s, line %d: frames count from %d again", self._path, held_line, held_number)
                self._count_anew()
                self._queue_newer(held_number, held_pose)
            else:  # the file goes on as if that row were not there
                self._queue_late(held_line, held_number)
        if number > self._newest:
            self._queue_newer(number, pose)
        elif number == self._first and self._newest > number:
            self._held = line, number, pose
        else:
            self._queue_late(line, number)

    def _queue_newer(self, number: int, pose: Pose) -> None:
        self._newest = number
        self._first = number if self._first is None else self._first
        self._waiting.append(SourceFrame(pose, number, None, self._begins))
        self._begins = False

    def _queue_late(self, line: int, number: int) -> None:
        problem = f"frame {number} comes after frame {self._newest}"
        self._waiting.append(FrameError(f"{self._path}, line {line}: {problem}"))

    def _read_rows(self, rows: Sequence[tuple[int, str]]) -> tuple[Recording, list[int]]:
        """Rows as a recording of as many frames, and the numbers that the file gives these. Raises RecordingError."""
        lines = [*self._header, *(line for _, line in rows)]
        if self._is_dlc():
            table = as_plain_lines(self._path, lines)
            columns, n_header = dlc.csv_header(self._path, table)
            pairs = zip(table[n_header:], rows, strict=False)  # an empty row at the end is gone
            parsed = [dlc.csv_row(self._path, line, len(columns), number) for line, (number, _) in pairs]
            index = np.array([number for number, _ in parsed], np.int64)
            values = float32_of([cells for _, cells in parsed])
        else:
            poses = plain.poses_of_table(self._path, delimited_rows(self._path, lines))
            check_rate(self._path, poses.rate, self._fps)
            columns, index, values = poses.columns, poses.index, poses.values
        numbers = [int(number) for number in index]
        # Numbered from 0: the recording has these frames and no others.
        recording = self._recording(columns, np.arange(len(numbers)), values)
        if self._frame_column is not None:
            recording = self._only_declared(recording)
        return self._names.rename(recording), numbers

    def _recording(self, columns: Sequence[Column], index: NDArray[np.int64], values: NDArray[np.float32]) -> Recording:
        return recording_from_columns(
            self._path, columns, index, values, (), fps=self._fps, name=None, so_far=self._likelihoods
        )

    def _only_declared(self, recording: Recording) -> Recording:
        """The declared animals of a long layout, those without a row here as missing."""
        have = recording.skeleton.animals
        if unknown := set(have) - set(self._animals) - self._unknown_tracks:
            self._unknown_tracks |= unknown
            LOG.warning("%s: tracks that are not declared are left out: %s", self._path, ", ".join(sorted(unknown)))
        shape = (len(recording), len(self._animals), len(recording.skeleton.keypoints))
        points, scores = np.full((*shape, 2), np.nan, np.float32), np.zeros(shape, np.float32)
        for a, animal in enumerate(self._animals):
            if animal in have:
                points[:, a] = recording.keypoints[:, have.index(animal)]
                scores[:, a] = recording.confidence[:, have.index(animal)]
        skeleton = Skeleton(self._animals, recording.skeleton.keypoints)
        return Recording(recording.name, skeleton, points, scores, self._fps, recording.source)

    def _frame_of(self, row: tuple[int, str]) -> object:
        """What rows of one frame have in common: of a long layout the frame's cell, else the row itself."""
        number, line = row
        if self._frame_column is None:
            return number
        cells = line.split(self._delimiter)
        return cells[self._frame_column].strip(' "') if self._frame_column < len(cells) else line

    def _wait_for_header(self, wait_s: float | None) -> None:
        deadline_s = None if wait_s is None else time.monotonic() + wait_s
        told = False
        while self._skeleton is None:
            self._take(self._text.read())
            if self._skeleton is not None:
                return
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise RecordingError(self._path, f"no header came within {wait_s:g} s; is its writer running?")
            if not told:
                LOG.info("waiting for %s and its header", self._path)
                told = True
                # What reads a row is compiled now: the first frames must not wait for it.
                self._recording([(SINGLE_ANIMAL, "nose", "x"), (SINGLE_ANIMAL, "nose", "y")], np.arange(1), _NO_ROW)
            self._sleeping.wait(self._look_every_s)

    def _skip_rows(self) -> None:
        while (new := self._text.read()).lines:
            self._take(new)
        self._waiting.clear()
        self._rows = []

    def _is_dlc(self) -> bool:
        return dlc.first_cell(self._header[0]) in dlc.HEADER

    def _is_header_whole(self) -> bool:
        """DeepLabCut's ends with the row `coords`; any other is one line."""
        return bool(self._header) and (not self._is_dlc() or dlc.first_cell(self._header[-1]) == "coords")

    def _check_header(self) -> None:
        if len(self._header) > MOST_HEADER_LINES:
            problem = f"expected DeepLabCut's header rows {', '.join(dlc.HEADER)} within its first lines"
            raise RecordingError(self._path, problem, line=MOST_HEADER_LINES)

    def _read_header(self) -> Skeleton:
        """Animals and keypoints by the header alone. Raises RecordingError."""
        if self._is_dlc():
            columns, _ = dlc.csv_header(self._path, as_plain_lines(self._path, self._header))
        else:
            columns = self._plain_columns()
        return self._names.rename(
            self._recording(columns, np.arange(1), np.full((1, len(columns)), np.nan, np.float32))
        ).skeleton

    def _plain_columns(self) -> list[Column]:
        table = delimited_rows(self._path, self._header)
        header = plain.read_header(self._path, table)
        points = list(header.points.values())
        left_out = [header.names[i] for i in header.others if not is_rate(header.names[i])]
        if left_out and self._skeleton is None:
            names = ", ".join(left_out)
            LOG.warning("%s: columns that are no points are left out: %s", self._path, names)
        if header.track is None:
            return [(animal or SINGLE_ANIMAL, keypoint, coord) for animal, keypoint, coord in points]
        if not self._animals:
            problem = "has a row for each track, and tracks may come later: name those that take part by --animals"
            raise RecordingError(self._path, problem, line=1)
        self._delimiter, self._frame_column = delimiter_of(self._header), header.frame
        return [(animal, keypoint, coord) for animal in self._animals for _, keypoint, coord in points]
