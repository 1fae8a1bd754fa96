"""The plan: the whole workflow as a tree, and which of its steps may run now.

A plan is a `Sequence` of parts, each a `Step` or a `Sequence` again. A step's *path* is its place in the tree, from 1,
padded so that names sort: `0003`, or `0003/0017`. `workflow.json` holds the tree; it is written at start.

The frontier is a pure function of the plan and of which steps are committed. It is followed step by step from a place
known to be done (law 8), so that it costs the same in a chain of ten and of ten thousand.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tapfs.bus import files
from tapfs.bus.fields import Faulty, Field, Json, check_object, parse_object, to_utf8
from tapfs.bus.records import LARGE
from tapfs.errors import RecordInvalid

_WIDTH = 4
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Step:
    """One task of the plan.

    Attributes:
        path: its place, e.g. `0003`.
        name: short name for people and file names, e.g. `tally`.
        task: the name under which Celery knows the task.
        args, kwargs: its own arguments; the result before it comes first unless it is immutable.
        options: Celery's options for sending it (queue, priority, countdown, ...).
    """

    path: str
    name: str
    task: str
    args: list[Json] = field(default_factory=list)
    kwargs: dict[str, Json] = field(default_factory=dict)
    immutable: bool = False
    options: dict[str, Json] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Path and name, as in `steps/` and in `state.json`: `0003-tally`."""
        return f"{self.path}-{self.name}"


@dataclass(frozen=True)
class Sequence:
    """Parts that run one after the other; each result is the next one's first argument."""

    parts: tuple[Step | Sequence, ...]


@dataclass(frozen=True)
class Plan:
    """A workflow and how it may be held.

    Attributes:
        root: the tree.
        nth: there is a tap before the first step and after every nth one.
        clause: asked at taps beside the files: a signature or `module:name`; truth means pause.
        callback: told on pausing: a signature or `module:name`.
        max_running_s: seconds after which a running step is given to another worker at its next tap; None for no limit.
    """

    root: Sequence
    nth: int = 1
    clause: Json = None
    callback: Json = None
    max_running_s: float | None = None

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order in which they run."""
        return tuple(_leaves(self.root))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {step.path: place for place, step in enumerate(self.steps)}

    def step(self, path: str) -> Step:
        """The step at a path; raises KeyError."""
        return self.steps[self._places[path]]

    def has(self, path: str) -> bool:
        """Say whether there is a step at a path."""
        return path in self._places

    def place(self, path: str) -> int:
        """How many steps come before the one at `path`; raises KeyError."""
        return self._places[path]

    def before(self, path: str) -> Step | None:
        """The step whose result the one at `path` takes; None for the first."""
        place = self._places[path]
        return self.steps[place - 1] if place else None

    def frontier(self, is_committed: Callable[[Step], bool], known_done: int = 0) -> tuple[int, tuple[Step, ...]]:
        """Find the steps that may run now.

        Args:
            is_committed: asked of a step, in order, until one is not.
            known_done: so many steps from the first are known to be committed and are not asked for.

        Returns:
            How many steps are committed, and the steps that may run; none when all are done.
        """
        done = known_done
        while done < len(self.steps) and is_committed(self.steps[done]):
            done += 1
        return done, self.steps[done : done + 1]

    def has_tap_before(self, step: Step) -> bool:
        """Say whether the workflow may stop before that step."""
        return self._places[step.path] % self.nth == 0

    def encode(self) -> bytes:
        """Write the plan as it stands in `workflow.json`: one step a line, so that `less` and `grep` work."""
        head = json.dumps(
            {
                "nth": self.nth,
                "clause": self.clause,
                "callback": self.callback,
                "max_running_s": self.max_running_s,
            },
            ensure_ascii=False,
        )
        return to_utf8(head[:-1] + ', "workflow":\n' + _encode_part(self.root) + "}\n")

    @classmethod
    def decode(cls, content: bytes) -> Plan:
        """Read a plan; raises `Faulty` with every fault."""
        values = check_object(parse_object(content), _PLAN)
        root = _decode_part(values["workflow"], "workflow")
        if not isinstance(root, Sequence):
            raise Faulty(["field 'workflow': the outermost part is no sequence"])
        faults = [] if values["nth"] >= 1 else [f"field 'nth': {values['nth']} is no whole number from 1"]
        if values["max_running_s"] is not None and not values["max_running_s"] > 0:
            faults.append("field 'max_running_s' is no time")
        if not any(True for _ in _leaves(root)):
            faults.append("field 'workflow' has no step")
        if faults:
            raise Faulty(faults)
        count = Counter(step.path for step in _leaves(root))
        twice = [path for path, times in count.items() if times > 1]
        if twice:
            raise Faulty([f"field 'workflow': step {path} stands there {count[path]} times" for path in twice])
        return cls(root, values["nth"], values["clause"], values["callback"], values["max_running_s"])


def sequence_of(parts: list[Step | Sequence]) -> Sequence:
    """Build a sequence whose parts have their paths already."""
    return Sequence(tuple(parts))


def path_of(number: int, total: int) -> str:
    """The path of the `number`th of `total` parts, from 1: as wide as the last needs, at least four digits."""
    return str(number).zfill(max(_WIDTH, len(str(total))))


def short_name(task: str) -> str:
    """The last part of a task's name, fit for a file name: `tapfs.tally.check` becomes `check`."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", task.rpartition(".")[2]).strip("-")[:_LONGEST_NAME] or "step"


_PATH = re.compile(r"[0-9]{4,19}(/[0-9]{4,19}){0,20}")
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{_LONGEST_NAME}}}")

_plans: dict[str, tuple[files.Identity, Plan]] = {}
_MOST_PLANS = 32


def read_plan(path: str) -> Plan:
    """Read `workflow.json`, from memory while the file is the same (a plan is read at every step).

    Raises:
        FileNotFoundError: there is none.
        RecordInvalid: it is not a plan.
    """
    import os

    identity = files.identity_of(os.stat(path, follow_symlinks=False))
    known = _plans.get(path)
    if known is not None and known[0] == identity:
        return known[1]
    try:
        plan = Plan.decode(files.read_bytes(path, LARGE))
    except Faulty as error:
        raise RecordInvalid(path, error.faults) from None
    except files.NotAFile as error:
        raise RecordInvalid(path, (str(error.strerror),)) from None
    while len(_plans) >= _MOST_PLANS:
        _plans.pop(next(iter(_plans)), None)
    _plans[path] = (identity, plan)
    return plan


_PLAN = {
    "nth": Field((int,), default=1),
    "clause": Field((str, dict, type(None))),
    "callback": Field((str, dict, type(None))),
    "max_running_s": Field((float, type(None))),
    "workflow": Field((dict,), required=True),
}
_SEQUENCE = {"kind": Field((str,), required=True), "parts": Field((list,), required=True)}
_STEP = {
    "kind": Field((str,), required=True),
    "path": Field((str,), required=True),
    "name": Field((str,), required=True),
    "task": Field((str,), required=True),
    "args": Field((list,), default=[]),
    "kwargs": Field((dict,), default={}),
    "immutable": Field((bool,), default=False),
    "options": Field((dict,), default={}),
}


def _leaves(part: Step | Sequence) -> Iterator[Step]:
    if isinstance(part, Step):
        yield part
        return
    for one in part.parts:
        yield from _leaves(one)


def _encode_part(part: Step | Sequence) -> str:
    if isinstance(part, Sequence):
        inner = ",\n".join(_encode_part(one) for one in part.parts)
        return '{"kind": "sequence", "parts": [\n' + inner + "\n]}"
    return json.dumps({"kind": "step"} | part.__dict__, ensure_ascii=False, allow_nan=False)


def _decode_part(value: Json, where: str) -> Step | Sequence:
    if not isinstance(value, dict):
        raise Faulty([f"field '{where}' is no object"])
    kind = value.get("kind")
    if kind == "sequence":
        parts = check_object(value, _SEQUENCE)["parts"]
        return Sequence(tuple(_decode_part(one, f"{where}.parts[{place}]") for place, one in enumerate(parts)))
    if kind != "step":
        raise Faulty([f"field '{where}.kind': {kind!r} is none of step, sequence"])
    try:
        values = check_object(value, _STEP)
    except Faulty as error:
        raise Faulty([f"{where}: {fault}" for fault in error.faults]) from None
    del values["kind"]
    # Both become parts of file names.
    for name, form in (("path", _PATH), ("name", _NAME)):
        if not form.fullmatch(values[name]):
            raise Faulty([f"field '{where}.{name}': {values[name][:100]!r} is none"])
    return Step(**values)
