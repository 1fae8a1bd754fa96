"""The operations of a chaos run: which are started, what is wished of each, and what it must give."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tapfs.bus.operation import Operation
from tapfs.bus.records import LARGE, Commit
from tapfs.bus.states import State
from tapfs.flow.bus import Bus

ROWS = 1000


class Wish(StrEnum):
    """How an operation is to end."""

    SUCCEED = "succeed"
    CANCEL = "cancel"
    HOLD = "hold"

    @property
    def states(self) -> frozenset[State]:
        """The states that fulfil it: what ended before it could stop has succeeded."""
        asked = {Wish.SUCCEED: State.SUCCEEDED, Wish.CANCEL: State.CANCELLED, Wish.HOLD: State.PAUSED}[self]
        return frozenset({asked, State.SUCCEEDED})


@dataclass
class Case:
    """One operation of the run.

    Attributes:
        operation: as the driver sees it; nothing is written through it.
        kind: the name of the workflow.
        wish: how it is to end.
        is_right: whether a result is the exact one.
        is_asked: whether its cancel or lasting pause was asked for.
    """

    operation: Operation
    kind: str
    wish: Wish
    is_right: Callable[[Any], bool]
    is_asked: bool = False

    @property
    def state(self) -> State | None:
        """What `state.json` says; None where it says nothing valid at the moment. Brings nothing in line."""
        view = self.operation.state_file.read().view
        return State(view.state) if view is not None and view.state is not None else None

    def commits(self) -> dict[str, Commit]:
        """The committed steps by their paths."""
        steps = self.operation.plan().steps
        return {
            step.path: Commit.read(self.operation.layout.commit(step), LARGE)
            for step in steps
            if self.operation.is_committed(step)
        }


def write_people(path: Path, chance: random.Random) -> None:
    """Write the file that is counted."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "gender", "company"])
        for number in range(ROWS):
            company = chance.choice(["Acmesoft", "Weber, Klein", 'The "Blue" Door', "Two\nLines", "美咲商店"])
            writer.writerow([f"Person {number}", chance.choice(["female", "male", ""]), company])


def plain_count(path: Path) -> dict[str, Any]:
    """Count with a plain loop: what every fold must give exactly."""
    found: dict[str, Any] = {"company": {}, "gender": {}}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            for by, of in (("company", "gender"), ("gender", "company")):
                group = found[by].setdefault(row[by], {})
                group[row[of]] = group.get(row[of], 0) + 1
    return {**found, "rows": {"company": ROWS, "gender": ROWS}}


def start_case(bus: Bus, people: Path, chance: random.Random, scale: float) -> Case:
    """Start an operation of a random kind, with a random wish.

    Args:
        bus: where.
        people: the file to count.
        chance: decides.
        scale: 1 for operations of some seconds, less for shorter ones.
    """
    kinds = ["fold", "fold", "relay", "effects", "effects", "flaky", "later", "fan", "fan", "onward"]
    kind = chance.choice(kinds + ["blind"] * (scale >= 1))
    usual = {"relay": 30, "effects": 5, "flaky": 3, "later": 3, "onward": 8}
    steps = max(2, round(usual.get(kind, 0) * scale))
    wish = chance.choices(list(Wish), weights=(8, 1, 1))[0]
    if kind == "fold":
        operation, expected = bus.start(kind, path=people, pace_s=0.05 * scale), plain_count(people)
        return Case(operation, kind, wish, lambda result: bool(result == expected))
    if kind == "fan":
        chain_of = list(range(1, 5))
        return Case(bus.start(kind), kind, wish, lambda result: [_numbers(one) for one in result] == [chain_of] * 6)
    if kind == "blind":
        steps, operation = 3, bus.start(kind)
    else:
        operation = bus.start(kind, steps=steps)
    return Case(operation, kind, wish, lambda result: _numbers(result) == list(range(1, steps + 1)))


def _numbers(legs: list[Any]) -> list[int]:
    return [number for number, _ in legs]
