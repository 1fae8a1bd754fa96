"""Whatever call an action dies at, or has fail, the operation goes on to the exact result.

`pytest -m faults` strikes every call of every action with every fault; without it a sample is struck.
"""

from __future__ import annotations

import random

import pytest

from faults.actions import ACTIONS, Action
from faults.injection import Fault
from faults.range import Range

#: How many points a run without `-m faults` tries.
SAMPLE = 60


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value.replace(" ", "-"))
@pytest.mark.parametrize("kind", ACTIONS, ids=lambda kind: kind.title.replace(" ", "-"))
def test_a_fault_at_any_call_costs_time_and_nothing_else(kind: type[Action], fault: Fault, shooting: Range) -> None:
    for point in shooting.points(kind):
        if point.fault is fault:
            shooting.strike(point)
    shooting.check()


def test_a_fault_at_some_calls_costs_time_and_nothing_else(shooting: Range, chance: random.Random) -> None:
    points = [point for kind in ACTIONS for point in shooting.points(kind)]
    for point in chance.sample(points, SAMPLE):
        shooting.strike(point)
    shooting.check()
