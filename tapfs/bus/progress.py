"""How far a plan has come: which of its steps may run now.

A pure function of the plan and of what is in `steps/`, followed from what is known to be done (law 8): each look asks
for the steps that are open, a few, and goes on from those that were committed meanwhile. So a step costs the same in a
chain of ten and in a group of ten thousand. What was seen is forgotten with the epoch, with a change of the plan, and
where the last thing seen is not there any more; then one listing of `steps/` tells everything again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from tapfs.bus import files
from tapfs.bus.layout import OperationLayout
from tapfs.bus.plan import Group, Part, Plan, Sequence, Step, leaves


@dataclass(frozen=True)
class Standing:
    """How far a plan has come.

    Attributes:
        done: how many steps are committed.
        given_up: the paths of members that were given up.
        open: the steps that may run now, or run, in the order of the plan; of a group as many as may be under way.
        is_complete: whether nothing is left to do.
    """

    done: int
    given_up: tuple[str, ...]
    open: tuple[Step, ...]
    is_complete: bool


class Progress:
    """What one object has seen of an operation's steps.

    Args:
        plan: the plan.
        layout: where the steps' commits are.
    """

    def __init__(self, plan: Plan, layout: OperationLayout) -> None:
        self.plan = plan
        self._seen = _Seen(plan, layout)
        self._root = _SequenceNode(plan.root)

    def look(self) -> Standing:
        """See how far the plan has come."""
        if not self._seen.is_still_there():
            self._root = _SequenceNode(self.plan.root)
            self._seen.begin_anew()
        self._root.look(self._seen)
        self._seen.listed = frozenset()  # from here on each step is asked for by itself
        given_up = tuple(sorted(self._root.given_up()))
        return Standing(self._root.done(), given_up, tuple(self._root.open()), self._root.is_over)

    def may_stop_before(self, step: Step) -> bool:
        """Say whether the workflow may stop before a step: there is a tap, or what it would go with has not begun.

        Between two taps all goes on. In a group that is the member behind the last tap and those up to the next one,
        of which none begins before that first one.
        """
        for home, number in reversed(self.plan.way_to(step)):
            if number % self.plan.nth:
                leader = home.members[number - number % self.plan.nth] if isinstance(home, Group) else None
                return leader is not None and not self._seen.has_begun(leader)
            if number:
                return True
        return True

    def is_open(self, step: Step) -> bool:
        """Say whether everything before a step is done, and the step is not; call `look` before."""
        node: _Node | None = self._root
        for _, number in self.plan.way_to(step):
            node = None if node is None else node.at(number, self._seen)
        return node is not None and not node.is_over


class _Seen:
    """What is in `steps/`, as far as it was asked for."""

    def __init__(self, plan: Plan, layout: OperationLayout) -> None:
        self.plan = plan
        self._layout = layout
        self._last: Step | None = None
        self.listed: frozenset[str] = frozenset()
        self.begin_anew()

    def begin_anew(self) -> None:
        self._last = None
        self.listed = frozenset(_names_below(str(self._layout.steps)))

    def is_still_there(self) -> bool:
        return self._last is None or files.exists(self._layout.commit(self._last))

    def is_done(self, step: Step) -> bool:
        if f"{step.label}.json" in self.listed or files.exists(self._layout.commit(step)):
            self._last = step
            return True
        return False

    def is_given_up(self, member: Part) -> bool:
        return files.exists(self._layout.given_up(member))

    def has_begun(self, member: Part) -> bool:
        first = next(leaves(member))
        names = (self._layout.commit(first), self._layout.claim(first.path), self._layout.given_up(member))
        return any(files.exists(name) for name in names)

    def is_there(self, group: Group, member: Part) -> bool | None:
        """Whether a member that a step added counts; None while that step may still be done again."""
        if member.by is None:
            return True
        adder = self.plan.step(member.by)
        if files.exists(self._layout.commit(adder)):
            return True
        around = (one for home, one in self.plan.members_around(adder) if home is group)
        return False if any(self.is_given_up(one) for one in around) else None


class _StepNode:
    def __init__(self, step: Step) -> None:
        self._step = step
        self.is_over = False

    def look(self, seen: _Seen) -> None:
        self.is_over = self.is_over or seen.is_done(self._step)

    def done(self) -> int:
        return int(self.is_over)

    def given_up(self) -> Iterator[str]:
        return iter(())

    def open(self) -> Iterator[Step]:
        if not self.is_over:
            yield self._step

    def at(self, number: int, seen: _Seen) -> _Node | None:
        return None


class _SequenceNode:
    def __init__(self, sequence: Sequence) -> None:
        self._parts = sequence.parts
        self._at = 0
        self._now: _Node = _node_of(self._parts[0])
        self._done = 0
        self._given_up: list[str] = []
        self.is_over = False

    def look(self, seen: _Seen) -> None:
        while not self.is_over:
            self._now.look(seen)
            if not self._now.is_over:
                return
            if self._at + 1 == len(self._parts):
                self.is_over = True
                return
            self._done += self._now.done()
            self._given_up += self._now.given_up()
            self._at += 1
            self._now = _node_of(self._parts[self._at])

    def done(self) -> int:
        return self._done + self._now.done()

    def given_up(self) -> Iterator[str]:
        yield from self._given_up
        yield from self._now.given_up()

    def open(self) -> Iterator[Step]:
        return self._now.open()

    def at(self, number: int, seen: _Seen) -> _Node | None:
        return self._now if number == self._at else None


class _GroupNode:
    def __init__(self, group: Group) -> None:
        self._group = group
        self._under_way: dict[int, _Node] = {}
        self._waiting: set[int] = set()
        self._next = 0
        self._done = 0
        self._given_up: list[str] = []
        self.is_over = False

    def look(self, seen: _Seen) -> None:
        members = self._group.members
        limit = self._group.concurrency or seen.plan.concurrency
        for number, node in list(self._under_way.items()):
            if self._has_ended(number, node, seen):
                del self._under_way[number]
        while self._next < len(members) and len(self._under_way) < limit:
            node = _node_of(members[self._next])
            if not self._has_ended(self._next, node, seen):
                self._under_way[self._next] = node
            self._next += 1
        self.is_over = not self._under_way and self._next == len(members)

    def _has_ended(self, number: int, node: _Node, seen: _Seen) -> bool:
        member = self._group.members[number]
        is_there = seen.is_there(self._group, member)
        self._waiting.discard(number)
        if is_there is None:
            self._waiting.add(number)
        if is_there:
            node.look(seen)
            if node.is_over or seen.is_given_up(member):
                self._done += node.done()
                self._given_up += node.given_up() if node.is_over else [member.path]
                return True
        return is_there is False

    def done(self) -> int:
        return self._done + sum(node.done() for node in self._under_way.values())

    def given_up(self) -> Iterator[str]:
        yield from self._given_up
        for node in self._under_way.values():
            yield from node.given_up()

    def open(self) -> Iterator[Step]:
        for number, node in self._under_way.items():
            if number not in self._waiting:
                yield from node.open()

    def at(self, number: int, seen: _Seen) -> _Node | None:
        """The member's node; also of one that is not its turn yet, where a smaller limit came after it was put out."""
        if number < self._next:
            return None if number in self._waiting else self._under_way.get(number)
        member = self._group.members[number]
        node = _node_of(member)
        node.look(seen)
        is_open = seen.is_there(self._group, member) and not node.is_over and not seen.is_given_up(member)
        return node if is_open else None


_Node = _StepNode | _SequenceNode | _GroupNode


def _node_of(part: Part) -> _Node:
    if isinstance(part, Step):
        return _StepNode(part)
    return _SequenceNode(part) if isinstance(part, Sequence) else _GroupNode(part)


def _names_below(folder: str) -> Iterator[str]:
    """The paths of all files below a folder, from there."""
    for base, _, names in os.walk(folder):
        within = os.path.relpath(base, folder)
        for name in names:
            yield name if within == "." else f"{within}/{name}"
