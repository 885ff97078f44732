"""ELAN's .eaf, as ELAN 6 writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.label_file import Tracks
from rtseg.recordings.open import read_labels
from rtseg.recordings.recording import IGNORE

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/videos/m1.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./m1.mp4"/>
        <PROPERTY NAME="lastUsedAnnotationId">4</PROPERTY>
    </HEADER>
    <TIME_ORDER>
        <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/>
        <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1500"/>
        <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2000"/>
        <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="3010"/>
    </TIME_ORDER>
    <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="résident">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
                <ANNOTATION_VALUE>chase &amp; bite</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts3">
                <ANNOTATION_VALUE>sniff</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="rear">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
                <ANNOTATION_VALUE/>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="intruder"/>
    <TIER LINGUISTIC_TYPE_REF="note" PARENT_REF="rear" TIER_ID="notes">
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a3">
                <ANNOTATION_VALUE>high</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def read(tmp_path: Path, text: str = EAF, encoding: str = "utf-8", name: str = "m1DLC_a.csv") -> Tracks:
    path = tmp_path / "m1.eaf"
    path.write_bytes(text.encode(encoding))
    return read_labels(path, 150, 30, names=(name,))


def bouts(tracks: Tracks, track: str) -> list[tuple[int, int, str]]:
    classes = tracks[track].classes
    return [(b.start, b.stop, classes[b.label]) for b in bouts_of(tracks[track].frames) if b.label >= 0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tiers_are_tracks(tmp_path: Path, encoding: str) -> None:
    tracks = read(tmp_path, EAF.replace("UTF-8", encoding.upper()), encoding)
    assert bouts(tracks, "résident") == [(30, 60, "sniff"), (60, 90, "chase & bite")]
    assert tracks["résident"].classes == ("sniff", "chase & bite")
    assert bouts(tracks, "résident:sniff") == [(30, 60, "sniff")]
    assert bouts(tracks, "rear") == [(45, 60, "rear")]  # no text: the tier says what it is
    assert (tracks["intruder"].frames == IGNORE).all()
    assert "notes" not in tracks
    assert tracks.lists_events
    assert any(
        "of other annotations, without times, are left out (1 annotations)" in w for w in tracks["rear"].warnings
    )
    assert not any("not named like the poses" in w for w in tracks["rear"].warnings)


def test_another_video_is_told(tmp_path: Path) -> None:
    tracks = read(tmp_path, name="m2DLC_a.csv")
    assert any("its media are not named like the poses" in w for w in tracks["rear"].warnings)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"milliseconds"', '"PAL-frames"', "counts time in PAL-frames, expected milliseconds; export tab-delimited"),
        (
            "MIME_TYPE",
            'TIME_ORIGIN="480" MIME_TYPE',
            "m1.mp4' with an offset of 480 ms, so that times are not the video",
        ),
        ('"ts2" TIME_VALUE="1500"', '"ts2"', "tier 'rear', annotation 'a3': its times are not set"),
        ('VALUE="3010"', 'VALUE="1900"', "annotation 'a2': ends at 1900 ms, and starts at 2000 ms"),
        ('VALUE="3010"', 'VALUE="90000"', "a bout ends at frame 2700 and the video has 150"),
        (">sniff<", "><", "annotation 'a1' at 1000 ms has no text, others have"),
        ("</TIER>", "", "is no whole file of ELAN's .mismatched tag"),
        ("<ANNOTATION_DOCUMENT", "<!DOCTYPE a [<!ENTITY b 'c'>]><ANNOTATION_DOCUMENT", "it has a document type, a,"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(RecordingError, match=words):
        read(tmp_path, EAF.replace(old, new))
