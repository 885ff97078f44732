"""Keypoints from a Lab Streaming Layer stream: one channel a coordinate, named by the stream's channel labels.

LSL finds the stream by name in the network and says when each sample was. The protocol is pylsl's (liblsl's) to read.
"""

from __future__ import annotations

import logging
from typing import Any

from rtseg.errors import ServeError, SkeletonError, needs_extra
from rtseg.frames.skeleton import Skeleton
from rtseg.sources.bridge import SourceFrame
from rtseg.sources.points import MAX_FRAME, ChannelPoints

LOG = logging.getLogger("rtseg.sources")
OPEN_S = 5.0
"""How long a stream that was found may take to be opened."""
OTHERS_S = 1.5
"""How long it is looked for others that answer as well: liblsl stops at the first one, which may be another camera."""
SAME_RATE = 0.01
"""A rate that the user names may differ from the stream's own by this share, as for the daemon."""


class LslSource:
    """Frames from the one LSL stream that answers to `predicate`.

    predicate: liblsl's, such as name='poses' and type='Pose'. fps: frames per second, None = the stream's nominal rate.
    wait_s: how long it is looked for. Its labels say which channel is which (`points.ChannelPoints`), its time stamps
    when each frame was: t_source_ns is the sender's LSL clock. A stream that ends is waited for, and must come back
    with the same labels and rate; where several answer by then, the one with its source id is it. Raises ServeError
    where no stream, or several, or one of texts or without a rate are found, SkeletonError for its labels, and
    RtsegError without pylsl.
    """

    def __init__(self, predicate: str, *, fps: float | None = None, wait_s: float = 10.0) -> None:
        try:
            import pylsl
        except (ImportError, RuntimeError) as error:  # RuntimeError: the package is there and liblsl is not
            if isinstance(error, ImportError):
                raise needs_extra("pylsl", "lsl", "Receiving LSL streams") from None
            raise ServeError(f"pylsl finds no liblsl: install it (docs/sources/lsl.md): {error}") from None
        self._lsl, self._predicate = pylsl, predicate
        self.clock = "lsl"
        self._source_id, self._told_of_several = "", False
        found = self._resolve(wait_s)
        if not found:
            raise ServeError(f"no LSL stream with {predicate} within {wait_s:g} s: start its sender first")
        if len(found) > 1:
            raise ServeError(
                f"{len(found)} LSL streams with {predicate}: name one by --name, --type, --source-id: {_shown(found)}"
            )
        self._labels: list[str] | None = None
        try:
            self._inlet: Any = self._open(found[0])
        except (pylsl.util.LostError, pylsl.util.TimeoutError) as error:
            raise ServeError(f"LSL stream {found[0].name()!r} was found and cannot be opened: {error}") from None
        self.fps = self._rate(fps, float(found[0].nominal_srate()))

    @property
    def skeleton(self) -> Skeleton:
        """Animals and keypoints by the stream's labels."""
        return self._points.skeleton

    @property
    def left_out(self) -> list[str]:
        """Labels of channels that are no point's."""
        return self._points.left_out

    def receive(self, timeout_s: float) -> SourceFrame | None:
        """See `bridge.Source`."""
        if self._inlet is None:
            found = self._resolve(timeout_s)
            if len(found) > 1 and not self._told_of_several:
                self._told_of_several = True
                LOG.warning(
                    "%d LSL streams with %s: waiting until there is one, or the one with source_id=%r: %s",
                    *(len(found), self._predicate, self._source_id, _shown(found)),
                )
            if len(found) != 1:
                return None
            try:
                self._inlet = self._open(found[0])
            except (self._lsl.util.LostError, self._lsl.util.TimeoutError):
                return None  # gone again; what it was before it ended may still be found for a while
            self._check_same_rate(found[0])
            self._told_of_several = False
            LOG.warning("LSL stream %s is back", self._predicate)
        try:
            sample, t_s = self._inlet.pull_sample(timeout_s)
        except self._lsl.util.LostError:
            LOG.warning("LSL stream %s has ended; waiting until it comes back", self._predicate)
            self.close()
            return None
        if sample is None:
            return None
        # A stamp before 0 says nothing about when, and neither does one beyond any clock.
        t_ns = round(t_s * 1e9) if 0 <= t_s < MAX_FRAME / 1e9 else None
        return SourceFrame(self._points.pose_of(sample), self._points.number_of(sample), t_ns)

    def close(self) -> None:
        """Close the inlet."""
        if self._inlet is not None:
            self._inlet.close_stream()
        self._inlet = None

    def _resolve(self, wait_s: float) -> list[Any]:
        """The streams that answer; the one with the known source id alone, where it is among them."""
        found = self._lsl.resolve_bypred(self._predicate, 1, wait_s)
        if len(found) == 1 and not self._is_known(found[0]):
            found = self._lsl.resolve_bypred(self._predicate, 2, OTHERS_S)
        known = [each for each in found if self._is_known(each)]
        return known if len(known) == 1 else list(found)

    def _is_known(self, found: Any) -> bool:
        return bool(self._source_id) and found.source_id() == self._source_id

    def _open(self, found: Any) -> Any:
        """An inlet of the stream, with its labels read. Raises pylsl's LostError and TimeoutError where it is gone."""
        # Not recovered by liblsl itself: another stream under the same source id may have other channels.
        inlet = self._lsl.StreamInlet(found, recover=False)
        info = inlet.info(OPEN_S)
        inlet.open_stream(OPEN_S)
        if info.channel_format() == self._lsl.cf_string:
            raise ServeError(f"LSL stream {found.name()!r} carries texts; expected numbers, one channel a coordinate")
        labels = [str(label or "") for label in info.get_channel_labels() or [""] * info.channel_count()]
        if self._labels is None:
            self._labels, self._points = labels, ChannelPoints(labels)
        elif labels != self._labels:
            raise SkeletonError(
                f"LSL stream {found.name()!r} came back with other channels: {', '.join(labels[:8])}; before: "
                f"{', '.join(self._labels[:8])}; start `rtseg source lsl` again"
            )
        self._source_id = str(found.source_id())
        return inlet

    def _check_same_rate(self, found: Any) -> None:
        rate = float(found.nominal_srate())
        if rate > 0 and abs(rate - self.fps) > SAME_RATE * self.fps:
            raise ServeError(
                f"LSL stream {found.name()!r} came back with {rate:g} frames per second; before: {self.fps:g}; start "
                "`rtseg source lsl` again"
            )

    def _rate(self, wanted: float | None, nominal: float) -> float:
        if wanted is None and nominal <= 0:
            raise ServeError("the LSL stream says no rate (it is irregular): name the camera's by --fps")
        if wanted is not None and nominal > 0 and abs(wanted - nominal) > SAME_RATE * nominal:
            raise ServeError(f"--fps {wanted:g}: the LSL stream says {nominal:g} frames per second; leave --fps out")
        return nominal if wanted is None else wanted


def _shown(found: list[Any]) -> str:
    return "; ".join(f"name={i.name()!r} type={i.type()!r} source_id={i.source_id()!r}" for i in found)


def lsl_predicate(name: str, kind: str, source_id: str) -> str:
    """liblsl's predicate for streams with these properties, "" = any. Raises ServeError for quotes, and without any."""
    wanted = {"name": name, "type": kind, "source_id": source_id}
    for what, value in wanted.items():
        if "'" in value or '"' in value:
            raise ServeError(f"{what} of an LSL stream: expected a text without quotes, got {value!r}")
    parts = [f"{what}='{value}'" for what, value in wanted.items() if value]
    if not parts:
        raise ServeError("which LSL stream? name it by --name, --type or --source-id")
    return " and ".join(parts)
