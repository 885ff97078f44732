"""Commands, reports and probabilities through bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtseg.sinks.base import MAX_TEXT_BYTES, LineCommand, ProbabilityRow, SinkReport

INT64 = st.integers(-(2**63), 2**63 - 1)
SHORT = st.text(st.characters(codec="utf-8"), max_size=200)


@given(st.integers(0, 255), INT64, st.integers(0, 65535), INT64, INT64, INT64, SHORT)
def test_a_command_comes_back_from_its_bytes(
    kind: int, event: int, line: int, hold: int, sent: int, seq: int, stream: str
) -> None:
    command = LineCommand(kind, event, line, hold, sent, seq, stream)
    assert LineCommand.unpack(command.pack()) == command


@given(st.integers(0, 255), INT64, st.integers(0, 65535), INT64, SHORT)
def test_a_report_comes_back_from_its_bytes(kind: int, event: int, line: int, t_ns: int, text: str) -> None:
    report = SinkReport(kind, event, line, t_ns, text)
    assert SinkReport.unpack(report.pack()) == report


@given(SHORT, INT64, INT64, st.floats(0, 1000), st.binary(max_size=400))
def test_probabilities_come_back_from_their_bytes(stream: str, seq: int, t_ns: int, fps: float, probs: bytes) -> None:
    row = ProbabilityRow(stream, seq, t_ns, fps, probs)
    assert ProbabilityRow.unpack(row.pack()) == row


def test_long_texts_are_cut() -> None:
    assert len(SinkReport.unpack(SinkReport(1, 1, 0, 0, "ä" * 5000).pack()).text) == MAX_TEXT_BYTES // 2
    assert LineCommand.unpack(LineCommand(1, 1, 0, 0, 0, 0, "é" * 5000).pack()).stream == "é" * (MAX_TEXT_BYTES // 2)
