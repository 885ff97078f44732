"""How settings check their values."""

from __future__ import annotations

from collections.abc import Mapping

from rtseg.errors import SettingError


def require(holds: bool, otherwise: str) -> None:
    """Raise SettingError with the message `otherwise` unless the condition holds."""
    if not holds:
        raise SettingError(otherwise)


def check_abstain(below: Mapping[str, float]) -> None:
    """Raise SettingError for a threshold that is no probability."""
    for head, threshold in below.items():
        require(0 <= threshold <= 1, f"abstain.{head} is a probability in [0, 1], got {threshold}")
