"""What `tapfs show` tells of an operation beside its document: what runs now, what was given up, which gates wait.

Read without the lock, and each part for itself: where a file is spoilt, that part is left out, and `message` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from tapfs.bus import claims
from tapfs.bus.answering import open_gates
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Group, Part, parts_of
from tapfs.bus.records import LARGE, Failure, Run
from tapfs.bus.rewind import given_up_in
from tapfs.cli import words
from tapfs.errors import TapfsError

#: The most members that are told of, one a line.
MOST_TOLD = 5
#: The most characters of an error.
_LONGEST_ERROR = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Insight:
    """What there is to tell.

    Attributes:
        running: how many steps a living process holds.
        stopping: how many did when the operation was asked to stop; 0 while it is not.
        given_up: lines on the members that were given up.
        gates: the gates that wait, each with a line on how to answer.
        forked: which operation it was forked from, and where; None for none.
    """

    running: int = 0
    stopping: int = 0
    given_up: tuple[str, ...] = ()
    gates: tuple[tuple[str, str], ...] = ()
    forked: str | None = None


def insight_of(operation: Operation) -> Insight:
    """Look into an operation."""
    return Insight(
        running=_or(0, lambda: sum(out.is_held for out in claims.all_out(operation.layout))),
        stopping=_or(0, lambda: Run.read(operation.layout.run).stopping),
        given_up=_or((), lambda: _given_up(operation)),
        gates=_or((), lambda: _gates(operation)),
        forked=_or(None, lambda: _forked(operation)),
    )


def _or(default: T, look: Callable[[], T]) -> T:
    with suppress(TapfsError, OSError):
        return look()
    return default


def _given_up(operation: Operation) -> tuple[str, ...]:
    """Some of the members, each with its error; how many there are, and how to do them again."""
    root = operation.plan().root
    found = given_up_in(operation.layout, root)
    if not found:
        return ()
    told = [_told(operation, member) for member in found[:MOST_TOLD]]
    if len(found) > MOST_TOLD:
        told.append(f"... and {len(found) - MOST_TOLD:,} more: 'tapfs show {operation.id} --steps'")
    first = f"{len(found):,} of {words.counted(_members(root), 'member')}; when it is paused or has ended, "
    return (f"{first}'tapfs retry {operation.id} --step {found[0].path}' does one again", *told)


def _told(operation: Operation, member: Part) -> str:
    failure = Failure.read(operation.layout.given_up(member), LARGE)
    step = f" in step {failure.step}" if failure.step and not failure.step.startswith(f"{member.path}-") else ""
    return f"{member.path}: {words.shortened(f'{failure.type}: {failure.message}', _LONGEST_ERROR)}{step}"


def _members(part: Part) -> int:
    return sum(isinstance(part, Group) + _members(one) for one in parts_of(part))


def _gates(operation: Operation) -> tuple[tuple[str, str], ...]:
    found = open_gates(operation)[:MOST_TOLD]
    return tuple((one.step.label, f"{one.question.question} Answer with: {one.how}") for one in found)


def _forked(operation: Operation) -> str | None:
    origin = operation.identity().forked_from
    return f"from {origin.get('operation')} at {origin.get('step')}" if origin else None
