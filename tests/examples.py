"""How many examples a property test draws: few in every run, RTSEG_EXAMPLES times as many in a long one."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("RTSEG_EXAMPLES", "1"))


def examples(number: int) -> settings:
    """Settings of a property test. Nothing in them depends on the machine's speed."""
    return settings(max_examples=number * FACTOR, deadline=None, suppress_health_check=[HealthCheck.too_slow])
