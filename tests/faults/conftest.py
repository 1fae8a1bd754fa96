"""Fixtures for faults at system calls, and the count of points tried, in a line at the end of every run."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.injection import why_not
from faults.range import Range
from support.machine import skip_unless
from tapfs.bus import statefile, verify

MARKER = "faults"
_PROPERTY = "points tried"
#: Points of all tests together, by fault; with `not reached`.
_tried: Counter[str] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long ones where nobody asks for them."""
    if MARKER in str(config.getoption("markexpr")):
        return
    chosen = [item for item in items if item.get_closest_marker(MARKER) is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _tried:
        return
    each = ", ".join(f"{number:,} {fault}" for fault, number in sorted(_tried.items()) if fault != "not reached")
    missed = _tried["not reached"]
    total = sum(_tried.values()) - missed
    terminalreporter.write_line(f"faults at system calls: {total:,} points tried ({each}), {missed:,} more not reached")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what the tests tell, also from other processes (`-n`)."""
    if report.when == "teardown":
        for name, points in report.user_properties:
            if name == _PROPERTY:
                _tried.update(points)


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Where to count points."""
    points: Counter[str] = Counter()
    yield points
    request.node.user_properties.append((_PROPERTY, dict(points)))


@pytest.fixture(autouse=True)
def can_inject() -> None:
    reason = why_not()
    skip_unless(reason is None, str(reason))


@pytest.fixture(autouse=True)
def quick_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for what only time or a power cut could show, so that an action makes the same calls each time.

    That is, in this process, for the disk, and for a second look when all is quiet anyway; and here and in the
    children for displaced files to come to rest.
    """
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    monkeypatch.setattr(verify, "_LOOKS", 1)
    monkeypatch.setattr(statefile, "SETTLE_S", 0.0)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A random number generator whose seed is printed; `TEST_SEED` gives it again."""
    seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed of {request.node.name}: TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def shooting(tmp_path: Path, tried: Counter[str], chance: random.Random) -> Iterator[Range]:
    """A range with everything imported, in a folder of its own."""
    shooting = Range(tmp_path, tried, chance)
    shooting.warm_up()
    yield shooting
    print(f"{shooting.reached} points tried, {shooting.missed} not reached")
