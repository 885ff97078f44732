"""ELAN's .eaf: annotations in tiers, each from one time slot to another, in milliseconds of the video.

It is XML; one with a document type, in which entities could be declared, is refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from rtseg.errors import RecordingError
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.files.text import read_bytes
from rtseg.recordings.labels.boris_events import Event, name_doubts, tracks_of_events
from rtseg.recordings.labels.label_file import NO_LABEL, LabelReader, Tracks, Video, paint

_ROOT = "ANNOTATION_DOCUMENT"
_MILLISECONDS = "milliseconds"
_EXPORT = "export tab-delimited text in ELAN, with column names and times in ss.msec"


class _Builder(ElementTree.TreeBuilder):
    """Elements of a file without a document type."""

    def doctype(self, name: str, *_: object) -> None:
        raise ValueError(f"it has a document type, {name}, which ELAN does not write")


def is_elan(probe: FileProbe) -> bool:
    """Whether the first lines hold the root of such a file."""
    return any(f"<{_ROOT}" in line for line in probe.lines[:20])


def read_elan(path: Path, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video: those of BORIS' events (`boris.read_boris`), with tiers as subjects.

    A tier whose annotations have no text is a behaviour of the tier's name. A tier without annotations has a track
    without any label. Annotations without times of their own, which describe others, are left out with a count. Raises
    RecordingError for times in another unit, for media with an offset, and for annotations whose times are not set.
    """
    root = _root(path)
    header = root.find("HEADER")
    unit = _MILLISECONDS if header is None else header.get("TIME_UNITS", _MILLISECONDS)
    if unit != _MILLISECONDS:
        raise RecordingError(path, f"counts time in {unit}, expected {_MILLISECONDS}; {_EXPORT}")
    slots = {slot.get("TIME_SLOT_ID", ""): slot.get("TIME_VALUE", "") for slot in root.iter("TIME_SLOT")}
    events: list[Event] = []
    for tier in root.iter("TIER"):
        events += _events_of_tier(path, tier, slots, video.fps)
    events.sort(key=lambda event: event.start)  # so that classes come in the order of their first event
    tracks = tracks_of_events(path, events, video, [*_doubts(path, root, video), *_left_out(root)])
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID", "")
        if name not in tracks and tier.find(".//REF_ANNOTATION") is None:
            tracks[name] = paint(path, name, (), (), video)
    return tracks


def _root(path: Path) -> ElementTree.Element:
    try:
        parser = ElementTree.XMLParser(target=_Builder())
        root = ElementTree.parse(io.BytesIO(read_bytes(path)), parser).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise RecordingError(path, f"is no whole file of ELAN's ({error}); save it again in ELAN") from error
    if root.tag != _ROOT:
        raise RecordingError(path, f"expected the element {_ROOT}, got {root.tag[:40]!r}; save it again in ELAN")
    return root


def _events_of_tier(path: Path, tier: ElementTree.Element, slots: dict[str, str], fps: float) -> Iterator[Event]:
    """The tier's annotations that have times, in its order."""
    name = tier.get("TIER_ID", "")
    found = list(tier.iter("ALIGNABLE_ANNOTATION"))
    texts = [" ".join((one.findtext("ANNOTATION_VALUE") or "").split()) for one in found]
    if not any(texts):
        texts = [name] * len(found)
    for one, text in zip(found, texts, strict=True):
        what = f"tier {name!r}, annotation {one.get('ANNOTATION_ID', '')!r}"
        begin, end = (slots.get(one.get(f"TIME_SLOT_REF{i}", ""), "") for i in (1, 2))
        if not begin.isdecimal() or not end.isdecimal():
            raise RecordingError(path, f"{what}: its times are not set; set them in ELAN, or remove it")
        if int(end) <= int(begin):
            raise RecordingError(path, f"{what}: ends at {end} ms, and starts at {begin} ms; correct it in ELAN")
        if text.lower() in NO_LABEL:
            raise RecordingError(path, f"{what} at {begin} ms has no text, others have; write its behaviour there")
        yield Event(name, text, int(begin) * fps / 1000, int(end) * fps / 1000, 0)


def _doubts(path: Path, root: ElementTree.Element, video: Video) -> list[ReadingWarning]:
    """A warning where the media are not named like the poses; RecordingError where one has an offset."""
    media = list(root.iter("MEDIA_DESCRIPTOR"))
    for one in media:
        if one.get("TIME_ORIGIN", "0").strip() not in ("", "0"):
            problem = f"plays {one.get('MEDIA_URL', '')!r} with an offset of {one.get('TIME_ORIGIN')} ms"
            raise RecordingError(path, f"{problem}, so that times are not the video's; {_EXPORT}, with the offset")
    called = [one.get("MEDIA_URL", "") for one in media]
    return name_doubts("its media are not named like the poses", called, "", video, unit="file") if called else []


def _left_out(root: ElementTree.Element) -> list[ReadingWarning]:
    n = sum(1 for _ in root.iter("REF_ANNOTATION"))
    return (
        [ReadingWarning("annotations of other annotations, without times, are left out", n, "annotations")] if n else []
    )


READER = LabelReader("ELAN .eaf", is_elan, read_elan)
