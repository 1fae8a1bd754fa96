"""The work that is cut: chains of sums, whose exact results anybody can compute again from the arguments."""

from __future__ import annotations

import random
from typing import Any

from tapfs.bus.control import NewOperation
from tapfs.bus.plan import Plan, Sequence, Step, path_of
from tapfs.bus.states import Want

Arguments = dict[str, Any]
Value = dict[str, Any]


def new_operation(chance: random.Random, owner: str) -> NewOperation:
    """An operation of a few steps, each of a few chunks; some values are many pages long, some a few bytes."""
    arguments = {
        "seed": chance.randrange(10**9),
        "steps": chance.randint(1, 4),
        "chunks": chance.randint(1, 8),
        "length": chance.choice((0, 50, 3000, 20_000)),
    }
    total = arguments["steps"]
    steps = tuple(Step(path_of(number, total), "sum", "test.sum") for number in range(1, total + 1))
    want = chance.choice((Want.RUN, Want.RUN, Want.RUN, Want.PAUSE))
    return NewOperation("sum", Plan(Sequence(steps)), arguments, owner=owner, want=want, reason=f"born-{want}")


def first_value() -> Value:
    """What the first step begins with."""
    return {"sum": 0, "chunks": 0, "text": ""}


def advance(arguments: Arguments, step: str, chunk: int, value: Value) -> Value:
    """Add one chunk of one step."""
    total = value["sum"] + random.Random(f"{arguments['seed']}/{step}/{chunk}").randrange(10**6)
    text = str(total) * (arguments["length"] // len(str(total)) + 1)
    return {"sum": total, "chunks": value["chunks"] + 1, "text": text[: arguments["length"]]}


def exact_result(arguments: Arguments, steps: int) -> Value:
    """What the operation's first `steps` steps give."""
    value = first_value()
    for number in range(1, steps + 1):
        for chunk in range(arguments["chunks"]):
            value = advance(arguments, path_of(number, arguments["steps"]), chunk, value)
    return value
