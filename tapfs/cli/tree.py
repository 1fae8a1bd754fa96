"""The steps of an operation as a tree, each with its state: what `tapfs show --steps` prints.

    0001-read            done
    0002                 group of 10,000: 2,417 done, 8 running, 1 given up, 7,574 not begun
      0002/00001-resize  done
      0002/00002-resize  given up: ValueError: no such image
      ... 9,996 more
      0002/09999-resize  not begun
      0002/10000-resize  not begun
    0003-join            not begun

Of a large group the first and the last members are shown, and of those between them what is not simply done or not
begun, up to some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tapfs.bus import claims, files
from tapfs.bus.answering import open_gates
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Group, Part, Step, leaves, parts_of
from tapfs.bus.records import LARGE, Failure
from tapfs.bus.states import FINAL
from tapfs.cli import words
from tapfs.errors import RecordInvalid

#: Of a part with more parts than both together, so many are shown at each end, and so many others.
ENDS, OTHERS = 3, 10
DONE, RUNNING, OUT, WAITS, GIVEN_UP, FAILED, BEGUN, NOT_BEGUN = (
    "done",
    "running",
    "published",
    "waits for an answer",
    "given up",
    "failed",
    "begun",
    "not begun",
)
_QUIET = (DONE, NOT_BEGUN)
_LONGEST_ERROR = 100


@dataclass(frozen=True)
class _Row:
    depth: int
    name: str
    state: str


def tree_of(operation: Operation) -> list[str]:
    """The lines of the tree.

    Raises:
        FileNotFoundError, RecordInvalid: the plan cannot be read.
    """
    plan = operation.plan()
    rows = list(_rows(_States(operation), plan.root, 0))
    width = max(2 * row.depth + len(row.name) for row in rows)
    return [f"{'  ' * row.depth + row.name:<{width}}  {row.state}".rstrip() for row in rows]


class _States:
    """What each part is doing, as far as it was asked for."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        outs = claims.all_out(operation.layout)
        self._held = {out.path for out in outs if out.is_held}
        self._out = {out.path for out in outs}
        self._gates = {gate.step.path for gate in open_gates(operation)}
        failure = operation.failure() if operation.state in FINAL else None
        self._failed = failure.step if failure is not None else None
        self._known: dict[str, str] = {}

    def of_step(self, step: Step) -> str:
        known = self._known.get(step.path)
        if known is None:
            known = self._known[step.path] = self._of_step(step)
        return known

    def _of_step(self, step: Step) -> str:
        layout = self.operation.layout
        if files.exists(layout.commit(step)):
            return DONE
        if step.path in self._held:
            return RUNNING
        if step.path in self._gates:
            return WAITS
        if step.label == self._failed:
            return FAILED
        if files.exists(layout.checkpoint(step)):
            return BEGUN
        return OUT if step.path in self._out else NOT_BEGUN

    def of(self, part: Part) -> str:
        """Of a part: its step's, or what all of its steps have in common, or that it has begun."""
        if files.exists(self.operation.layout.given_up(part)):
            return GIVEN_UP
        states = [self.of_step(step) for step in leaves(part)]
        for loud in (FAILED, RUNNING, WAITS):
            if loud in states:
                return loud
        return states[0] if len(set(states)) == 1 else BEGUN

    def why(self, part: Part) -> str:
        """Why a part was given up."""
        try:
            failure = Failure.read(self.operation.layout.given_up(part), LARGE)
        except (FileNotFoundError, RecordInvalid):
            return ""
        return f": {words.shortened(f'{failure.type}: {failure.message}', _LONGEST_ERROR)}"


def _rows(states: _States, part: Part, depth: int) -> Iterator[_Row]:
    inner = parts_of(part)
    shown = _shown(states, inner)
    left_out = 0
    for number, one in enumerate(inner):
        if number not in shown:
            left_out += 1
            continue
        if left_out:
            yield _Row(depth, f"... {left_out:,} more", "")
            left_out = 0
        yield from _rows_of_part(states, one, depth)


def _rows_of_part(states: _States, part: Part, depth: int) -> Iterator[_Row]:
    state = states.of(part)
    told = f"{state}{states.why(part)}" if state == GIVEN_UP else state
    if isinstance(part, Step):
        yield _Row(depth, part.label, told)
        return
    if isinstance(part, Group):
        count = Counter(states.of(member) for member in part.members)
        counts = ", ".join(f"{number:,} {name}" for name, number in count.items())
        yield _Row(depth, part.path, f"group of {len(part.members):,}: {counts}")
    else:
        yield _Row(depth, part.path, f"chain of {len(part.parts):,}: {told}")
    yield from _rows(states, part, depth + 1)


def _shown(states: _States, parts: tuple[Part, ...]) -> set[int]:
    """The numbers of the parts that are shown, from 0."""
    total = len(parts)
    if total <= 2 * ENDS + OTHERS:
        return set(range(total))
    ends = {*range(ENDS), *range(total - ENDS, total)}
    others = (number for number in range(ENDS, total - ENDS) if states.of(parts[number]) not in _QUIET)
    return ends | set(islice(others, OTHERS))
