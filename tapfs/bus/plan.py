"""The plan: the whole workflow as a tree, written in `workflow.json` at start and added to only by a dynamic step.

A part is a `Step`, a `Sequence` of parts that run one after the other, or a `Group` of members that may run side by
side. A *path* is a part's place in the tree, from 1, padded so that names sort: `0003`, or `0003/0017` for the 17th
member of a group. What a step put in behind itself while it ran is numbered after it: `0003.0001`.

How far a plan has come is in `progress`, what its parts give back in `values`.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from tapfs.bus.fields import Json

#: So many steps of an operation are out at a time, where nothing else is said.
CONCURRENCY = 16
#: What becomes of a group when a member fails: the operation fails, or the others go on.
FAIL, CONTINUE = "fail", "continue"

#: The most characters of a step's name.
LONGEST_NAME = 40
_WIDTH = 4


@dataclass(frozen=True)
class Step:
    """One task of the plan.

    Attributes:
        path: its place, e.g. `0003`.
        name: short name for people and file names, e.g. `tally`.
        task: the name under which Celery knows the task.
        args, kwargs: its own arguments; the result before it comes first unless it is immutable.
        options: Celery's options for sending it (queue, priority, countdown, ...).
        by: the path of the step that put it in; None for what was there from the start.
    """

    path: str
    name: str
    task: str
    args: list[Json] = field(default_factory=list)
    kwargs: dict[str, Json] = field(default_factory=dict)
    immutable: bool = False
    options: dict[str, Json] = field(default_factory=dict)
    by: str | None = None

    @property
    def label(self) -> str:
        """Path and name, as in `steps/` and in `state.json`: `0003-tally`."""
        return f"{self.path}-{self.name}"

    @property
    def checksum(self) -> int:
        """Of what it runs: another task, or other arguments, have another one."""
        what = [self.task, self.args, self.kwargs, self.immutable]
        return zlib.crc32(json.dumps(what, sort_keys=True).encode())


@dataclass(frozen=True)
class Sequence:
    """Parts that run one after the other; each result is the next one's first argument, the last one's its own.

    Attributes:
        parts: at least one.
        path: its place as a member of a group; empty for the whole workflow.
        by: as in `Step`.
    """

    parts: tuple[Part, ...]
    path: str = ""
    by: str | None = None


@dataclass(frozen=True)
class Group:
    """Members that may run side by side; each gets the result before the group, and its result is their list.

    Attributes:
        members: in the order of the results; at least one.
        path: its place.
        concurrency: at most so many members are under way at a time; None for as many as the operation may have out.
        on_error: `fail`: a member that fails makes the operation fail. `continue`: the others go on, and an object that
            tells of the failure stands in its place among the results.
        by: as in `Step`.
    """

    members: tuple[Part, ...]
    path: str = ""
    concurrency: int | None = None
    on_error: str = FAIL
    by: str | None = None


Part = Step | Sequence | Group


@dataclass(frozen=True)
class Plan:
    """A workflow and how it may be held.

    Attributes:
        root: the tree.
        nth: there is a tap before the first and after every nth part of a sequence, or member of a group.
        clause: asked at taps beside the files: a signature or `module:name`; truth means pause.
        callback: told on pausing: a signature or `module:name`.
        max_running_s: seconds after which a running step is given to another worker at its next tap; None for no limit.
        concurrency: at most so many steps are out at a time.
        on_error: for groups that a step puts in and that say nothing themselves.
        is_edited: whether somebody else has written it than tapfs.
    """

    root: Sequence
    nth: int = 1
    clause: Json = None
    callback: Json = None
    max_running_s: float | None = None
    concurrency: int = CONCURRENCY
    on_error: str = FAIL
    is_edited: bool = field(default=False, compare=False)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order of the tree."""
        return tuple(leaves(self.root))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {step.path: place for place, step in enumerate(self.steps)}

    @cached_property
    def homes(self) -> tuple[Sequence | Group, ...]:
        """Everything that holds parts, the root first."""
        return tuple(_homes(self.root))

    @cached_property
    def _held(self) -> dict[int, tuple[Sequence | Group, int]]:
        """For each part but the root, what holds it, and as which one."""
        return {id(part): (home, number) for home in self.homes for number, part in enumerate(parts_of(home))}

    @cached_property
    def put_in(self) -> tuple[Part, ...]:
        """The parts that steps have put in while they ran."""
        return tuple(part for home in self.homes for part in parts_of(home) if part.by is not None)

    @cached_property
    def putters(self) -> frozenset[str]:
        """The paths of the steps that have put something in."""
        return frozenset(part.by for part in self.put_in if part.by is not None)

    @cached_property
    def _parts(self) -> dict[str, Part]:
        """The outermost part at each path."""
        found: dict[str, Part] = {}
        for home in self.homes:
            for part in parts_of(home):
                found.setdefault(part.path, part)
        return found

    def step(self, path: str) -> Step:
        """The step at a path; raises KeyError."""
        return self.steps[self._places[path]]

    def has(self, path: str) -> bool:
        """Say whether there is a step at a path."""
        return path in self._places

    def part(self, path: str) -> Part:
        """The part at a path: a step, a group, or a whole member; raises KeyError."""
        return self._parts[path]

    def has_part(self, path: str) -> bool:
        """Say whether there is a part at a path."""
        return path in self._parts

    def place(self, path: str) -> int:
        """How many steps come before the one at `path`; raises KeyError."""
        return self._places[path]

    def way_to(self, part: Part) -> list[tuple[Sequence | Group, int]]:
        """What holds a part, from the root down to it, each with the number, from 0, of what leads on."""
        way: list[tuple[Sequence | Group, int]] = []
        if isinstance(part, Step):  # it may be of the plan as it was before something was put in
            part = self.step(part.path)
        while part is not self.root:
            home = self._held[id(part)]
            way.append(home)
            part = home[0]
        return way[::-1]

    def before(self, step: Step) -> Part | None:
        """The part whose result a step takes; None where nothing comes before it."""
        for home, number in reversed(self.way_to(step)):
            if isinstance(home, Sequence) and number:
                return home.parts[number - 1]
        return None

    def after(self, part: Part) -> Iterator[Part]:
        """The parts that wait for this one: those behind it, and behind what holds it, and what it put in."""
        for home, number in reversed(self.way_to(part)):
            if isinstance(home, Sequence):
                yield from home.parts[number + 1 :]

    def members_around(self, part: Part) -> Iterator[tuple[Group, Part]]:
        """The groups around a part, the innermost first, each with the member that holds it, or is it."""
        for home, number in reversed(self.way_to(part)):
            if isinstance(home, Group):
                yield home, home.members[number]

    def has_tap_before(self, step: Step) -> bool:
        """Say whether the workflow may stop before that step: it is the first or follows an nth one where it stands.

        The first step of a member, or of a group, stands where the member or the group does.
        """
        for _, number in reversed(self.way_to(step)):
            if number:
                return number % self.nth == 0
        return True


def parts_of(part: Part) -> tuple[Part, ...]:
    """What a part consists of; nothing for a step."""
    if isinstance(part, Step):
        return ()
    return part.parts if isinstance(part, Sequence) else part.members


def leaves(part: Part) -> Iterator[Step]:
    """The steps of a part, in the order of the tree."""
    if isinstance(part, Step):
        yield part
        return
    for one in parts_of(part):
        yield from leaves(one)


def _homes(part: Part) -> Iterator[Sequence | Group]:
    if not isinstance(part, Step):
        yield part
        for one in parts_of(part):
            yield from _homes(one)


def placed(part: Part, path: str, by: str | None = None) -> Part:
    """The same part at a path, and everything in it below that."""
    if isinstance(part, Step):
        return replace(part, path=path, by=by)
    within = placed_in(parts_of(part), path)
    if isinstance(part, Sequence):
        return replace(part, path=path, by=by, parts=within)
    return replace(part, path=path, by=by, members=within)


def placed_in(parts: Iterable[Part], path: str = "") -> tuple[Part, ...]:
    """Parts numbered from 1 below a path."""
    all_parts, below = tuple(parts), f"{path}/" if path else ""
    total = len(all_parts)
    return tuple(placed(part, below + path_of(number, total)) for number, part in enumerate(all_parts, 1))


def path_of(number: int, total: int) -> str:
    """The path of the `number`th of `total` parts, from 1: as wide as the last needs, at least four digits."""
    return str(number).zfill(max(_WIDTH, len(str(total))))


def short_name(task: str) -> str:
    """The last part of a task's name, fit for a file name: `tapfs.tally.check` becomes `check`."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", task.rpartition(".")[2]).strip("-")[:LONGEST_NAME] or "step"
