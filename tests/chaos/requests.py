"""Pausing, resuming and cancelling by every way there is: commands (some are killed half-way), markers, edits."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.cases import Case
from chaos.fleet import Fleet
from support import Process
from support.editors import EDITORS
from tapfs.bus.records import Run

#: The editors that work in the operation's own folder; the others need programs, which take their time.
_EDITORS = ("in place", "by rename", "vim", "mv", "cp")


@dataclass(frozen=True)
class Edit:
    """An edit of `state.json` that was made; its reason is like no other's."""

    at: float
    operation_id: str
    reason: str


class Requests:
    """Asks for things.

    Attributes:
        commands: those that were started.
        edits: those that were made.
        killed: the process ids of those that were killed half-way.
    """

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self._fleet = fleet
        self._chance = chance
        self.commands: list[Process] = []
        self.edits: list[Edit] = []
        self.killed: set[int] = set()

    def ask(self, case: Case, want: str, way: str) -> bool:
        """Ask for `run`, `pause` or `cancel`, by `command`, `marker` or `edit`; says whether that was done."""
        if way == "command":
            verb = {"run": "resume"}.get(want, want)
            self.commands.append(self._fleet.tapfs(verb, case.operation.id, "--reason", "chaos"))
            return True
        if way == "marker":
            return _mark(case.operation.path, want)
        return self.edit(case, want)

    def edit(self, case: Case, want: str) -> bool:
        """Write a want into `state.json` as a person would; not over a request that nobody has taken in yet."""
        if not is_taken_in(case):
            return False
        view = case.operation.state_file.read().view
        reason = f"edit {len(self.edits)}"
        asked = {"want": want, "reason": reason}
        fields = asked if view is None else json.loads(view.encode()) | asked
        with suppress(OSError):  # the file was swapped away in the middle: this editor saves again, or its person does
            EDITORS[self._chance.choice(_EDITORS)](case.operation.layout.state, json.dumps(fields, indent=2))
            self.edits.append(Edit(time.time(), case.operation.id, reason))
            return True
        return False

    def newest_command(self) -> Process | None:
        """A command that may still run."""
        running = [command for command in self.commands[-3:] if command.is_running]
        return running[-1] if running else None


def is_taken_in(case: Case) -> bool:
    """Whether `state.json` is whole and asks for nothing that `run.json` does not have yet.

    What a person has written over before anybody saw it is gone by that person's hand; here it would be by ours.
    """
    view = case.operation.state_file.read().view
    try:
        run = Run.read(case.operation.layout.run)
    except Exception:  # missing or spoilt: it is being made anew, from state.json too
        return False
    return view is not None and (view.want, view.reason) == (run.want, run.reason)


def _mark(folder: Path, want: str) -> bool:
    if want == "run":
        (folder / "PAUSE").unlink(missing_ok=True)
    else:
        (folder / want.upper()).write_text("chaos")
    return True
