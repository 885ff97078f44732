"""Plans in which every action fits its behaviour."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.simulate.behaviour import AGGRESSIVE, ATTACK, CALM, INVESTIGATION, MOUNT, OTHER
from rtseg.simulate.plan import RESIDENT, Action, Plan, draw_plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    return draw_plan(np.random.default_rng(2), 24_000, CALM, AGGRESSIVE)


def test_every_action_belongs_to_its_behaviour(plan: Plan) -> None:
    allowed = {
        ATTACK: {Action.ATTACK},
        INVESTIGATION: {Action.SNIFF_FACE, Action.SNIFF_BODY, Action.SNIFF_REAR, Action.FOLLOW},
        MOUNT: {Action.MOUNT_ATTEMPT, Action.MOUNT, Action.INTROMISSION},
    }
    contact = {a for actions in allowed.values() for a in actions} - {Action.FOLLOW}
    for label, actions in allowed.items():
        assert set(plan.action[plan.behaviour == label, RESIDENT].tolist()) <= actions
    assert not set(plan.action[plan.behaviour == OTHER, RESIDENT].tolist()) & contact


def test_a_style_counts_down_to_the_end_of_its_action(plan: Plan) -> None:
    left = plan.style[:, RESIDENT, 2]
    changes = np.flatnonzero(np.diff(plan.action[:, RESIDENT]))
    assert (left[changes] == 1).all()
    assert left.min() == 1
