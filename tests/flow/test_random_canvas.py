"""Any canvas, whatever befalls it, gives what the same canvas gives when it is plainly evaluated."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support.bench import Bench
from support.canvas_plain import define_tasks, evaluate, random_canvas
from support.mayhem import Mayhem
from tapfs.bus.fields import Json
from tapfs.bus.plan import Plan, Step
from tapfs.bus.states import State
from tapfs.flow.codec import from_json, to_json
from tapfs.flow.plans import plan_for

#: More by hand: `TAPFS_CANVASES=500 TEST_SEED=7 pytest tests/flow/test_random_canvas.py`.
CANVASES = int(os.environ.get("TAPFS_CANVASES", "24"))
SEED = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody cuts the power here."""
    monkeypatch.setenv("TAPFS_SYNC", "off")


@pytest.mark.parametrize("number", range(CANVASES))
def test_whatever_befalls_a_canvas_its_result_is_that_of_the_plain_one(tmp_path: Path, number: int) -> None:
    seed = SEED + number
    print(f"TEST_SEED={seed} TAPFS_CANVASES=1")
    chance = random.Random(seed)
    app = Celery("canvas", set_as_current=False)
    define_tasks(app)
    plan = plan_for(
        random_canvas(chance, app, depth=4, width=8),
        nth=chance.choice((1, 1, 2, 3)),
        concurrency=chance.choice((1, 2, 4, 16)),
    )

    def work(step: Step, before: list[Json]) -> tuple[Any, tuple[()]]:
        result = app.tasks[step.task](*from_json([*before, *step.args]), **from_json(step.kwargs))
        return to_json(result, step.label), ()

    mayhem = Mayhem(Bench(tmp_path / "control"), plan, work, chance)
    assert mayhem.play() is State.SUCCEEDED, mayhem.operation.view()
    assert mayhem.operation.result == evaluate(plan, app)
    _was_done_once(mayhem, plan)


def _was_done_once(mayhem: Mayhem, plan: Plan) -> None:
    assert set(mayhem.runs.values()) == {1}, mayhem.runs
    assert len(mayhem.runs) == len(plan.steps)
    assert mayhem.operation.view().steps_done == len(plan.steps)
    assert list(mayhem.operation.layout.claims.iterdir()) == []
