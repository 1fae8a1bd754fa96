"""Any tree of steps, which fail or put in more while they run, comes to the end that it defines, whatever befalls."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from support.bench import Bench
from support.mayhem import Mayhem
from tapfs.bus.fields import Json
from tapfs.bus.plan import CONTINUE, FAIL, Group, Part, Plan, Sequence, Step, placed_in
from tapfs.bus.states import State

#: More by hand: `TAPFS_TREES=500 TEST_SEED=7 pytest tests/bus/test_random_trees.py`.
TREES = int(os.environ.get("TAPFS_TREES", "24"))
SEED = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody cuts the power here."""
    monkeypatch.setenv("TAPFS_SYNC", "off")


@pytest.mark.parametrize("number", range(TREES))
def test_whatever_befalls_a_tree_it_ends_as_it_is_defined(tmp_path: Path, number: int) -> None:
    """Steps that raise in groups that go on without them, steps that put in others behind themselves, both at once."""
    seed = SEED + number
    print(f"TEST_SEED={seed} TAPFS_TREES=1")
    chance = random.Random(seed)
    parts = placed_in([_tree(chance, 3) for _ in range(chance.randint(1, 3))])
    plan = Plan(Sequence(parts), nth=chance.choice((1, 1, 2, 3)), concurrency=chance.choice((1, 2, 4, 16)))
    mayhem = Mayhem(Bench(tmp_path / "control"), plan, _work, chance)
    state = mayhem.play()
    try:
        expected = _value(plan.root, [])
    except _Fails:
        assert state is State.FAILED
        assert mayhem.operation.failure() is not None
    else:
        assert state is State.SUCCEEDED, mayhem.operation.view()
        assert mayhem.operation.result == expected
    assert all(times == 1 for times in mayhem.runs.values()), mayhem.runs


class _Fails(Exception):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step


def _tree(chance: random.Random, depth: int) -> Part:
    kind = chance.choice(("step", "step", "sequence", "group")) if depth else "step"
    if kind == "step":
        does = chance.choices(("give", "fail", "then"), (20, 1, 3))[0]
        return Step("", does, "t", args=[does, chance.randrange(9), 2], immutable=chance.random() < 0.2)
    parts = tuple(_tree(chance, depth - 1) for _ in range(chance.randint(1, 4)))
    if kind == "sequence":
        return Sequence(parts)
    on_error = chance.choice((FAIL, CONTINUE, CONTINUE))
    return Group(parts, concurrency=chance.choice((None, 1, 2, 3)), on_error=on_error)


def _work(step: Step, before: list[Json]) -> tuple[Any, tuple[Part, ...]]:
    does, number, left = step.args
    if does == "fail":
        raise ValueError(f"bad {number}")
    if does == "then":
        return None, _put_in(number, left)
    return [number, *before], ()


def _put_in(number: int, left: int) -> tuple[Part, ...]:
    """What a step puts in: by turns a loop that goes on, a group, a chain that fails."""
    again = "then" if left else "give"
    first = Step("", again, "t", args=[again, number + 1, left - 1], immutable=True)
    last = Step("", "give", "t", args=["give", number, 0])
    members = (first, Step("", "fail", "t", args=["fail", number, 0], immutable=True))
    return ((first,), (first, last), (Group(members, on_error=CONTINUE), last), (first, Sequence((last, first))))[
        number % 4
    ]


def _value(part: Part, before: list[Json]) -> Json:
    """What the definition says."""
    if isinstance(part, Step):
        does, number, left = part.args
        if does == "fail":
            raise _Fails(part)
        if does == "then":
            return _value(Sequence(_put_in(number, left)), [])
        return [number] if part.immutable else [number, *before]
    if isinstance(part, Sequence):
        for one in part.parts:
            before = [_value(one, before)]
        return before[0]
    return [_member_value(part, one, before) for one in part.members]


def _member_value(group: Group, member: Part, before: list[Json]) -> Json:
    try:
        return _value(member, before)
    except _Fails:
        if group.on_error == FAIL:
            raise
        return _GIVEN_UP


class _AnyError:
    """Equals whatever stands in the place of a member that was given up; which step it was depends on the story."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and list(other) == ["error"] and other["error"]["type"] == "ValueError"

    def __hash__(self) -> int:
        return 0


_GIVEN_UP = _AnyError()
