"""A short run of chaos on each broker; `make chaos` is the long one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from chaos.run import Plan, run

SHORT = {"workers": 2, "supervisors": 1, "active": 8, "scale": 0.5, "first_delay_s": 1.0, "has_long_stops": False}


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("broker", "seed"),
    [
        pytest.param("redis", 20261122, marks=pytest.mark.redis),
        ("embedded", 20261123),
        pytest.param(None, None, marks=pytest.mark.redis, id="random"),
    ],
)
def test_nothing_is_lost_and_nothing_done_twice(broker: str | None, seed: int | None, tmp_path: Path) -> None:
    """B63, B72, X06: kills, stops, flushes, doubled messages, edits and vandals cost time and nothing else."""
    chosen = seed or int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**6))
    name = broker or random.Random(chosen).choice(["redis", "embedded"])
    print(f"seed of the random run: TEST_SEED={chosen}, on {name}")
    report = run(Plan(name, chosen, 5.0, every_s=0.15, deadline_s=120.0, **SHORT), tmp_path / "run")
    print("\n".join(report.lines()))
    assert report.is_good, "\n".join(report.lines())
    assert report.kills > 0
