"""Striking an action with faults, point by point, each in a control directory of its own."""

from __future__ import annotations

import random
import re
import shutil
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from faults.actions import ACTIONS, Action, Later, check_tidy
from faults.injection import Call, Fault, Outcome, Subject

#: The share of points that may not be reached, because an action does not do quite the same each time.
MOST_MISSED = 0.05
#: One folder of so many is looked at once more when all is over; the others are removed at once.
TIDIED_OF = 10
#: What a call on a module has at the end of its path.
_MODULE = re.compile(r"\.(py|pyc|so)\"")


@dataclass(frozen=True)
class Point:
    """One fault at one call of an action."""

    kind: type[Action]
    call: Call
    fault: Fault

    def __str__(self) -> str:
        return f"{self.kind.title}: {self.fault} at {self.call.name} {self.call.number}: {self.call.line}"


class Range:
    """A shooting range: a folder for each point, and what came of each. Those of failures stay."""

    def __init__(self, folder: Path, tried: Counter[str], chance: random.Random) -> None:
        self._folder = folder
        self._tried = tried
        self._chance = chance
        self._count = 0
        self._folders: list[Path] = []
        self.failures: list[str] = []
        self.reached = self.missed = 0

    def warm_up(self) -> None:
        """Have everything imported in this process, from which the children are forked."""
        self._run(ACTIONS[0], None)

    def points(self, kind: type[Action]) -> list[Point]:
        """Every point of an action, by doing it once without a fault; which must come to the exact result too."""
        outcome = self._run(kind, None)
        strange = [call.line for call in outcome.calls if _MODULE.search(call.line)]
        assert not strange, f"an import is no part of '{kind.title}': {strange}"
        return [Point(kind, call, fault) for fault in Fault for call in outcome.calls if fault.can_befall(call)]

    def strike(self, point: Point) -> None:
        """Do the action with that fault; what is wrong afterwards is kept in `failures`."""
        try:
            outcome = self._run(point.kind, point)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.failures.append(f"{point}\n    {type(error).__name__}: {error} ({where.name}, line {where.lineno})")
            self._tried[point.fault.value] += 1
            return
        if outcome.was_reached:
            self.reached += 1
            self._tried[point.fault.value] += 1
        else:
            self.missed += 1
            self._tried["not reached"] += 1

    def _run(self, kind: type[Action], point: Point | None) -> Outcome:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        action = kind(folder / "control")
        subject = Subject(action.get_ready, action.act)
        try:
            log = folder / "strace"
            outcome = subject.run(log) if point is None else subject.run(log, point.call, point.fault)
            Later(action, outcome, subject.end, self._chance).judge()
        finally:
            subject.end()
            if action.held is not None:
                action.held.release()
        if self._count % TIDIED_OF:
            shutil.rmtree(folder)
        else:
            self._folders.append(folder)
        return outcome

    def check(self) -> None:
        """Say what went wrong, if anything did, and that nearly all was reached."""
        for folder in self._folders:
            check_tidy(folder / "control")
            shutil.rmtree(folder)
        self._folders.clear()
        text = f"{len(self.failures)} of {self.reached + len(self.failures)} points:\n" + "\n".join(self.failures)
        assert not self.failures, text
        assert self.missed <= MOST_MISSED * (self.reached + self.missed), f"{self.missed} points were not reached"
