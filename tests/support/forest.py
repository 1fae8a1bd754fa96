"""Workflows with groups in them, and a worker that does whatever is published, without Celery."""

import json
import random
from collections.abc import Callable, Collection
from typing import Any

from support.bench import Bench
from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.control import NewOperation
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, FAIL, Group, Part, Plan, Sequence, Step, placed_in
from tapfs.bus.records import Failure
from tapfs.bus.steps import commit_step, fail_step
from tapfs.bus.values import value_of


def task(name: str = "one", **options: Any) -> Step:
    return Step("", name, f"test.{name}", **options)


def chain(*names: str) -> Sequence:
    return Sequence(tuple(task(name) for name in names))


def group(*members: Part, **options: Any) -> Group:
    return Group(members, **options)


def plan(*parts: Part, **options: Any) -> Plan:
    """A plan of these parts, one after the other."""
    return Plan(Sequence(placed_in(parts)), **options)


def start(bench: Bench, *parts: Part, **options: Any) -> Operation:
    """Start a workflow of these parts."""
    return bench.control.start(NewOperation("tree", plan(*parts, **options), {}))


def random_part(dice: random.Random, depth: int) -> Part:
    """A step, a chain or a group, at most so deep."""
    kind = dice.choice(["step", "step", "chain", "group"]) if depth else "step"
    if kind == "step":
        return task(dice.choice("abcdef"))
    inner = tuple(random_part(dice, depth - 1) for _ in range(dice.randint(1, 3)))
    return Sequence(inner) if kind == "chain" else group(*inner, on_error=dice.choice([FAIL, CONTINUE]))


def result_of(operation: Operation, step: Step) -> str:
    """What a step makes of what comes before it: its name and that; so what is lost, doubled or stale shows."""
    before = operation.plan().before(step)
    return f"{step.name}({json.dumps(value_of(operation, before)) if before is not None else ''})"


class Worker:
    """Does what is published for an operation, the oldest first.

    Args:
        bench: where it is published.
        operation: the operation.
        result: makes a step's result.

    Attributes:
        ran: the paths of the steps it has done, in order.
        failing: the paths of those that raise.
        puts_in: what a step puts in behind itself, by its path; members: what it adds to its group.
    """

    def __init__(
        self, bench: Bench, operation: Operation, result: Callable[[Operation, Step], Any] = result_of
    ) -> None:
        self.bench = bench
        self.operation = operation
        self.result = result
        self.ran: list[str] = []
        self.failing: set[str] = set()
        self.puts_in: dict[str, tuple[Part, ...]] = {}
        self.members: dict[str, tuple[Part, ...]] = {}
        self._at = 0

    def run(self, until: Collection[str] = ()) -> list[str]:
        """Do all that can be done, or up to one of these steps, which is left; returns the paths of what was done."""
        before = len(self.ran)
        while self._at < len(self.bench.published):
            message = self.bench.published[self._at]
            if message.operation_id == self.operation.id and message.step.path in until:
                break
            self._at += 1
            if message.operation_id == self.operation.id:
                self._follow(message.step.path, message.epoch, message.attempt)
        return self.ran[before:]

    def finish(self) -> list[str]:
        """Do all, also what is published again after a while; returns the paths of what was done."""
        before = len(self.ran)
        for _ in range(20):
            self.run()
            if self.operation.ready():
                return self.ran[before:]
            self.bench.now += 600.0
            self.operation.reconcile()
        raise AssertionError(f"it is still {self.operation.state}: {self.operation.view().message}")

    def _follow(self, path: str, epoch: int, attempt: int) -> None:
        held = claim_step(self.operation, path, epoch, attempt, "worker@test")
        if isinstance(held, HeldClaim):
            self.ran.append(path)
            self.end(held)

    def end(self, held: HeldClaim) -> None:
        """Do a step that is claimed."""
        path, now = held.step.path, timestamp(self.bench.now)
        if path in self.failing:
            failure = Failure(type="ValueError", message="no paper", step=held.step.label, epoch=held.claim.epoch)
            fail_step(self.operation, held, failure)
            return
        result = self.result(self.operation, held.step)
        then, members = self.puts_in.get(path, ()), self.members.get(path, ())
        commit_step(self.operation, held, result, now, then=then, members=members)


def without(folder: dict[str, bytes | None], *names: str) -> dict[str, bytes | None]:
    """A snapshot without what begins with these names."""
    return {name: content for name, content in folder.items() if not name.startswith(names)}
